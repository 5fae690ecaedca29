"""What an evaluation reads and writes: plan, traits, standings; changes with their facts; what still waits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.outbox import Outbox
from services.segmentation.domain import Change, Cuts, Opaque, Plan, Standing, Value
from services.segmentation.store.rows import columns, ensure_tenant, load_cuts, load_segments, move_traits, plan_of, take_turn

_TRAITS: Final = """
SELECT profile_id, name, value FROM segmentation.traits
WHERE tenant_id = $1 AND profile_id = ANY($2) AND name = ANY($3) ORDER BY ts
"""
_STANDINGS: Final = """
SELECT profile_id, segment_key, is_member, since, is_doubtful FROM segmentation.memberships
WHERE tenant_id = $1 AND profile_id = ANY($2)
"""
_SAVE: Final = """
INSERT INTO segmentation.memberships (tenant_id, profile_id, segment_key, is_member, since)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::boolean[], $5::timestamptz[])
ON CONFLICT (tenant_id, profile_id, segment_key) DO UPDATE SET
    is_member = excluded.is_member, since = excluded.since, is_doubtful = false
"""
_CLEAN: Final = """
DELETE FROM segmentation.dirty USING unnest($2::uuid[], $3::bigint[]) AS done (node, mark)
WHERE tenant_id = $1 AND node_id = node AND marks = mark
"""
_POSTPONE: Final = "UPDATE segmentation.dirty SET first_at = now() WHERE tenant_id = $1 AND node_id = ANY($2)"
_OLDEST: Final = """
UPDATE segmentation.tenants
SET waiting_since = (SELECT min(first_at) FROM segmentation.dirty WHERE tenant_id = $1) WHERE tenant_id = $1
"""
_WAITING: Final = """
SELECT tenant_id FROM segmentation.tenants
WHERE waiting_since IS NOT NULL AND (marked_at < now() - $1::interval OR waiting_since < now() - $2::interval)
ORDER BY waiting_since
"""
# Only rows of transactions that every reader may see by now: none can come in before them any more.
_HEAD: Final = """
SELECT xid::text AS xid, seq FROM log.events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY log.events.xid DESC, log.events.seq DESC LIMIT 1
"""
_BACK: Final = """
SELECT xid::text AS xid, seq FROM log.events WHERE tenant_id = $1 AND (xid, seq) <= ($2::text::xid8, $3)
ORDER BY log.events.xid DESC, log.events.seq DESC OFFSET $4 LIMIT 1
"""
_TAKE: Final = """
SELECT node_id, marks, (mark_xid, mark_seq) <= ($2::text::xid8, $3) AS is_settled FROM segmentation.dirty
WHERE tenant_id = $1 AND ((mark_xid, mark_seq) <= ($2::text::xid8, $3) OR first_at < now() - $4::interval)
ORDER BY first_at LIMIT $5
"""
_ADD_CUTS: Final = """
INSERT INTO segmentation.cuts (tenant_id, version, at, customer_count, recency, frequency, monetary)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, version) DO UPDATE SET at = excluded.at, customer_count = excluded.customer_count
"""
_SWEPT: Final = """
UPDATE segmentation.tenants SET swept_turn = greatest(swept_turn, $2), refreshed_at = $3,
    recomputed_at = CASE WHEN $4 THEN $3 ELSE recomputed_at END, checked_at = CASE WHEN $4 THEN now() ELSE checked_at END
WHERE tenant_id = $1
"""
# Where something came in, the clock may have moved; where nothing did, only a clock on the wall has. A flow that never
# pauses puts it off for one interval, of a tenant that is new for ten pauses.
_DUE: Final = """
SELECT tenant_id, recomputed_at, is_unswept FROM segmentation.tenants AS t CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM segmentation.segments AS s WHERE s.tenant_id = t.tenant_id AND s.turn > t.swept_turn
    ) AS is_unswept
) AS definitions
WHERE is_unswept OR checked_at < now() - $1::interval OR (checked_at IS NULL AND seen_at < now() - 10 * $2::interval)
    OR (
        waiting_since IS NULL AND marked_at < now() - $3::interval
        AND (checked_at IS NULL OR (marked_at > checked_at AND checked_at < now() - $2::interval))
    )
