"""profiles: the tenant's clock, who is known, which features are served, and the log's front door."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prometheus_client import Counter
from rapport.profiles.v1 import profiles_pb2

from chassis import telemetry

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

TIMEOUT_S: Final = 5.0

REFUSED_FACTS: Final = Counter(
    "rapport_evaluation_refused_facts_total", "Facts that the log refused; each is a bug, and is in our log.", []
)


class ProfilesClient:
    """Raises Unavailable where profiles does not answer."""

    def __init__(self, stub: "ProfilesAsyncStub") -> None:
        self._stub = stub

    async def now(self) -> datetime:
        """The tenant's clock."""
        freshness = await self._stub.GetFreshness(profiles_pb2.GetFreshnessRequest(), timeout=TIMEOUT_S)
        return freshness.now.ToDatetime(UTC)

    async def served_feature_digest(self) -> str:
        """SHA-256 of the feature definitions that the platform computes."""
        listed = await self._stub.ListFeatures(profiles_pb2.ListFeaturesRequest(), timeout=TIMEOUT_S)
        return listed.digest

    async def resolve(self, profile_ids: Sequence[UUID]) -> list[UUID | None]:
        """What each has become, in order; None where the tenant knows nobody of that id."""
        request = profiles_pb2.ResolveProfilesRequest(refs=[str(each) for each in profile_ids])
        resolved = await self._stub.ResolveProfiles(request, timeout=TIMEOUT_S)
        return [UUID(each) if each else None for each in resolved.profile_ids]

    async def append(self, facts: Sequence[bytes]) -> None:
        """Appends serialized facts to the log of the present call's tenant.

        One that is refused would be refused for ever: it is dropped, counted and logged.
        """
        request = profiles_pb2.IngestRequest(facts=[profiles_pb2.Fact.FromString(fact) for fact in facts])
        answer = await self._stub.Ingest(request, timeout=TIMEOUT_S)
        for receipt in answer.facts:
            if receipt.status in (profiles_pb2.RECEIPT_STATUS_REJECTED, profiles_pb2.RECEIPT_STATUS_QUARANTINED):
                REFUSED_FACTS.inc()
                telemetry.logger().error(
                    "the log refused a fact", message_id=receipt.message_id, reason=receipt.reason, detail=receipt.message
                )
