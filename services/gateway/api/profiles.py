"""Profiles: who somebody is, and what became known of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field
from rapport.profiles.v1 import profiles_pb2
from rapport.segmentation.v1 import segmentation_pb2
from starlette.responses import Response

from services.gateway.api.admission import HotRoute, needs, router
from services.gateway.api.bound import People
from services.gateway.api.document import in_path
from services.gateway.api.serving import SeesPersonal, Services, ref_of
from services.gateway.domain import Scope
from services.gateway.gathering import Reads
from services.gateway.masking import HIDDEN
from services.gateway.wire import Answer, At, Cursor, Limit, Page, PathRef, PeoplePage, Ref, set_moment

hot = router("Profiles", HotRoute)
routes = router("Profiles")


class Identity(Answer):
    """An id of the person. `nodeId` stands for it: the id itself is personal."""

    namespace: Literal["user_id", "anonymous_id", "email", "phone", "device_id", "external_id"]
    node_id: str
    since: datetime | None = Field(description="From when it belongs to this profile; null: from the beginning.")


class Profile(Answer):
    """One customer. `traits` holds the public ones."""

    profile_id: str
    first_seen: datetime | None
    last_seen: datetime | None
    event_count: int
    identified: bool = Field(description="False: only anonymous ids are known.")
    traits: dict[str, Any]
    identities: list[Identity]


class ProfilePage(PeoplePage[Profile]):
    """One page of profiles, with how many there are in all."""

    total_count: int
    identified_count: int


class PortraitEntry(Answer):
    """One thing that is known."""

    name: str
    value: str
    unit: str
    origin: str = Field(description='"trait", "feature", or an event\'s name.')
    personal: bool = Field(description="Only for callers with the scope `personal`.")
    sensitive: bool = Field(description="Its value is in the export only, which is written into the audit log.")


class PortraitBlock(Answer):
    """A side of the customer. A block that knows nothing says so."""

    name: str = Field(examples=["consumption"])
    empty: bool
    entries: list[PortraitEntry]


class Portrait(Answer):
    """Five blocks: basic, consumption, behaviour, psychology, social."""

    profile_id: str
    at: datetime | None
    blocks: list[PortraitBlock]


class Event(Answer):
    """One event of a timeline, its public part."""

    event_id: str
    type: str
    name: str
    timestamp: datetime | None
    received: datetime | None
    properties: dict[str, Any]
    source: str


class Membership(Answer):
    """A segment that the profile is in."""

    key: str
    name: str
    family: str
    since: datetime | None


class Memberships(Answer):
    """All of a profile's segments."""

    data: list[Membership]
    withheld_count: int = Field(description="Segments that are for something which the customer does not allow.")


@routes.get("/v1/profiles")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_profiles(
    services: Services,
    limit: Limit = 100,
    cursor: Cursor = "",
    identified: Annotated[bool, Query(description="Only profiles with a user id.")] = False,
) -> ProfilePage:
    """All customers, a page at a time."""
    request = profiles_pb2.ListProfilesRequest(page_size=limit, page_token=cursor, identified_only=identified)
    answer = await services.profiles.ListProfiles(request)
    return ProfilePage.of_items(
        [Profile.of(each) for each in answer.profiles],
        answer.next_page_token,
        total_count=answer.total_count,
        identified_count=answer.identified_count,
    )


@hot.get("/v1/profiles/{ref}", responses={200: {"model": Profile}}, openapi_extra=in_path("ref", Ref))
@needs(Scope.READ)
async def get_profile(request: Request) -> Response:
    """One customer."""
    reads: Reads = request.app.state.reads
    return Response(
        Profile.of(await reads.profile(ref_of(request))).model_dump_json(by_alias=True), media_type="application/json"
    )


@routes.get("/v1/profiles/{ref}/portrait")
@needs(Scope.READ)
async def get_portrait(services: Services, sees_personal: SeesPersonal, ref: PathRef, at: At = None) -> Portrait:
    """What is known of one customer, in five blocks. Personal entries only for callers with the scope `personal`."""
    request = profiles_pb2.GetPortraitRequest(ref=ref)
    set_moment(request, "at", at)
    portrait = Portrait.of(await services.profiles.GetPortrait(request))
    return _as_seen(portrait, sees_personal=sees_personal)


def _as_seen(portrait: Portrait, *, sees_personal: bool) -> Portrait:
    """`empty` stays as it is: it says what is known, not what this caller may see."""
    for block in portrait.blocks:
        block.entries = [_masked(entry) for entry in block.entries if sees_personal or not entry.personal]
    return portrait


def _masked(entry: PortraitEntry) -> PortraitEntry:
    return entry.model_copy(update={"value": HIDDEN}) if entry.sensitive else entry


@routes.get("/v1/profiles/{ref}/events")
@needs(Scope.READ)
async def list_events(services: Services, ref: PathRef, limit: Limit = 100, cursor: Cursor = "") -> Page[Event]:
    """A customer's timeline, newest first."""
    request = profiles_pb2.ListEventsRequest(ref=ref, page_size=limit, page_token=cursor)
    answer = await services.profiles.ListEvents(request)
    return Page[Event].of_items([Event.of(each) for each in answer.events], answer.next_page_token)


@routes.get("/v1/profiles/{ref}/segments")
@needs(Scope.READ)
async def list_memberships(services: Services, ref: PathRef) -> Memberships:
    """The segments that a customer is in."""
    profile_id = await services.profile_id_of(ref)
    answer = await services.segmentation.ListMemberships(segmentation_pb2.ListMembershipsRequest(profile_id=profile_id))
    return Memberships(data=[Membership.of(each) for each in answer.memberships], withheld_count=answer.withheld_count)
