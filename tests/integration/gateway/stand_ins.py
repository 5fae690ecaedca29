"""profiles and scoring as the gateway knows them, with just enough behaviour: they parse, remember by tenant, and refuse."""

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.features.v1 import features_pb2 as features
from rapport.profiles.v1 import profiles_pb2 as profiles
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesServicer
from rapport.scoring.v1 import scoring_pb2 as scoring
from rapport.scoring.v1.scoring_pb2_grpc import ScoringServicer

from chassis import context
from chassis.errors import InvalidArgument, NotFound, Reason

NOON = datetime(2011, 9, 10, 12, tzinfo=UTC)
CASE_ID = "0b8f7a52-4a53-4b6e-9c39-6f0d3f0f8c11"


def stamp(at: datetime = NOON) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


class Profiles(ProfilesServicer):
    """Knows whoever sent an event. `calls` counts, so that a test sees what was gathered."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, str]] = defaultdict(dict)
        self.messages: dict[str, set[str]] = defaultdict(set)
        self.tenants: dict[str, int] = {}
        self.calls: list[int] = []
        self.pause_s = 0.0

    async def Ingest(self, request: profiles.IngestRequest, call: object) -> profiles.IngestResponse:
        self.calls.append(len(request.submissions))
        await asyncio.sleep(self.pause_s)
        return profiles.IngestResponse(submissions=[self._take(each) for each in request.submissions])

    def _take(self, submission: profiles.Submission) -> profiles.SubmissionResult:
        try:
            body = json.loads(submission.body)
            events = body["batch"] if submission.type in ("batch", "import") else [body]
            receipts = [self._receipt(event) for event in events]
        except (ValueError, KeyError, TypeError, RecursionError):
            malformed = profiles.Malformed(
                reason="MALFORMED_JSON", message="the body is not JSON, or not an object", message_id="derived-00"
            )
            return profiles.SubmissionResult(malformed=malformed)
        return profiles.SubmissionResult(receipts=profiles.Receipts(receipts=receipts))

    def _receipt(self, event: Any) -> profiles.Receipt:
        if not isinstance(event, dict):
            return _rejected("", "MALFORMED_JSON", "", "an event is an object")
        message_id = str(event.get("messageId") or f"m{len(self.messages[context.tenant()])}")
        if any("\ud800" <= character <= "\udfff" for character in json.dumps(event, ensure_ascii=False)):
            return _rejected("", "MALFORMED_TEXT", "", "a text holds half of a surrogate pair")
        if len(json.dumps(event)) > 32 * 1024:
            return _rejected(message_id, "EVENT_TOO_LARGE", "", "an event is at most 32 KB")
        ids = [f"{name}:{event[key]}" for name, key in _IDS.items() if event.get(key)]
        if not ids:
            return _rejected(message_id, "MISSING_IDENTITY", "userId", "an event needs a userId or an anonymousId")
        known = self.people[context.tenant()]
        known.update({each: known.get(each) or str(uuid5(NAMESPACE_URL, context.tenant() + each)) for each in ids})
        if event.get("event") == "Held":
            return self._held(message_id)
        status = profiles.RECEIPT_STATUS_DUPLICATE if message_id in self.messages[context.tenant()] else _ACCEPTED
        self.messages[context.tenant()].add(message_id)
        return profiles.Receipt(message_id=message_id, status=status)

    def _held(self, message_id: str) -> profiles.Receipt:
        if message_id in self.messages[context.tenant()]:
            duplicate = profiles.RECEIPT_STATUS_DUPLICATE
            return profiles.Receipt(message_id=message_id, status=duplicate, first_received=stamp())
        self.messages[context.tenant()].add(message_id)
        return profiles.Receipt(
            message_id=message_id,
            status=profiles.RECEIPT_STATUS_QUARANTINED,
            reason="PLAN_VIOLATION",
            field="properties.price",
            message="must be of type number",
            plan_version=3,
            rule="/properties/price/type",
        )

    def find(self, ref: str) -> str:
        known = self.people[context.tenant()]
        return known.get(ref) or (ref.lower() if ref.lower() in known.values() else "")

    def get(self, ref: str) -> str:
        if not (profile_id := self.find(ref)):
            raise NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field="ref")
        return profile_id

    async def ResolveProfiles(self, request: Any, call: object) -> profiles.ResolveProfilesResponse:
        return profiles.ResolveProfilesResponse(profile_ids=[self.find(ref) for ref in request.refs])

    async def GetProfile(self, request: Any, call: object) -> profiles.GetProfileResponse:
        return profiles.GetProfileResponse(profile=self._profile(self.get(request.ref)))

    def _profile(self, profile_id: str) -> profiles.Profile:
        identity = profiles.Identity(namespace="user_id", node_id=profile_id)
        traits = json.dumps({"plan": "gold"}).encode()
        return profiles.Profile(
            profile_id=profile_id, first_seen=stamp(), traits=traits, event_count=1, identities=[identity], identified=True
        )

    async def ListProfiles(self, request: Any, call: object) -> profiles.ListProfilesResponse:
        everybody = sorted(set(self.people[context.tenant()].values()))
        start = start_of(request.page_token)
        page = everybody[start : start + request.page_size]
        token = str(start + len(page)) if start + len(page) < len(everybody) else ""
        return profiles.ListProfilesResponse(
            profiles=[self._profile(each) for each in page], next_page_token=token, total_count=len(everybody)
        )

    async def GetPortrait(self, request: Any, call: object) -> profiles.GetPortraitResponse:
        entries = [
            profiles.PortraitEntry(name="plan", value="gold", origin="trait"),
            profiles.PortraitEntry(name="email", value="ada@example.com", origin="trait", personal=True),
            profiles.PortraitEntry(name="passport", value="X1234567", origin="trait", personal=True, sensitive=True),
        ]
        blocks = [profiles.PortraitBlock(name="basic", entries=entries), profiles.PortraitBlock(name="social", empty=True)]
        at = request.at if request.HasField("at") else stamp()
        return profiles.GetPortraitResponse(profile_id=self.get(request.ref), blocks=blocks, at=at)

    async def ListEvents(self, request: Any, call: object) -> profiles.ListEventsResponse:
        self.get(request.ref)
        start_of(request.page_token)
        event = profiles.TimelineEvent(event_id="00", type="track", name="Order Completed", properties=b'{"revenue":12.5}')
        return profiles.ListEventsResponse(events=[event])

    async def ListRejections(self, request: Any, call: object) -> profiles.ListRejectionsResponse:
        start_of(request.page_token)
        return profiles.ListRejectionsResponse(rejections=[profiles.Rejection(received=stamp(), type="track", reason="X")])

    async def ListFeatures(self, request: Any, call: object) -> profiles.ListFeaturesResponse:
        feature = features.Feature(name="orders_count", unit="orders", aggregation=features.AGGREGATION_COUNT_DISTINCT)
        return profiles.ListFeaturesResponse(features=[feature], digest="f" * 64)

    async def ComputeFeatures(self, request: Any, call: object) -> profiles.ComputeFeaturesResponse:
        if set(request.features) - {"orders_count"}:
            raise InvalidArgument("no such feature", reason=Reason.UNKNOWN_FEATURE, field="features")
        present = features.FeatureValue(status=features.FEATURE_STATUS_PRESENT, decimal="12.50")
        absent = features.FeatureValue(status=features.FEATURE_STATUS_NOT_FOUND)
        rows = [
            features.FeatureRow(ref=ref, profile_id=self.find(ref), values=[present if self.find(ref) else absent])
            for ref in request.refs
        ]
        return profiles.ComputeFeaturesResponse(rows=rows, at=stamp(), features=["orders_count"], digest="f" * 64)

    async def GetFreshness(self, request: Any, call: object) -> profiles.GetFreshnessResponse:
        return profiles.GetFreshnessResponse(event_count=3, p50_s=0.25, now=stamp())

    async def ExportLog(self, request: Any, call: object) -> profiles.ExportLogResponse:
        withheld = 1 if request.purpose else 0
        return profiles.ExportLogResponse(
            path="/archive", event_count=3, digest="d" * 64, through=stamp(), withheld_count=withheld
        )

    async def CreateTenant(self, request: Any, call: object) -> profiles.CreateTenantResponse:
        created = request.tenant_id not in self.tenants
        self.tenants[request.tenant_id] = request.clock
        return profiles.CreateTenantResponse(created=created)


_ACCEPTED = profiles.RECEIPT_STATUS_ACCEPTED
_IDS = {"user_id": "userId", "anonymous_id": "anonymousId"}


def _rejected(message_id: str, reason: str, field: str, message: str) -> profiles.Receipt:
    status = profiles.RECEIPT_STATUS_REJECTED
    return profiles.Receipt(message_id=message_id, status=status, reason=reason, field=field, message=message)


def start_of(token: str) -> int:
    if token and not (token.isascii() and token.isdigit() and len(token) < 10):
        raise InvalidArgument("the cursor is not ours", reason=Reason.INVALID_CURSOR, field="page_token")
    return int(token or 0)


class Scoring(ScoringServicer):
    """Scores whom profiles knows."""

    def __init__(self, people: Profiles) -> None:
        self._people = people
        self.calls: list[int] = []

    async def ScoreProfiles(self, request: Any, call: object) -> scoring.ScoreProfilesResponse:
        self.calls.append(len(request.refs))
        if request.model != "churn":
            raise NotFound("there is no such model")
        return scoring.ScoreProfilesResponse(results=[self._result(ref, request.version) for ref in request.refs])

    def _result(self, ref: str, version: str) -> scoring.ScoreResult:
        if profile_id := self._people.find(ref):
            return scoring.ScoreResult(ref=ref, profile_id=profile_id, score=score(version or "7"))
        refused = scoring.NotScored(reason="UNKNOWN_PROFILE", message="nobody is known by this reference")
        return scoring.ScoreResult(ref=ref, not_scored=refused)

    async def GetLatestScore(self, request: Any, call: object) -> scoring.GetLatestScoreResponse:
        UUID(request.profile_id)
        return scoring.GetLatestScoreResponse(score=score("7"))

    async def GetScoreDistribution(self, request: Any, call: object) -> scoring.GetScoreDistributionResponse:
        return scoring.GetScoreDistributionResponse(bin_counts=[1] * 10, profile_count=10, mean_probability=0.5)

    async def GetServingModel(self, request: Any, call: object) -> scoring.GetServingModelResponse:
        return scoring.GetServingModelResponse(model=request.model, version="7", alias="champion", promoted=stamp())


def score(version: str) -> scoring.Score:
    reasons = [
        scoring.Reason(feature="days_since_last_order", text="last order 143 days ago", contribution=0.8, value=143.0),
        scoring.Reason(feature="mean_order_interval_days", text="no usual interval", contribution=-0.1),
    ]
    return scoring.Score(
        model="churn", version=version, probability=0.62, percentile=88.0, reasons=reasons, as_of=stamp(), scored=stamp(),
        feature_digest="f" * 64, logistic_probability=0.6, features={"orders_count": 3.0},
    )  # fmt: skip
