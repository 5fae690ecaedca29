"""What people allowed: recorded in the log, told with its reasons, and asked before anybody is read for a purpose.

What is allowed is a matter of the present: who takes consent back is not read any more, at no instant of the past either.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from chassis.errors import Conflict, InvalidArgument, Reason, Unavailable
from services.profiles.domain.clock import microseconds
from services.profiles.domain.consent import (
    FACT,
    Basis,
    Channel,
    Decision,
    Record,
    State,
    Use,
    check_origin,
    decide,
    newest,
    purpose_of,
)
from services.profiles.draft import Fact
from services.profiles.ingest import Ingest
from services.profiles.jsontext import dumps
from services.profiles.lookup import Lookup, node_of, nodes_of
from services.profiles.store.consents import ConsentStore, Known, Place, PurposeRow
from services.profiles.telling import SOURCE
from services.profiles.tenancy import Tenant, Tenants

MAX_USES: Final = 100
MAX_PURPOSES: Final = 200
MAX_DESCRIPTION: Final = 500
# After every record.
END: Final[Place] = (datetime(9999, 1, 1, tzinfo=UTC), b"", "", "")
# What was said is in the log; how long a caller waits until it holds for reads.
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands on a use. `basis` None: the purpose is not declared."""

    use: Use
    decision: Decision
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody said. `ts_us` None: now."""

    use: Use
    state: State
    source: str
    proof_version: str
    ts_us: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """Whether each of the uses is allowed; `profile_id` None: nobody is known, and nothing is allowed."""

    profile_id: UUID | None
    allowed: Sequence[bool]


class Consents:
    """The ledger, and what it decides."""

    def __init__(self, store: ConsentStore, lookup: Lookup, ingest: Ingest, tenants: Tenants) -> None:
        self._store = store
        self._lookup = lookup
        self._ingest = ingest
        self._tenants = tenants

    async def record(self, tenant: Tenant, ref: str, word: Word) -> tuple[UUID, Standing]:
        """Answers once reads go by it. Raises NotFound, InvalidArgument; Unavailable where they do not in time."""
        purpose_of(word.use.purpose, "purpose")
        check_origin(word.source, word.proof_version)
        await self._lookup.one(tenant, ref)
        node_id = node_of(tenant, ref, "ref")
        known = await self._store.known(tenant.tenant_id, [node_id], [word.use.purpose])
        fact = await self._fact(tenant, node_id, word, known)
        _, (receipt,) = await self._ingest.take(tenant, [], [fact])
        if receipt.error is not None:
            raise receipt.error
        known = await self._seen(tenant, node_id, word, tenant.keys.fact_id(fact.message_id))
        profile_id = known.profile_of[node_id]
        return profile_id, _standing(known, profile_id, word.use)

    async def _fact(self, tenant: Tenant, node_id: UUID, word: Word, known: Known) -> Fact:
        """Without a time of its own it comes after all that was said before, whatever the clocks say."""
        now_us = await self._tenants.now_us(tenant)
        ts_us = word.ts_us
        if ts_us is None:
            said = known.records.get(known.profile_of[node_id], [])
            ts_us = max([now_us, *(microseconds(each.ts) + 1 for each in said)])
        elif ts_us > max(now_us, time.time_ns() // 1_000):
            raise InvalidArgument("a consent is of the past; leave the timestamp out for now", field="timestamp")
        use = word.use
        parts = (node_id, use.purpose, use.channel, word.state, word.source, word.proof_version, ts_us)
        said = {
            "purpose": use.purpose,
            "channel": use.channel,
            "state": word.state,
            "source": word.source,
            "proofVersion": word.proof_version,
        }
        message_id = "consent:" + ":".join(map(str, parts))
        return Fact(message_id, str(node_id), FACT, ts_us, dumps(said), b"", SOURCE)

    async def _seen(self, tenant: Tenant, node_id: UUID, word: Word, event_id: bytes) -> Known:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if await self._store.holds(tenant.tenant_id, node_id, word.use.purpose, word.use.channel, event_id):
                return await self._store.known(tenant.tenant_id, [node_id], [word.use.purpose])
            await asyncio.sleep(0.02)
        raise Unavailable("it is recorded, and not to be seen yet: events are being projected", retry_after_s=_PATIENCE_S)

    async def standings(self, tenant: Tenant, node_id: UUID) -> list[Standing]:
        """Of all purposes that were declared or spoken of, for all channels and for those that something was said of.

        Of the person that the node belongs to.
        """
        known = await self._store.known(tenant.tenant_id, [node_id], None)
        profile_id = known.profile_of.get(node_id, node_id)
        records = known.records.get(profile_id, [])
        uses = {Use(purpose) for purpose in known.bases} | {Use(each.purpose, each.channel) for each in records}
        uses |= {Use(each.purpose) for each in records}
        ordered = sorted(uses, key=lambda use: (use.purpose, use.channel is not Channel.ANY, use.channel))
        return [_standing(known, profile_id, use) for use in ordered]

    async def history(self, tenant: Tenant, node_id: UUID, before: Place, limit: int) -> list[Record]:
        """Of the person that the node belongs to, newest first."""
        return await self._store.history(tenant.tenant_id, node_id, before, limit)

    async def check(self, tenant: Tenant, refs: Sequence[str], uses: Sequence[Use]) -> list[Check]:
        """In the order of the references. Raises InvalidArgument."""
        if len(uses) > MAX_USES:
            raise InvalidArgument(f"at most {MAX_USES} uses at a time", field="uses")
        for index, use in enumerate(uses):
            purpose_of(use.purpose, f"uses[{index}].purpose")
        return await self.check_nodes(tenant, nodes_of(tenant, refs), uses)

    async def check_nodes(self, tenant: Tenant, node_ids: Sequence[UUID], uses: Sequence[Use]) -> list[Check]:
        """In the order of the nodes."""
        known = await self._store.known(tenant.tenant_id, node_ids, list({use.purpose for use in uses}))
        checks = {profile_id: _check(known, profile_id, uses) for profile_id in set(known.profile_of.values())}
        nobody = Check(None, [False] * len(uses))
        return [checks[known.profile_of[node_id]] if node_id in known.profile_of else nobody for node_id in node_ids]

    async def purposes(self, tenant: Tenant) -> list[PurposeRow]:
        """Those that were declared, by key."""
        return await self._store.purposes(tenant.tenant_id)

    async def put_purpose(self, tenant: Tenant, key: str, description: str, basis: Basis) -> PurposeRow:
        """Raises InvalidArgument, or Conflict where there are as many as there may be."""
        purpose_of(key, "key")
        if len(description) > MAX_DESCRIPTION or "\x00" in description:
            raise InvalidArgument(f"a description has at most {MAX_DESCRIPTION} characters", field="description")
        row = await self._store.put_purpose(tenant.tenant_id, key, description, basis, most=MAX_PURPOSES - 1)
        if row is None:
            raise Conflict(f"a tenant has at most {MAX_PURPOSES} purposes", reason=Reason.TOO_MANY_PURPOSES, field="key")
        return row


def _standing(known: Known, profile_id: UUID, use: Use) -> Standing:
    basis = known.bases.get(use.purpose)
    records = [each for each in known.records.get(profile_id, []) if each.purpose == use.purpose]
    decision = decide(records, basis, use.channel)
    if decision.record is None and (said := newest(records, use.channel)) is not None:
        # It was taken back: the default decides, and who looks sees since when.
        decision = Decision(decision.is_allowed, decision.state, decision.ground, said)
    return Standing(use, decision, basis)


def _check(known: Known, profile_id: UUID, uses: Sequence[Use]) -> Check:
    return Check(profile_id, [_standing(known, profile_id, use).decision.is_allowed for use in uses])
