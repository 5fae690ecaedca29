"""What segmentation asks of profiles, in its own words."""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prometheus_client import Counter
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import consents_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import telemetry
from services.segmentation.domain import Change, Use, Value

if TYPE_CHECKING:
    from rapport.profiles.v1.consents_pb2_grpc import ConsentsAsyncStub
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

PAGE: Final = 1_000
# A thousand profiles with long histories on a busy machine.
COMPUTE_TIMEOUT_S: Final = 30.0
REJECTED_FACTS: Final = Counter("rapport_segmentation_rejected_facts_total", "Facts that profiles refused to append.")
_FEATURES_KEPT_S: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """Features of the profile that a reference led to. A feature without a value is not there."""

    ref: str
    profile_id: UUID
    features: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Freshness:
    """The tenant's clock, and how many rows of the log the profiles do not show yet."""

    now: datetime
    lag: int


class ProfilesClient:
    """Each call is for the tenant of the present call."""

    def __init__(self, stub: "ProfilesAsyncStub") -> None:
        self._stub = stub
        self._features = frozenset[str]()
        self._asked_at = 0.0

    async def feature_names(self, *, wanted: frozenset[str] = frozenset()) -> frozenset[str]:
        """What profiles declares. Asked once, and again at most once a minute where a wanted name is not known."""
        fresh = time.monotonic() - self._asked_at < _FEATURES_KEPT_S
        if not self._features or not (wanted <= self._features or fresh):
            answer = await self._stub.ListFeatures(pb.ListFeaturesRequest())
            self._features = frozenset(feature.name for feature in answer.features)
            self._asked_at = time.monotonic()
        return self._features

    async def features(self, refs: Sequence[str], names: Sequence[str]) -> tuple[datetime, list[Row]]:
        """(the tenant's clock, a row for each reference that leads to a profile), for up to 1,000. `names` is not empty."""
        request = pb.ComputeFeaturesRequest(refs=refs, features=names)
        answer = await self._stub.ComputeFeatures(request, timeout=COMPUTE_TIMEOUT_S)
        rows = [
            Row(row.ref, UUID(row.profile_id), _values(answer.features, row.values)) for row in answer.rows if row.profile_id
        ]
        return answer.at.ToDatetime(UTC), rows

    async def pages(self) -> AsyncIterator[list[str]]:
        """All profile ids of the tenant, up to 1,000 at a time."""
        token = ""
        while True:
            request = pb.ListProfilesRequest(page_size=PAGE, page_token=token)
            answer = await self._stub.ListProfiles(request, timeout=COMPUTE_TIMEOUT_S)
            if answer.profiles:
                yield [profile.profile_id for profile in answer.profiles]
            if not (token := answer.next_page_token):
                return

    async def freshness(self) -> Freshness:
        """The tenant's clock, and how far profiles is behind the log."""
        answer = await self._stub.GetFreshness(pb.GetFreshnessRequest())
        return Freshness(answer.now.ToDatetime(UTC), answer.lag_events)

    async def now(self) -> datetime:
        """The tenant's clock."""
        return (await self.freshness()).now

    async def append(self, facts: Sequence[bytes]) -> None:
        """Appends serialized facts to the log. A repeat does no harm; a refusal is a bug, and said."""
        answer = await self._stub.Ingest(pb.IngestRequest(facts=[pb.Fact.FromString(fact) for fact in facts]))
        for receipt in answer.facts:
            if receipt.status == pb.RECEIPT_STATUS_REJECTED:
                REJECTED_FACTS.inc()
                telemetry.logger().error(
                    "a fact was refused", message_id=receipt.message_id, reason=receipt.reason, field=receipt.field
                )


class ConsentsClient:
    """What people allow, for the tenant of the present call."""

    def __init__(self, stub: "ConsentsAsyncStub") -> None:
        self._stub = stub

    async def allowed(self, profile_ids: Sequence[UUID], uses: Sequence[Use]) -> list[Sequence[bool]]:
        """Of each profile whether it allows each use; nobody is asked for nothing. Raises InvalidArgument."""
        if not (profile_ids and uses):
            return [[] for _ in profile_ids]
        request = consents_pb2.CheckConsentsRequest(
            refs=map(str, profile_ids),
            uses=[consents_pb2.ConsentUse(purpose=use.purpose, channel=use.channel) for use in uses],
        )
        return [list(check.allowed) for check in (await self._stub.CheckConsents(request)).checks]


def _values(names: Sequence[str], values: Sequence[features_pb2.FeatureValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in zip(names, values, strict=True):
        match value.WhichOneof("value"):
            case "number":
                found[name] = value.number
            case "decimal":
                found[name] = float(value.decimal)
            case "text":
                found[name] = value.text
            case None:
                pass
    return found


def fact_of(change: Change, version: int) -> bytes:
    """The event that tells of a change, as the outbox keeps it."""
    what = "entered" if change.entered else "exited"
    at_us = (change.at - _EPOCH) // timedelta(microseconds=1)
    fact = pb.Fact(
        message_id=f"segment:{change.segment}:{version}:{change.profile_id}:{what}:{at_us}",
        profile_id=str(change.profile_id),
        name=f"Segment {what.capitalize()}",
        properties=json.dumps({"segment": change.segment, "version": version}).encode(),
        source="rapport.segmentation",
    )
    fact.timestamp.FromDatetime(change.at)
    return fact.SerializeToString()
