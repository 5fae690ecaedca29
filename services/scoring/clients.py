"""profiles: the features of those to be scored, and the log's front door."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prometheus_client import Counter
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import profiles_pb2

from chassis import telemetry
from services.scoring.domain import Subject

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

FEATURES_TIMEOUT_S: Final = 30.0
TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.05

REFUSED_FACTS: Final = Counter(
    "rapport_scoring_refused_facts_total", "Facts that the log refused; each is a bug, and is in our log."
)
_ABSENT: Final = frozenset(
    {
        features_pb2.FEATURE_STATUS_NULL_VALUE,
        features_pb2.FEATURE_STATUS_NOT_FOUND,
        features_pb2.FEATURE_STATUS_CONSENT_DENIED,
    }
)


@dataclass(frozen=True, slots=True)
class Features:
    """In the order in which they were asked for; read at `at`."""

    subjects: list[Subject]
    at: datetime
    digest: str


class ProfilesClient:
    """Raises Unavailable where profiles does not answer."""

    def __init__(self, stub: "ProfilesAsyncStub") -> None:
        self._stub = stub

    async def features(self, refs: Sequence[str], at: datetime | None) -> Features:
        """All features that the platform serves; `at` None: at the tenant's clock."""
        # All: a model of other features is to be refused by their digest, not by the name of the first that is missing.
        request = profiles_pb2.ComputeFeaturesRequest(refs=refs)
        if at is not None:
            request.at.FromDatetime(at)
        answer = await self._stub.ComputeFeatures(request, timeout=FEATURES_TIMEOUT_S)
        names = list(answer.features)
        return Features([_subject(row, names) for row in answer.rows], answer.at.ToDatetime(UTC), answer.digest)

    async def served_digest(self) -> str:
        """SHA-256 of the feature definitions that the platform computes."""
        return (await self._stub.ListFeatures(profiles_pb2.ListFeaturesRequest(), timeout=TIMEOUT_S)).digest

    async def append_in_company(self, facts: Sequence[bytes]) -> None:
        """`append`, and a pause for the next facts to gather: each batch costs every reader of the log a transaction."""
        await self.append(facts)
        await asyncio.sleep(PAUSE_S)

    async def append(self, facts: Sequence[bytes]) -> None:
        """Appends serialized facts to the log of the present call's tenant.

        One that is refused would be refused for ever: it is dropped, counted and logged.
        """
        request = profiles_pb2.IngestRequest(facts=[profiles_pb2.Fact.FromString(fact) for fact in facts])
        answer = await self._stub.Ingest(request, timeout=TIMEOUT_S)
        for receipt in answer.facts:
            if receipt.status in (profiles_pb2.RECEIPT_STATUS_REJECTED, profiles_pb2.RECEIPT_STATUS_QUARANTINED):
                REFUSED_FACTS.inc()
                telemetry.logger().error("the log refused a fact", message_id=receipt.message_id, reason=receipt.reason)


def _subject(row: features_pb2.FeatureRow, names: Sequence[str]) -> Subject:
    values = {name: _number(value) for name, value in zip(names, row.values, strict=True)}
    newest = row.newest_event.ToDatetime(UTC) if row.HasField("newest_event") else None
    return Subject(row.ref, UUID(row.profile_id) if row.profile_id else None, values, newest)


def _number(value: features_pb2.FeatureValue) -> float:
    """NaN where there is no value; a text is none to a model."""
    if value.status in _ABSENT:
        return math.nan
    kind = value.WhichOneof("value")
    if kind == "number":
        return value.number
    return float(value.decimal) if kind == "decimal" else math.nan
