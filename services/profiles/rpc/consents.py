"""The gRPC service Consents."""

from types import MappingProxyType
from typing import Final

from rapport.profiles.v1 import consents_pb2 as pb
from rapport.profiles.v1 import consents_pb2_grpc

from chassis.errors import InvalidArgument
from services.profiles.consents import END, Check, Consents, Standing, Word
from services.profiles.domain.clock import microseconds
from services.profiles.domain.consent import Basis, Ground, Record, State, Use, channel_of
from services.profiles.lookup import Lookup
from services.profiles.rpc import paging, wire
from services.profiles.store.consents import PurposeRow
from services.profiles.tenancy import Tenants

_STATES: Final = MappingProxyType(
    {
        State.GRANTED: pb.CONSENT_STATE_GRANTED,
        State.DENIED: pb.CONSENT_STATE_DENIED,
        State.UNKNOWN: pb.CONSENT_STATE_UNKNOWN,
    }
)
_STATE_OF: Final = MappingProxyType({number: state for state, number in _STATES.items()})
_BASES: Final = MappingProxyType(
    {
        Basis.CONSENT: pb.LEGAL_BASIS_CONSENT,
        Basis.LEGITIMATE_INTEREST: pb.LEGAL_BASIS_LEGITIMATE_INTEREST,
        Basis.CONTRACT: pb.LEGAL_BASIS_CONTRACT,
    }
)
_BASIS_OF: Final = MappingProxyType({number: basis for basis, number in _BASES.items()})
_GROUNDS: Final = MappingProxyType(
    {
        Ground.CHANNEL: pb.CONSENT_GROUND_CHANNEL,
        Ground.ANY_CHANNEL: pb.CONSENT_GROUND_ANY_CHANNEL,
        Ground.LEGAL_BASIS: pb.CONSENT_GROUND_LEGAL_BASIS,
        Ground.CHANNEL_DEFAULT: pb.CONSENT_GROUND_CHANNEL_DEFAULT,
    }
)


class ConsentsRpc(consents_pb2_grpc.ConsentsServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, lookup: Lookup, consents: Consents) -> None:
        self._tenants = tenants
        self._lookup = lookup
        self._consents = consents

    async def ListConsents(self, request: pb.ListConsentsRequest, context: object) -> pb.ListConsentsResponse:
        tenant = await self._tenants.present()
        size, before = paging.page_size(request.page_size), paging.said_before(request.page_token) or END
        profile_id = await self._lookup.one(tenant, request.ref)
        rows = await self._consents.history(tenant, profile_id, before, size + 1)
        standings = [] if request.page_token else await self._consents.standings(tenant, profile_id)
        last = rows[size - 1] if len(rows) > size else None
        return pb.ListConsentsResponse(
            profile_id=str(profile_id),
            standings=map(_standing, standings),
            history=map(_record, rows[:size]),
            next_page_token=paging.said_token(last.ts, last.event_id, last.purpose, last.channel) if last else "",
        )

    async def RecordConsent(self, request: pb.RecordConsentRequest, context: object) -> pb.RecordConsentResponse:
        tenant = await self._tenants.present()
        state = _STATE_OF.get(request.state)
        if state is None:
            raise InvalidArgument("a consent is granted, denied or unknown", field="state")
        at = wire.instant_of(request, "timestamp")
        word = Word(
            use=Use(request.purpose, channel_of(request.channel, "channel")),
            state=state,
            source=request.source,
            proof_version=request.proof_version,
            ts_us=None if at is None else microseconds(at),
        )
        profile_id, standing = await self._consents.record(tenant, request.ref, word)
        return pb.RecordConsentResponse(profile_id=str(profile_id), standing=_standing(standing))

    async def CheckConsents(self, request: pb.CheckConsentsRequest, context: object) -> pb.CheckConsentsResponse:
        tenant = await self._tenants.present()
        uses = [Use(use.purpose, channel_of(use.channel, f"uses[{place}].channel")) for place, use in enumerate(request.uses)]
        checks = await self._consents.check(tenant, request.refs, uses)
        return pb.CheckConsentsResponse(checks=map(_check, checks))

    async def ListPurposes(self, request: pb.ListPurposesRequest, context: object) -> pb.ListPurposesResponse:
        tenant = await self._tenants.present()
        return pb.ListPurposesResponse(purposes=map(_purpose, await self._consents.purposes(tenant)))

    async def PutPurpose(self, request: pb.PutPurposeRequest, context: object) -> pb.PutPurposeResponse:
        tenant = await self._tenants.present()
        basis = _BASIS_OF.get(request.legal_basis)
        if basis is None:
            raise InvalidArgument(f"a legal basis is one of {', '.join(Basis)}", field="legal_basis")
        row = await self._consents.put_purpose(tenant, request.key, request.description, basis)
        return pb.PutPurposeResponse(purpose=_purpose(row))


def _standing(one: Standing) -> pb.ConsentStanding:
    return pb.ConsentStanding(
        purpose=one.use.purpose,
        channel=one.use.channel.value,
        allowed=one.decision.is_allowed,
        state=_STATES[one.decision.state],
        ground=_GROUNDS[one.decision.ground],
        legal_basis=_BASES[one.basis] if one.basis else pb.LEGAL_BASIS_UNSPECIFIED,
        record=_record(one.decision.record) if one.decision.record else None,
    )


def _record(one: Record) -> pb.ConsentRecord:
    return pb.ConsentRecord(
        purpose=one.purpose,
        channel=one.channel.value,
        state=_STATES[one.state],
        source=one.source,
        proof_version=one.proof_version,
        timestamp=wire.timestamp(one.ts),
        recorded=wire.timestamp(one.recorded),
        event_id=one.event_id.hex(),
    )


def _check(one: Check) -> pb.ConsentCheck:
    return pb.ConsentCheck(profile_id=str(one.profile_id) if one.profile_id else "", allowed=one.allowed)


def _purpose(row: PurposeRow) -> pb.Purpose:
    return pb.Purpose(
        key=row.key, description=row.description, legal_basis=_BASES[row.basis], changed=wire.timestamp(row.changed)
    )
