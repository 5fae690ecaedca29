"""A person's word on who is who, and why profiles are one."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import Conflict, InvalidArgument, Reason, Unavailable
from services.profiles.domain.identifiers import told_in
from services.profiles.domain.identity import (
    Link,
    Pair,
    Refusal,
    Resolved,
    Ruling,
    histories,
    pair_of,
)
from services.profiles.domain.rulings import LINKED, PARTED
from services.profiles.draft import Fact
from services.profiles.ingest import Ingest
from services.profiles.jsontext import dumps, loads
from services.profiles.lookup import Lookup, node_of
from services.profiles.people import People, unknown_profile
from services.profiles.store.identities import Evidence, IdentityStore, NodeRow
from services.profiles.store.issues import IssueStore
from services.profiles.store.kinship import Kin
from services.profiles.store.profiles import ProfileStore
from services.profiles.telling import SOURCE
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.vault import Unreadable, open_sealed

MAX_REASON: Final = 500
MAX_LINKS_SHOWN: Final = 500
# What was said is in the log; how long a caller waits to see it.
_PATIENCE_S: Final = 5.0
_TICK_US: Final = 999


@dataclass(frozen=True, slots=True)
class Graph:
    """Why the `nodes` are one profile. `since`: when each came to it; `refused`: why a link joins nobody."""

    profile_id: UUID
    nodes: Sequence[NodeRow]
    since: Mapping[UUID, datetime]
    shared: frozenset[UUID]
    personal: Mapping[UUID, str]
    links: Sequence[Link]
    evidence: Mapping[bytes, Evidence]
    refused: Mapping[Pair, Refusal]
    rulings: Sequence[Ruling]
    in_force: frozenset[bytes]


class Identities:
    """Links, parts, explains."""

    def __init__(
        self,
        tenants: Tenants,
        profiles: ProfileStore,
        store: IdentityStore,
        issues: IssueStore,
        ingest: Ingest,
        people: People,
    ) -> None:
        self._tenants = tenants
        self._lookup = Lookup(profiles)
        self._profiles = profiles
        self._store = store
        self._issues = issues
        self._ingest = ingest
        self._people = people

    async def link(self, tenant: Tenant, ref: str, other_ref: str, reason: str, message_id: str) -> UUID:
        """The profile that both are now. Raises NotFound, InvalidArgument; Conflict where a limit forbids it."""
        _check_reason(reason)
        one, other = await self._lookup.one(tenant, ref), await self._lookup.one(tenant, other_ref)
        if one == other:
            return one
        kin, resolved = await self._store.around(tenant.tenant_id, [one, other])
        pairs = {pair_of(one, other), *_parted_between(kin, resolved, one, other)}
        since_us = _next_us(kin.rulings, await self._tenants.now_us(tenant))
        _check_limits(kin, one, other, pairs, since_us)
        await self._say(tenant, LINKED, sorted(pairs), kin, since_us, reason, message_id)
        return (await self._wait(tenant, one, other, are_one=True))[0]

    async def part(self, tenant: Tenant, ref: str, part: str, from_: str, reason: str, message_id: str) -> tuple[UUID, UUID]:
        """(where `from_` belongs now, where `part` does). Raises NotFound, InvalidArgument."""
        _check_reason(reason)
        profile_id = await self._lookup.one(tenant, ref)
        gone = node_of(tenant, part, "part")
        stays = node_of(tenant, from_, "from") if from_ else profile_id
        if gone == stays:
            raise InvalidArgument(
                "this identifier names the profile itself; say in `from` which of the others it is not", field="part"
            )
        kin, _ = await self._store.around(tenant.tenant_id, [profile_id])
        now = await self._profiles.resolve(tenant.tenant_id, [gone, stays, profile_id])
        profile_id = now.get(profile_id, profile_id)  # part of another meanwhile
        for node, field in ((gone, "part"), (stays, "from")):
            if node not in now or (now[node] != profile_id and not _is_parted(kin.rulings, pair_of(gone, stays))):
                raise InvalidArgument(f"{field} is no identifier of this profile; its identity graph lists them", field=field)
        if now[gone] != now[stays]:
            return now[stays], now[gone]
        since_us = _next_us(kin.rulings, await self._tenants.now_us(tenant))
        await self._say(tenant, PARTED, [pair_of(gone, stays)], kin, since_us, reason, message_id)
        apart = await self._wait(tenant, stays, gone, are_one=False)
        return apart[0], apart[1]

    async def _say(
        self, tenant: Tenant, name: str, pairs: Sequence[Pair], kin: Kin, us: int, reason: str, message_id: str
    ) -> None:
        """Appends it to the log. Without an id of the caller's, the same word on the same state is said once."""
        newest = max(kin.rulings, key=lambda each: (each.since_us, each.event_id), default=None)
        state = newest.event_id.hex() if newest else ""
        personal = dumps({"reason": reason})
        facts = [
            Fact(
                message_id=f"{name}:{message_id or state}:{a}:{b}",
                profile_id=str(a),
                name=name,
                ts_us=us,
                properties=dumps({"a": str(a), "b": str(b)}),
                personal=personal,
                source=SOURCE,
            )
            for a, b in pairs
        ]
        _, receipts = await self._ingest.take(tenant, [], facts)
        for receipt in receipts:
            if receipt.error is not None:
                raise receipt.error

    async def _wait(self, tenant: Tenant, one: UUID, other: UUID, *, are_one: bool) -> tuple[UUID, UUID]:
        """Until the projections show it. Raises Unavailable; then it is in the log all the same."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            now = await self._profiles.resolve(tenant.tenant_id, [one, other])
            if (now[one] == now[other]) == are_one:
                return now[one], now[other]
            await asyncio.sleep(0.02)
        raise Unavailable("it is recorded, and not to be seen yet: events are being projected", retry_after_s=_PATIENCE_S)

    async def graph(self, tenant: Tenant, ref: str, *, with_personal: bool) -> Graph:
        """Raises NotFound, or InvalidArgument."""
        profile_id = await self._lookup.one(tenant, ref)
        kin, resolved = await self._store.around(tenant.tenant_id, [profile_id])
        if profile_id not in resolved.steps:
            raise unknown_profile("ref")
        profile_id = resolved.steps[profile_id][-1].profile_id  # part of another meanwhile
        mine = [node for node, steps in resolved.steps.items() if steps[-1].profile_id == profile_id]
        links = sorted((link for link in kin.links if not {link.a, link.b}.isdisjoint(mine)), key=lambda link: link.order)[
            :MAX_LINKS_SHOWN
        ]
        ends = list({*mine, *(end for link in links for end in (link.a, link.b))})
        rows = await self._store.nodes(tenant.tenant_id, mine)
        outward = {(link.a, link.b): Refusal.LIMIT for link in links if link.a not in kin.steps or link.b not in kin.steps}
        rulings = [ruling for ruling in kin.rulings if not {ruling.a, ruling.b}.isdisjoint(mine)]
        return Graph(
            profile_id=profile_id,
            nodes=sorted(rows.values(), key=lambda row: row.node_id),
            since=await self._since(tenant, profile_id),
            shared=frozenset(await self._issues.shared(tenant.tenant_id, mine)),
            personal=await self._personal(tenant, mine) if with_personal else {},
            links=links,
            evidence=await self._store.evidence(tenant.tenant_id, ends, [link.event_id for link in links if link.event_id]),
            refused=outward | resolved.refused,
            rulings=rulings,
            in_force=frozenset(ruling.event_id for ruling in _newest(rulings).values()),
        )

    async def _since(self, tenant: Tenant, profile_id: UUID) -> dict[UUID, datetime]:
        row = await self._profiles.of_node(tenant.tenant_id, profile_id)
        return {each.node_id: each.since for each in row.identities} if row else {}

    async def _personal(self, tenant: Tenant, nodes: Sequence[UUID]) -> dict[UUID, str]:
        """Identifiers as identify calls told them, where a key still opens that."""
        rows = await self._store.sealed(tenant.tenant_id, nodes)
        ciphers = await self._people.ciphers(tenant, {row.node_id for row in rows})
        found: dict[UUID, str] = {}
        for row in rows:
            if (cipher := ciphers.get(row.node_id)) is None:
                continue
            try:
                plain = loads(open_sealed(cipher, row.sealed, tenant.keys.of_event(row.event_id)))
            except (Unreadable, msgspec.MsgspecError):
                continue
            for namespace, value in told_in(plain):
                found.setdefault(tenant.keys.node_id(namespace, value), value)
        return {node: found[node] for node in nodes if node in found}


def _check_reason(reason: str) -> None:
    if not 0 < len(reason.strip()) <= MAX_REASON or "\x00" in reason:
        raise InvalidArgument(f"reason has 1 to {MAX_REASON} characters, without NUL", field="reason")


def _newest(rulings: Sequence[Ruling]) -> dict[Pair, Ruling]:
    return {(each.a, each.b): each for each in sorted(rulings, key=lambda each: (each.since_us, each.event_id))}


def _is_parted(rulings: Sequence[Ruling], pair: Pair) -> bool:
    newest = _newest(rulings).get(pair)
    return newest is not None and newest.is_parted


def _parted_between(kin: Kin, resolved: Resolved, one: UUID, other: UUID) -> set[Pair]:
    """The pairs that keep two profiles apart."""
    now = {node: steps[-1].profile_id for node, steps in resolved.steps.items()}
    return {
        pair
        for pair, ruling in _newest(kin.rulings).items()
        if ruling.is_parted and {now[pair[0]], now[pair[1]]} == {one, other}
    }


def _next_us(rulings: Sequence[Ruling], now_us: int) -> int:
    """A little before the present, where a read of the present sees it, and after all that was said before."""
    return max([now_us - _TICK_US, *(ruling.since_us + 1 for ruling in rulings)])


def _check_limits(kin: Kin, one: UUID, other: UUID, pairs: set[Pair], us: int) -> None:
    """Raises Conflict where the two would not become one."""
    rulings = [*kin.rulings, *(Ruling(a, b, us, b"\xff" * 16, is_parted=False) for a, b in pairs)]
    link = Link(*pair_of(one, other), us, b"\xff" * 16)
    then = histories(kin.steps, [*kin.links, link], rulings, late=kin.late)
    if then.steps[one][-1].profile_id != then.steps[other][-1].profile_id:
        why = then.refused.get((link.a, link.b), Refusal.LIMIT).value
        raise Conflict(f"the two cannot be one: {why}", reason=Reason.IDENTITY_LIMIT, field="other")
