"""The list of customers: all, or those of a segment; and how to find one by an id."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import profiles_pb2
from rapport.segmentation.v1 import segmentation_pb2
from starlette.responses import RedirectResponse, Response

from chassis.errors import Error
from services.gateway.clients import Services
from services.gateway.console.asking import ask_all
from services.gateway.console.pages import View, Visit
from services.gateway.wire import SLUG, UUID, moment_of, plain

PAGE_SIZE: Final = 25
MOST_ID_CHARACTERS: Final = 256
# What is shown of each customer, and in this order.
COLUMNS: Final = ("orders_count", "revenue_total", "days_since_last_order")
_uuid: Final = re.compile(UUID)
_slug: Final = re.compile(SLUG)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which customers. A segment is a key, empty for all."""

    segment: str
    only_identified: bool
    cursor: str

    @classmethod
    def of(cls, visit: Visit) -> "Choice":
        """As the address says; what is no segment's key counts as none."""
        segment = visit.asked("segment")
        return cls(segment if _slug.match(segment) else "", visit.asked("identified") == "1", visit.asked("next"))

    def query(self, cursor: str) -> str:
        """The same choice, from `cursor` on."""
        named = {"segment": self.segment, "identified": "1" if self.only_identified else "", "next": cursor}
        return urlencode({name: value for name, value in named.items() if value})


@dataclass(frozen=True, slots=True)
class Row:
    """One customer. `when` is the last event, or, in a segment, since when. `figures` are in the order of COLUMNS."""

    profile_id: str
    when: datetime | None
    identified: bool | None
    figures: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of rows. Counts are None in a segment: the segment's own says how many."""

    rows: Sequence[Row]
    more: str
    total: int | None = None
    identified: int | None = None


async def show(visit: Visit) -> View:
    """The page."""
    choice = Choice.of(visit)
    blocks = await ask_all(visit, listing=_listing(visit.services, choice), segments=_segments(visit.services))
    return View("customers.html", {**blocks, "choice": choice, "columns": COLUMNS, "sought": "", "trouble": ""})


async def show_rows(visit: Visit) -> View:
    """Only more rows, for the end of the table."""
    choice = Choice.of(visit)
    return View("customers_rows.html", {"listing": await _listing(visit.services, choice), "choice": choice})


async def find(visit: Visit) -> View | Response:
    """To the customer of an id. The id comes in a form, not in the address: it may be somebody's address."""
    sought = (await visit.form()).get("id", "").strip()
    profile_id = await _profile_id(visit.services, sought) if sought else ""
    if profile_id:
        there = f"/console/customers/{quote(profile_id)}"
        return Response(headers={"hx-redirect": there}) if visit.wants_part else RedirectResponse(there, 303)
    trouble = visit.words("customers.found_nobody" if sought else "customers.nothing_sought")
    if visit.wants_part:
        return View("note_part.html", {"sentence": trouble})
    blocks = await ask_all(visit, listing=_listing(visit.services, Choice("", False, "")), segments=_segments(visit.services))
    values = {**blocks, "choice": Choice("", False, ""), "columns": COLUMNS, "sought": sought, "trouble": trouble}
    return View("customers.html", values)


async def _profile_id(services: Services, sought: str) -> str:
    """By profile id, reference, user id or anonymous id, in this order; empty where nobody is known."""
    if len(sought) > MOST_ID_CHARACTERS or "\x00" in sought:
        return ""
    refs = [f"user_id:{sought}", f"anonymous_id:{sought}"]
    if _uuid.match(sought) or sought.startswith(("user_id:", "anonymous_id:")):
        refs.insert(0, sought)
    return next((each for each in await services.resolve(refs) if each), "")


async def _segments(services: Services) -> Sequence[dict[str, Any]]:
    answer = await services.segmentation.ListSegments(segmentation_pb2.ListSegmentsRequest())
    return [plain(segment) for segment in answer.segments]


async def _listing(services: Services, choice: Choice) -> Listing:
    if choice.segment:
        return await _members(services, choice)
    request = profiles_pb2.ListProfilesRequest(
        page_size=PAGE_SIZE, page_token=choice.cursor, identified_only=choice.only_identified
    )
    answer = await services.profiles.ListProfiles(request)
    figures = await _figures(services, [each.profile_id for each in answer.profiles])
    rows = [
        Row(each.profile_id, moment_of(each, "last_seen"), each.identified, figures.get(each.profile_id, _NOTHING))
        for each in answer.profiles
    ]
    return Listing(rows, answer.next_page_token, answer.total_count, answer.identified_count)


async def _members(services: Services, choice: Choice) -> Listing:
    request = segmentation_pb2.ListMembersRequest(key=choice.segment, page_size=PAGE_SIZE, page_token=choice.cursor)
    answer = await services.segmentation.ListMembers(request)
    figures = await _figures(services, [each.profile_id for each in answer.members])
    rows = [
        Row(each.profile_id, moment_of(each, "since"), None, figures.get(each.profile_id, _NOTHING)) for each in answer.members
    ]
    return Listing(rows, answer.next_page_token)


_NOTHING: Final[Sequence[float | None]] = (None,) * len(COLUMNS)


async def _figures(services: Services, profile_ids: Sequence[str]) -> Mapping[str, Sequence[float | None]]:
    """Some features of each, in one call. The list stays where they cannot be had, with dashes."""
    if not profile_ids:
        return {}
    try:
        answer = await services.profiles.ComputeFeatures(
            profiles_pb2.ComputeFeaturesRequest(refs=profile_ids, features=COLUMNS)
        )
    except Error:
        return {}
    return {row.ref: [_number(cell) for cell in row.values] for row in answer.rows}


def _number(cell: features_pb2.FeatureValue) -> float | None:
    kind = cell.WhichOneof("value")
    return None if kind in (None, "text") else float(getattr(cell, str(kind)))
