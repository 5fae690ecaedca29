"""profiles: the log's front door."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter
from rapport.profiles.v1 import profiles_pb2

from chassis import telemetry

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

TIMEOUT_S: Final = 5.0

REFUSED_FACTS: Final = Counter(
    "rapport_recommendation_refused_facts_total", "Facts that the log refused; each is a bug, and is in our log."
)


class ProfilesClient:
    """Raises Unavailable where profiles does not answer."""

    def __init__(self, stub: "ProfilesAsyncStub") -> None:
        self._stub = stub

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
