"""Matching, retention, and what a person may ask for, as the gateway knows them."""

from typing import Any

from rapport.profiles.v1 import matching_pb2, privacy_pb2, retention_pb2
from rapport.profiles.v1.matching_pb2_grpc import MatchingServicer
from rapport.profiles.v1.privacy_pb2_grpc import PrivacyServicer
from rapport.profiles.v1.retention_pb2_grpc import RetentionServicer
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import SubjectsServicer

from tests.integration.gateway.stand_ins import CASE_ID, stamp

ROWS = subjects_pb2.ErasedRows(name="scoring.scores", row_count=3)


class Matching(MatchingServicer):
    """One run, one suggestion."""

    def __init__(self) -> None:
        self.run = matching_pb2.MatchRun(match_run_id=CASE_ID, state=matching_pb2.MATCH_RUN_STATE_QUEUED, created=stamp())

    def _suggestion(self, state: Any) -> matching_pb2.MatchSuggestion:
        agreement = matching_pb2.Agreement(comparison="surname", level="exact", weight=7.5)
        return matching_pb2.MatchSuggestion(
            match_suggestion_id=CASE_ID, profile_a=CASE_ID, profile_b=CASE_ID, match_run_id=CASE_ID, weight=12.0,
            probability=0.99, agreements=[agreement], state=state, created=stamp(),
        )  # fmt: skip

    async def CreateMatchRun(self, request: Any, context: object) -> matching_pb2.CreateMatchRunResponse:
        return matching_pb2.CreateMatchRunResponse(run=self.run)

    async def GetMatchRun(self, request: Any, context: object) -> matching_pb2.GetMatchRunResponse:
        return matching_pb2.GetMatchRunResponse(run=self.run)

    async def ListMatchSuggestions(self, request: Any, context: object) -> matching_pb2.ListMatchSuggestionsResponse:
        suggestions = [self._suggestion(matching_pb2.SUGGESTION_STATE_OPEN)]
        return matching_pb2.ListMatchSuggestionsResponse(suggestions=suggestions)

    async def AcceptMatchSuggestion(self, request: Any, context: object) -> matching_pb2.AcceptMatchSuggestionResponse:
        accepted = self._suggestion(matching_pb2.SUGGESTION_STATE_ACCEPTED)
        return matching_pb2.AcceptMatchSuggestionResponse(suggestion=accepted)

    async def RejectMatchSuggestion(self, request: Any, context: object) -> matching_pb2.RejectMatchSuggestionResponse:
        rejected = self._suggestion(matching_pb2.SUGGESTION_STATE_REJECTED)
        return matching_pb2.RejectMatchSuggestionResponse(suggestion=rejected)


class Retention(RetentionServicer):
    """Remembers the days."""

    def __init__(self) -> None:
        self.kept = retention_pb2.LogRetention()

    async def GetRetention(self, request: Any, context: object) -> retention_pb2.GetRetentionResponse:
        return retention_pb2.GetRetentionResponse(retention=self.kept)

    async def PutRetention(self, request: Any, context: object) -> retention_pb2.PutRetentionResponse:
        self.kept.log_days = request.log_days
        return retention_pb2.PutRetentionResponse(retention=self.kept)


class Privacy(PrivacyServicer):
    """One person, one erasure."""

    def __init__(self) -> None:
        self.erasure = privacy_pb2.Erasure(
            erasure_id=CASE_ID, profile_id=CASE_ID, profile_ids=[CASE_ID], state=privacy_pb2.ERASURE_STATE_RUNNING,
            reason="asked for", requested=stamp(), stores=[ROWS],
        )  # fmt: skip

    async def ExportProfile(self, request: Any, context: object) -> privacy_pb2.ExportProfileResponse:
        table = subjects_pb2.SubjectTable(name="profiles.nodes", rows=b"[]")
        return privacy_pb2.ExportProfileResponse(profile_id=CASE_ID, profile_ids=[CASE_ID], tables=[table], events=[b"{}"])

    async def EraseProfile(self, request: Any, context: object) -> privacy_pb2.EraseProfileResponse:
        return privacy_pb2.EraseProfileResponse(erasure=self.erasure)

    async def GetErasure(self, request: Any, context: object) -> privacy_pb2.GetErasureResponse:
        return privacy_pb2.GetErasureResponse(erasure=self.erasure)

    async def ListErasures(self, request: Any, context: object) -> privacy_pb2.ListErasuresResponse:
        return privacy_pb2.ListErasuresResponse(erasures=[self.erasure])

    async def ListOpenErasures(self, request: Any, context: object) -> privacy_pb2.ListOpenErasuresResponse:
        return privacy_pb2.ListOpenErasuresResponse()

    async def ConfirmErasure(self, request: Any, context: object) -> privacy_pb2.ConfirmErasureResponse:
        return privacy_pb2.ConfirmErasureResponse()


class Subjects(SubjectsServicer):
    """Rows of a person in one of the other services."""

    async def ExportSubject(self, request: Any, context: object) -> subjects_pb2.ExportSubjectResponse:
        return subjects_pb2.ExportSubjectResponse(tables=[subjects_pb2.SubjectTable(name="scoring.scores", rows=b"[]")])

    async def EraseSubject(self, request: Any, context: object) -> subjects_pb2.EraseSubjectResponse:
        return subjects_pb2.EraseSubjectResponse(tables=[ROWS])