ORDER BY tenant_id
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The plan, and the turn that it is good for."""

    turn: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of some profiles."""

    traits: Mapping[UUID, Mapping[str, Value]]
    standings: Mapping[UUID, Mapping[str, Standing]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A node whose profile has to be evaluated. Where not `is_settled`, profiles may not have its newest event yet."""

    node_id: UUID
    marks: int
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Due:
    """A tenant whose memberships may have aged. `is_unswept`: a definition has not seen every profile yet."""

    tenant: str
    recomputed: datetime | None
    is_unswept: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one evaluation. `moves`: nodes that turned out to belong to another profile. `facts` tell of `changes`."""

    changes: Sequence[Change] = ()
    facts: Sequence[bytes] = ()
    moves: Mapping[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    marks: Sequence[Mark] = ()


class EvaluationStore:
    """Everything that decides who is in what."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def load(self, tenant: str) -> Loaded:
        """All segments of a tenant, as they are now."""
        async with self._database.transaction() as connection:
            row = await ensure_tenant(connection, tenant)  # first: what is read after its turn is at least as new
            return Loaded(row["turn"], plan_of(await load_segments(connection, tenant), await load_cuts(connection, tenant)))

    async def known(
        self, tenant: str, profile_of: Mapping[UUID, UUID], *, traits: Sequence[str], with_standings: bool = True
    ) -> Known:
        """Of profiles, where `profile_of` leads from each of their nodes, themselves included. Only traits of these names."""
        async with self._database.transaction() as connection:
            trait_rows = await connection.fetch(_TRAITS, tenant, list(profile_of), traits) if traits else []
            profiles = list(set(profile_of.values()))
            standing_rows = await connection.fetch(_STANDINGS, tenant, profiles) if with_standings else []
        found: dict[UUID, dict[str, Value]] = {}
        for row in trait_rows:  # oldest first: the newest of each name stays
            _put(found.setdefault(profile_of[row["profile_id"]], {}), row["name"], json.loads(row["value"]))
        standings: dict[UUID, dict[str, Standing]] = {}
        for row in standing_rows:
            standings.setdefault(row["profile_id"], {})[row["segment_key"]] = Standing(*row[2:])
        return Known(found, standings)

    async def save(self, tenant: str, turn: int, outcome: Outcome) -> None:
        """Memberships, their facts, and what need not be evaluated any more. Raises Overtaken where the turn is over."""
        async with self._database.transaction() as connection:
            await take_turn(connection, tenant, turn)
            await move_traits(connection, tenant, outcome.moves)
            if outcome.changes:
                rows = [(each.profile_id, each.segment, each.entered, each.at) for each in outcome.changes]
                await connection.execute(_SAVE, tenant, *columns(rows))
                await self._outbox.add(connection, tenant, outcome.facts)
            await _clean(connection, tenant, outcome.marks)

    async def waiting(self, *, quiet_s: float, most_s: float) -> Sequence[str]:
        """Tenants with nodes to evaluate, that have been quiet for a while, or have waited long enough."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_WAITING, timedelta(seconds=quiet_s), timedelta(seconds=most_s))
        return [row["tenant_id"] for row in rows]

    async def log_head(self) -> tuple[int, int]:
        """Position of the newest row of the log that no other can still come in before; (0, 0) in an empty log."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_HEAD)
        return (int(row["xid"]), row["seq"]) if row else (0, 0)

    async def take(self, tenant: str, head: tuple[int, int], lag: int, *, patience_s: float, limit: int) -> Sequence[Mark]:
        """Nodes to evaluate, those that wait longest first.

        `lag` is how many rows of the tenant profiles had not projected, counted after `head` was read. So it has projected
        every row with at least `lag` of the tenant's rows between it and `head`. Nodes whose newest event is later are left
        out, unless they wait over `patience_s`.
        """
        async with self._database.connection() as connection:
            back = await connection.fetchrow(_BACK, tenant, str(head[0]), head[1], lag)
            xid, seq = (back["xid"], back["seq"]) if back else ("0", 0)
            rows = await connection.fetch(_TAKE, tenant, xid, seq, timedelta(seconds=patience_s), limit)
        return [Mark(row["node_id"], row["marks"], row["is_settled"]) for row in rows]

    async def save_cuts(self, tenant: str, turn: int, cuts: Cuts) -> None:
        """Raises Overtaken where the turn is over."""
        async with self._database.transaction() as connection:
            await take_turn(connection, tenant, turn)
            borders = (list(cuts.recency), list(cuts.frequency), list(cuts.monetary))
            await connection.execute(_ADD_CUTS, tenant, cuts.version, cuts.at, cuts.customer_count, *borders)

    async def finish_sweep(self, tenant: str, turn: int, at: datetime, *, with_cuts: bool) -> None:
        """Every profile has been evaluated since `turn`, at the tenant's time `at`; `with_cuts`: quintiles were made anew."""
        async with self._database.connection() as connection:
            await connection.execute(_SWEPT, tenant, turn, at, with_cuts)

    async def due(self, *, interval_s: float, pause_s: float, calm_s: float) -> Sequence[Due]:
        """Tenants to look at: after `interval_s` in any case; after `pause_s` where events came in, the last `calm_s` ago."""
        times = [timedelta(seconds=each) for each in (interval_s, pause_s, calm_s)]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_DUE, *times)
        return [Due(row["tenant_id"], row["recomputed_at"], row["is_unswept"]) for row in rows]

    async def checked(self, tenant: str) -> None:
        """The tenant's clock has been looked at."""
        async with self._database.connection() as connection:
            await connection.execute("UPDATE segmentation.tenants SET checked_at = now() WHERE tenant_id = $1", tenant)

    async def dirty_count(self) -> int:
        """Nodes that wait, of all tenants, counted up to 100,000."""
        count = "SELECT count(*) FROM (SELECT FROM segmentation.dirty LIMIT 100000) AS waiting"
        async with self._database.connection() as connection:
            return await connection.fetchval(count)


async def _clean(connection: Connection, tenant: str, marks: Sequence[Mark]) -> None:
    if not marks:
        return
    settled = [(each.node_id, each.marks) for each in marks if each.is_settled]
    if settled:
        await connection.execute(_CLEAN, tenant, *columns(settled))
    if unsettled := [each.node_id for each in marks if not each.is_settled]:
        await connection.execute(_POSTPONE, tenant, unsettled)
    await connection.execute(_OLDEST, tenant)


def _put(traits: dict[str, Value], name: str, stored: Any) -> None:
    match stored:
        case None:
            traits.pop(name, None)
        case bool() | int() | float():
            traits[name] = float(stored)
        case str():
            traits[name] = stored
        case _:
            traits[name] = Opaque.VALUE
