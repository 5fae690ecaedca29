"""Consents, as the gateway knows them: everybody forbids one purpose, and allows all others."""

from typing import Any

from rapport.profiles.v1 import consents_pb2 as pb
from rapport.profiles.v1.consents_pb2_grpc import ConsentsServicer

from chassis import context
from chassis.errors import InvalidArgument, NotFound, Reason
from tests.integration.gateway.stand_ins import CASE_ID, Profiles, stamp

FORBIDDEN = "forbidden"


class Consents(ConsentsServicer):
    """`told`: what was recorded; `asked`: the references of each check."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._purposes: dict[tuple[str, str], pb.Purpose] = {}
        self.told: list[Any] = []
        self.asked: list[list[str]] = []

    def _find(self, ref: str) -> str:
        return CASE_ID if ref == CASE_ID else self._profiles.find(ref)

    async def CheckConsents(self, request: Any, call: object) -> pb.CheckConsentsResponse:
        self.asked.append(list(request.refs))
        if any(use.channel == "fog" for use in request.uses):
            raise InvalidArgument("a channel is one of any, email, sms", field="uses[0].channel")
        answer = pb.CheckConsentsResponse()
        for profile_id in map(self._find, request.refs):
            allowed = [bool(profile_id) and use.purpose != FORBIDDEN for use in request.uses]
            answer.checks.add(profile_id=profile_id, allowed=allowed)
        return answer

    async def ListConsents(self, request: Any, call: object) -> pb.ListConsentsResponse:
        if not (profile_id := self._find(request.ref)):
            raise NotFound("nobody is known by that reference", reason=Reason.UNKNOWN_PROFILE, field="ref")
        record = _record("ads", "any", pb.CONSENT_STATE_DENIED)
        return pb.ListConsentsResponse(
            profile_id=profile_id, standings=[_standing(record)], history=[record], next_page_token="more"
        )

    async def RecordConsent(self, request: Any, call: object) -> pb.RecordConsentResponse:
        if not (profile_id := self._find(request.ref)):
            raise NotFound("nobody is known by that reference", reason=Reason.UNKNOWN_PROFILE, field="ref")
        self.told.append(request)
        record = _record(request.purpose, request.channel, request.state)
        return pb.RecordConsentResponse(profile_id=profile_id, standing=_standing(record))

    async def ListPurposes(self, request: Any, call: object) -> pb.ListPurposesResponse:
        mine = [purpose for (tenant, _), purpose in self._purposes.items() if tenant == context.tenant()]
        return pb.ListPurposesResponse(purposes=mine)

    async def PutPurpose(self, request: Any, call: object) -> pb.PutPurposeResponse:
        purpose = pb.Purpose(key=request.key, description=request.description, legal_basis=request.legal_basis, changed=stamp())
        self._purposes[context.tenant(), request.key] = purpose
        return pb.PutPurposeResponse(purpose=purpose)


def _record(purpose: str, channel: str, state: Any) -> pb.ConsentRecord:
    return pb.ConsentRecord(
        purpose=purpose, channel=channel, state=state, source="checkout", timestamp=stamp(), recorded=stamp(), event_id="0a"
    )


def _standing(record: pb.ConsentRecord) -> pb.ConsentStanding:
    return pb.ConsentStanding(
        purpose=record.purpose, channel=record.channel, allowed=record.state == pb.CONSENT_STATE_GRANTED,
        state=record.state, ground=pb.CONSENT_GROUND_ANY_CHANNEL, record=record,
    )  # fmt: skip
