"""The gRPC service of match runs and suggestions."""

import math
from datetime import datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1 import matching_pb2 as pb
from rapport.profiles.v1 import matching_pb2_grpc

from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.matching import Matching, MatchJobs
from services.profiles.rpc import paging, wire
from services.profiles.store.matching import MatchStore, RunRow, SuggestionRow
from services.profiles.tenancy import Tenants

_RUN_STATES: Final = {
    "queued": pb.MATCH_RUN_STATE_QUEUED,
    "running": pb.MATCH_RUN_STATE_RUNNING,
    "succeeded": pb.MATCH_RUN_STATE_SUCCEEDED,
    "not_enough_data": pb.MATCH_RUN_STATE_NOT_ENOUGH_DATA,
    "failed": pb.MATCH_RUN_STATE_FAILED,
}
_STATES: Final = {
    "open": pb.SUGGESTION_STATE_OPEN,
    "accepted": pb.SUGGESTION_STATE_ACCEPTED,
    "rejected": pb.SUGGESTION_STATE_REJECTED,
}
_NAMES: Final = {number: name for name, number in _STATES.items()} | {pb.SUGGESTION_STATE_UNSPECIFIED: "open"}
_HEAVIEST: Final = (math.inf, UUID(int=2**128 - 1))


class MatchingRpc(matching_pb2_grpc.MatchingServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, matching: Matching, store: MatchStore, jobs: MatchJobs) -> None:
        self._tenants = tenants
        self._matching = matching
        self._store = store
        self._jobs = jobs

    async def CreateMatchRun(self, request: pb.CreateMatchRunRequest, context: object) -> pb.CreateMatchRunResponse:
        tenant = await self._tenants.present()
        run = await self._matching.start(tenant, request.accept_from if request.HasField("accept_from") else None)
        self._jobs.wake()
        return pb.CreateMatchRunResponse(run=_run(run))

    async def GetMatchRun(self, request: pb.GetMatchRunRequest, context: object) -> pb.GetMatchRunResponse:
        tenant = await self._tenants.present()
        run_id = _id_of(request.match_run_id, "match_run_id", "match run")
        return pb.GetMatchRunResponse(run=_run(await self._matching.run(tenant, run_id)))

    async def ListMatchSuggestions(
        self, request: pb.ListMatchSuggestionsRequest, context: object
    ) -> pb.ListMatchSuggestionsResponse:
        tenant = await self._tenants.present()
        size, before = paging.page_size(request.page_size), _before(request.page_token)
        if (state := _NAMES.get(request.state)) is None:
            raise InvalidArgument("a suggestion is open, accepted or rejected", field="state")
        least = request.min_weight if request.HasField("min_weight") else -math.inf
        rows = await self._store.page(tenant.tenant_id, state, least, before, size + 1)
        more = f"{rows[size - 1].weight.hex()}/{rows[size - 1].suggestion_id}" if len(rows) > size else ""
        return pb.ListMatchSuggestionsResponse(suggestions=[_suggestion(row) for row in rows[:size]], next_page_token=more)

    async def AcceptMatchSuggestion(
        self, request: pb.AcceptMatchSuggestionRequest, context: object
    ) -> pb.AcceptMatchSuggestionResponse:
        tenant = await self._tenants.present()
        suggestion_id = _id_of(request.match_suggestion_id, "match_suggestion_id", "suggestion")
        return pb.AcceptMatchSuggestionResponse(
            suggestion=_suggestion(await self._matching.accept(tenant, suggestion_id, request.reason))
        )

    async def RejectMatchSuggestion(
        self, request: pb.RejectMatchSuggestionRequest, context: object
    ) -> pb.RejectMatchSuggestionResponse:
        tenant = await self._tenants.present()
        suggestion_id = _id_of(request.match_suggestion_id, "match_suggestion_id", "suggestion")
        return pb.RejectMatchSuggestionResponse(
            suggestion=_suggestion(await self._matching.reject(tenant, suggestion_id, request.reason))
        )


def _id_of(text: str, field: str, noun: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no such {noun}", field=field) from None


def _before(token: str) -> tuple[float, UUID]:
    if not token:
        return _HEAVIEST
    weight, _, suggestion_id = token.partition("/")
    try:
        return float.fromhex(weight), UUID(suggestion_id)
    except (ValueError, OverflowError):
        raise InvalidArgument("the page token is not one of ours", reason=Reason.INVALID_CURSOR, field="page_token") from None


def _moment(value: datetime | None) -> Timestamp | None:
    return wire.timestamp(value) if value is not None else None


def _run(row: RunRow) -> pb.MatchRun:
    return pb.MatchRun(
        match_run_id=str(row.run_id),
        state=_RUN_STATES[row.state],
        accept_from=row.accept_from,
        created=wire.timestamp(row.created),
        started=_moment(row.started),
        ended=_moment(row.ended),
        people_count=row.people_count,
        suggested_count=row.suggested_count,
        accepted_count=row.accepted_count,
        message=row.message,
    )


def _suggestion(row: SuggestionRow) -> pb.MatchSuggestion:
    return pb.MatchSuggestion(
        match_suggestion_id=str(row.suggestion_id),
        profile_a=str(row.profile_a),
        profile_b=str(row.profile_b),
        match_run_id=str(row.run_id),
        weight=row.weight,
        probability=row.probability,
        agreements=[pb.Agreement(comparison=each.comparison, level=each.level, weight=each.weight) for each in row.said],
        state=_STATES[row.state],
        created=wire.timestamp(row.created),
        decided=_moment(row.decided),
        decided_by=row.decided_by,
        reason=row.reason,
    )
