"""Suggestions of who may be the same person, and the runs that find them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query, Response
from pydantic import Field
from rapport.profiles.v1 import matching_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import People
from services.gateway.api.serving import Services
from services.gateway.domain import Scope
from services.gateway.wire import NO_NUL, UUID, Answer, Asked, Cursor, Limit, Lower, PeoplePage, enum_number

routes = router("Matching")

_STATE = matching_pb2.DESCRIPTOR.enum_types_by_name["SuggestionState"]

RunId = Annotated[str, Path(alias="matchRunId", pattern=UUID)]
SuggestionId = Annotated[str, Path(alias="matchSuggestionId", pattern=UUID)]
State = Literal["open", "accepted", "rejected"]


class MatchRunDraft(Asked):
    """What a run is to do beside suggesting."""

    accept_from: float | None = Field(
        None, ge=0.9, le=1, description="Accept suggestions from this probability on; without it a person decides on all."
    )


class MatchRun(Answer):
    """A run over all identified profiles. `message`: why it failed, or what there is too little of."""

    match_run_id: str
    state: Annotated[Literal["queued", "running", "succeeded", "not_enough_data", "failed"], Lower]
    accept_from: float | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    people_count: int
    suggested_count: int
    accepted_count: int
    message: str


class Agreement(Answer):
    """What one comparison says: bits for (above zero) or against the two being one person. No value is told."""

    comparison: str
    level: str
    weight: float


class MatchSuggestion(Answer):
    """Two profiles that may be one person. `weight`: bits, the base rate included; `probability` is the same as a share."""

    match_suggestion_id: str
    profile_a: str
    profile_b: str
    match_run_id: str
    weight: float
    probability: float
    agreements: list[Agreement]
    state: Annotated[State, Lower]
    created: datetime
    decided: datetime | None
    decided_by: str
    reason: str


class Acceptance(Asked):
    """Why they are one person."""

    reason: str = Field("", max_length=500, pattern=NO_NUL, description="Kept sealed, as the identity graph tells it.")


class Rejection(Asked):
    """Why they are not, or not known to be."""

    reason: Literal["different_people", "same_household", "namesakes", "too_little_known", "other"]


@routes.post("/v1/match-runs", status_code=202)
@needs(Scope.OPERATE)
async def create_match_run(services: Services, response: Response, draft: MatchRunDraft) -> MatchRun:
    """Looks for profiles that are likely the same person, by names, birthdays, addresses, phones and emails."""
    answer = await services.matching.CreateMatchRun(matching_pb2.CreateMatchRunRequest(accept_from=draft.accept_from))
    response.headers["location"] = f"/v1/match-runs/{answer.run.match_run_id}"
    return MatchRun.of(answer.run)


@routes.get("/v1/match-runs/{matchRunId}")
@needs(Scope.READ)
async def get_match_run(services: Services, match_run_id: RunId) -> MatchRun:
    """How far a run is, and what it found."""
    answer = await services.matching.GetMatchRun(matching_pb2.GetMatchRunRequest(match_run_id=match_run_id))
    return MatchRun.of(answer.run)


@routes.get("/v1/match-suggestions")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_match_suggestions(
    services: Services,
    state: Annotated[State, Query(description="Open ones wait for a decision.")] = "open",
    min_weight: Annotated[
        float | None, Query(alias="minWeight", allow_inf_nan=False, description="Bits; 10 is a thousand to one.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> PeoplePage[MatchSuggestion]:
    """Suggestions, the heaviest first."""
    request = matching_pb2.ListMatchSuggestionsRequest(min_weight=min_weight, page_size=limit, page_token=cursor)
    request.state = enum_number(_STATE, state)
    answer = await services.matching.ListMatchSuggestions(request)
    items = [MatchSuggestion.of(each) for each in answer.suggestions]
    return PeoplePage[MatchSuggestion].of_items(items, answer.next_page_token)


@routes.post("/v1/match-suggestions/{matchSuggestionId}:accept")
@needs(Scope.OPERATE)
async def accept_match_suggestion(
    services: Services, match_suggestion_id: SuggestionId, decision: Acceptance
) -> MatchSuggestion:
    """Makes the two profiles one, as a fact in the log. A repeat changes nothing."""
    request = matching_pb2.AcceptMatchSuggestionRequest(match_suggestion_id=match_suggestion_id, reason=decision.reason)
    return MatchSuggestion.of((await services.matching.AcceptMatchSuggestion(request)).suggestion)


@routes.post("/v1/match-suggestions/{matchSuggestionId}:reject")
@needs(Scope.OPERATE)
async def reject_match_suggestion(
    services: Services, match_suggestion_id: SuggestionId, decision: Rejection
) -> MatchSuggestion:
    """The pair is not suggested again, unless it comes to weigh ten bits more."""
    request = matching_pb2.RejectMatchSuggestionRequest(match_suggestion_id=match_suggestion_id, reason=decision.reason)
    return MatchSuggestion.of((await services.matching.RejectMatchSuggestion(request)).suggestion)
