"""One customer: what is known, what is likely, what to do. Each block is asked of one service, all at once."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rapport.profiles.v1 import consents_pb2, profiles_pb2
from rapport.recommendation.v1 import recommendation_pb2
from rapport.scoring.v1 import scoring_pb2
from rapport.segmentation.v1 import segmentation_pb2
from starlette.responses import RedirectResponse, Response

from chassis.errors import Denied, NotFound
from services.gateway.audit import AuditStore
from services.gateway.clients import Services, unknown_profile
from services.gateway.console import timeline
from services.gateway.console.asking import Block, ask, ask_all
from services.gateway.console.overview import MODEL
from services.gateway.console.pages import View, Visit
from services.gateway.domain import Scope, require
from services.gateway.masking import HIDDEN, masked
from services.gateway.wire import REF, SLUG, moment_of, plain, with_slashes

EVENTS_SHOWN: Final = 12
ITEMS_SHOWN: Final = 8
_ref: Final = re.compile(REF)
_slug: Final = re.compile(SLUG)

Fields = dict[str, Any]


async def show(visit: Visit, portrait: Block[Fields] | None = None) -> View:
    """The page. Raises NotFound where nobody is known by the reference. `portrait`: where it is known already."""
    services = visit.services
    profile_id = await _profile_id(visit)
    blocks = await ask_all(
        visit,
        profile=_profile(services, profile_id),
        portrait=_portrait(visit, profile_id),
        events=_events(visit, profile_id, visit.asked("next")),
        score=_latest_score(services, profile_id),
        memberships=_memberships(services, profile_id),
        consents=_consents(services, profile_id),
        items=_items(visit, profile_id),
        actions=_actions(visit, profile_id),
    )
    if portrait is not None:
        blocks["portrait"] = portrait
    return View("customer.html", {**blocks, "profile_id": profile_id})


async def show_events(visit: Visit) -> View:
    """Older events, for the end of the timeline."""
    profile_id = await _profile_id(visit)
    events = Block(await _events(visit, profile_id, visit.asked("next")))
    return View("customer/events.html", {"events": events, "profile_id": profile_id})


async def reveal(visit: Visit) -> View:
    """The portrait with what is sensitive in the clear. That somebody saw it is written down first."""
    profile_id = await _profile_id(visit)
    audit: AuditStore = visit.request.app.state.audit
    async with audit.around("RevealSensitive", f"/console/customers/{profile_id}/reveal") as ending:
        portrait = await ask(visit, _portrait(visit, profile_id, revealed=True))
        ending.status = 503 if portrait.trouble else 200
    if not visit.wants_part:
        return await show(visit, portrait)
    return View("customer/portrait.html", {"portrait": portrait, "profile_id": profile_id})


async def explain(visit: Visit) -> View:
    """Why somebody is in a segment."""
    profile_id, key = await _profile_id(visit), visit.request.path_params["key"]
    if not _slug.match(key):
        raise NotFound("there is no such segment", field="key")
    request = segmentation_pb2.ExplainMembershipRequest(key=key, profile_id=profile_id)
    answer = await visit.services.segmentation.ExplainMembership(request)
    return View("customer/explanation.html", {"explanation": plain(answer)})


async def score(visit: Visit) -> View | Response:
    """Scores the customer now, and shows it. The score is recorded like any other."""
    profile_id = await _profile_id(visit)
    block = await ask(visit, _new_score(visit, profile_id))
    if not visit.wants_part:
        return RedirectResponse(f"/console/customers/{profile_id}", 303)
    return View("customer/score.html", {"score": block, "profile_id": profile_id})


async def _profile_id(visit: Visit) -> str:
    """The profile that the address names. Raises NotFound; does not repeat the reference."""
    ref = with_slashes(visit.request.path_params["ref"])
    if not _ref.match(ref):
        raise unknown_profile()
    return await visit.services.profile_id_of(ref)


async def _profile(services: Services, profile_id: str) -> Fields:
    answer = await services.profiles.GetProfile(profiles_pb2.GetProfileRequest(ref=profile_id))
    return plain(answer.profile)


async def _portrait(visit: Visit, profile_id: str, *, revealed: bool = False) -> Fields:
    """The blocks. What is personal is masked for those who may not see it, what is sensitive for all until it is revealed.

    `hidden` counts what only the scope `personal` may see; `sensitive` what is there to be revealed.
    """
    answer = await visit.services.profiles.GetPortrait(profiles_pb2.GetPortraitRequest(ref=profile_id))
    portrait = plain(answer)
    sees_personal = visit.may(Scope.PERSONAL)
    for block in portrait["blocks"]:
        entries = block["entries"]
        block["hidden"] = 0 if sees_personal else sum(entry["personal"] for entry in entries)
        block["entries"] = _together([_as_seen(entry, sees_personal=sees_personal, revealed=revealed) for entry in entries])
        block["sensitive"] = sum(entry["sensitive"] for entry in entries) if sees_personal and not revealed else 0
    portrait["sensitive"] = sum(block["sensitive"] for block in portrait["blocks"])
    return portrait


def _as_seen(entry: Fields, *, sees_personal: bool, revealed: bool) -> Fields:
    """The entry, masked where its class asks for it. Of what is sensitive nothing is told but that it is there."""
    if entry["sensitive"] and not (sees_personal and revealed):
        return entry | {"value": HIDDEN}
    if entry["personal"] and not sees_personal:
        return entry | {"value": masked(entry["value"])}
    return entry


def _together(entries: Sequence[Fields]) -> Mapping[str, Sequence[Fields]]:
    """Entries by name, in their order: a customer has several favourites."""
    grouped: dict[str, list[Fields]] = {}
    for entry in entries:
        grouped.setdefault(entry["name"], []).append(entry)
    return grouped


async def _events(visit: Visit, profile_id: str, cursor: str) -> Fields:
    request = profiles_pb2.ListEventsRequest(ref=profile_id, page_size=EVENTS_SHOWN, page_token=cursor)
    answer = await visit.services.profiles.ListEvents(request)
    return {"shown": [timeline.entry(plain(each), visit.words) for each in answer.events], "more": answer.next_page_token}


async def _latest_score(services: Services, profile_id: str) -> Fields | None:
    """None: never scored."""
    request = scoring_pb2.GetLatestScoreRequest(model=MODEL, profile_id=profile_id)
    try:
        return _shown_score((await services.scoring.GetLatestScore(request)).score)
    except NotFound:
        return None


async def _new_score(visit: Visit, profile_id: str) -> Fields:
    request = scoring_pb2.ScoreProfilesRequest(model=MODEL, refs=[profile_id])
    result = (await visit.services.scoring.ScoreProfiles(request)).results[0]
    return plain(result.not_scored) if result.HasField("not_scored") else _shown_score(result.score)


def _shown_score(message: scoring_pb2.Score) -> Fields:
    """With the largest contribution, by which the bars are drawn."""
    fields = plain(message)
    return fields | {"most": max((abs(each["contribution"]) for each in fields["reasons"]), default=0.0) or 1.0}


async def _memberships(services: Services, profile_id: str) -> list[Fields]:
    request = segmentation_pb2.ListMembershipsRequest(profile_id=profile_id)
    return [plain(each) for each in (await services.segmentation.ListMemberships(request)).memberships]


async def _consents(services: Services, profile_id: str) -> list[Fields]:
    answer = await services.consents.ListConsents(consents_pb2.ListConsentsRequest(ref=profile_id, page_size=1))
    return [plain(each) for each in answer.standings]


async def _items(visit: Visit, profile_id: str) -> Fields:
    _require(visit, Scope.SCORE)
    request = recommendation_pb2.RecommendRequest(profile_ids=[profile_id], limit=ITEMS_SHOWN)
    answer = await visit.services.recommendation.Recommend(request)
    items = [plain(each) for each in answer.results[0].items] if answer.results else []
    return {"shown": items, "model_built": moment_of(answer, "model_built")}


async def _actions(visit: Visit, profile_id: str) -> Fields:
    _require(visit, Scope.SCORE)
    request = recommendation_pb2.GetNextBestActionRequest(profile_id=profile_id)
    return plain(await visit.services.recommendation.GetNextBestAction(request))


def _require(visit: Visit, scope: Scope) -> None:
    """As the API does: what a key may not read there, it may not see here."""
    if visit.caller is None:
        raise Denied("nobody is signed in")
    require(visit.caller.scopes, scope, visit.caller.roles)
