"""What feedback asks of profiles, in its own words."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prometheus_client import Counter
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import telemetry
from chassis.errors import NotFound, Reason
from services.feedback.domain import Answer, Case, SurveyKind

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

REJECTED_FACTS: Final = Counter("rapport_feedback_rejected_facts_total", "Facts that profiles refused to append.")
SOURCE: Final = "rapport.feedback"
# Each person's texts are a call of their own; this many are under way at a time.
UNSEAL_AT_ONCE: Final = 16


class ProfilesClient:
    """Each call is for the tenant of the present call."""

    def __init__(self, stub: "ProfilesAsyncStub") -> None:
        self._stub = stub

    async def resolve(self, profile_id: str) -> UUID:
        """The profile that this one is by now. Raises NotFound where the tenant has none such."""
        answer = await self._stub.ResolveProfiles(pb.ResolveProfilesRequest(refs=[profile_id]))
        if not answer.profile_ids[0]:
            raise NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field="profile_id")
        return UUID(answer.profile_ids[0])

    async def now(self) -> datetime:
        """The tenant's clock."""
        return (await self._stub.GetFreshness(pb.GetFreshnessRequest())).now.ToDatetime(UTC)

    async def seal(self, profile_id: UUID, text: str) -> bytes:
        """Ciphertext under the person's key; empty for an empty text."""
        if not text:
            return b""
        answer = await self._stub.Seal(pb.SealRequest(profile_id=str(profile_id), plaintexts=[text.encode()]))
        return answer.sealed[0]

    async def unseal(self, sealed: Mapping[UUID, bytes]) -> Mapping[UUID, str]:
        """By profile; nothing where there is nothing, or where the key is gone."""
        turns = asyncio.Semaphore(UNSEAL_AT_ONCE)

        async def open_one(profile_id: UUID, text: bytes) -> tuple[UUID, str]:
            async with turns:
                try:
                    answer = await self._stub.Unseal(pb.UnsealRequest(profile_id=str(profile_id), sealed=[text]))
                except NotFound:  # the person is gone, and the key with them
                    return profile_id, ""
            return profile_id, answer.plaintexts[0].decode()

        return dict(await asyncio.gather(*(open_one(profile_id, text) for profile_id, text in sealed.items() if text)))

    async def append(self, facts: Sequence[bytes]) -> None:
        """Appends serialized facts to the log. A repeat does no harm; a refusal is a bug, and said."""
        answer = await self._stub.Ingest(pb.IngestRequest(facts=[pb.Fact.FromString(fact) for fact in facts]))
        for receipt in answer.facts:
            if receipt.status == pb.RECEIPT_STATUS_REJECTED:
                REJECTED_FACTS.inc()
                telemetry.logger().error(
                    "a fact was refused", message_id=receipt.message_id, reason=receipt.reason, field=receipt.field
                )


def answered_fact(kind: SurveyKind, answer: Answer) -> bytes:
    """The event that tells of an answer, as the outbox keeps it. The comment is not in it: it is kept sealed, and only here."""
    return _fact(
        f"survey:{answer.survey_id}:{answer.profile_id}:{answer.revision}",
        answer.profile_id,
        "Survey Answered",
        answer.answered,
        {"surveyId": answer.survey_id, "kind": kind.name, "rating": answer.rating},
    )


def opened_fact(case: Case) -> bytes:
    """The event that tells of a new case, as the outbox keeps it."""
    due = case.due.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {"caseId": str(case.case_id), "surveyId": case.survey_id, "due": due}
    return _fact(f"case:{case.case_id}", case.profile_id, "Case Opened", case.opened, said)


def _fact(message_id: str, profile_id: UUID, name: str, at: datetime, properties: Mapping[str, str | int]) -> bytes:
    fact = pb.Fact(
        message_id=message_id,
        profile_id=str(profile_id),
        name=name,
        properties=json.dumps(properties).encode(),
        source=SOURCE,
    )
    fact.timestamp.FromDatetime(at)
    return fact.SerializeToString()
