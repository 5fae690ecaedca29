"""What segmentation keeps of the log: traits, which profiles merged, and whose memberships have to be looked at again."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.log import Cursor, Position
from services.segmentation.domain import Trait
from services.segmentation.store.rows import add_traits, columns, move_traits

_SEEN: Final = """
INSERT INTO segmentation.tenants AS known (tenant_id, marked_at, waiting_since) VALUES ($1, now(), now())
ON CONFLICT (tenant_id) DO UPDATE SET
    marked_at = now(), waiting_since = coalesce(known.waiting_since, now()), turn = known.turn + $2
"""
_MARK: Final = """
INSERT INTO segmentation.dirty AS known (tenant_id, node_id, mark_xid, mark_seq)
SELECT $1, node_id, xid::xid8, seq FROM unnest($2::uuid[], $3::text[], $4::bigint[]) AS touched (node_id, xid, seq)
ON CONFLICT (tenant_id, node_id) DO UPDATE SET
    marks = known.marks + 1, mark_xid = excluded.mark_xid, mark_seq = excluded.mark_seq
"""
# As every other service re-keys what it keeps: who was in a segment with either half is in it, until it is evaluated.
_MOVE_MEMBERSHIPS: Final = """
WITH moves AS (SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS move (source, target)),
gone AS (
    DELETE FROM segmentation.memberships USING moves
    WHERE tenant_id = $1 AND profile_id = source RETURNING target, segment_key, is_member, since
)
INSERT INTO segmentation.memberships AS known (tenant_id, profile_id, segment_key, is_member, since, is_doubtful)
SELECT $1, target, segment_key, bool_or(is_member), max(since), true FROM gone GROUP BY target, segment_key
ON CONFLICT (tenant_id, profile_id, segment_key) DO UPDATE SET
    is_member = known.is_member OR excluded.is_member, since = greatest(known.since, excluded.since),
    is_doubtful = true
"""


# Before those that the fact holds are written.
_DROP_TRAITS: Final = "DELETE FROM segmentation.traits WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"


@dataclass(frozen=True, slots=True)
class Touched:
    """What a batch of the log says of one tenant.

    `nodes`: where in the log each one's newest event is, as (xid, seq). `merges`: from -> into, chains followed. `parted`:
    profiles that are not one any more; `traits` holds theirs, by identifier, and refreshing leads each to its own.
    """

    nodes: Mapping[UUID, tuple[int, int]]
    traits: Sequence[Trait] = ()
    merges: Mapping[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    parted: Set[UUID] = frozenset()


class ProjectionStore:
    """Every write is idempotent."""

    def __init__(self, database: Database, cursor: Cursor) -> None:
        self._database = database
        self._cursor = cursor

    async def apply(self, touched: Mapping[str, Touched], position: Position) -> None:
        """Writes what a batch says, by tenant, and moves the cursor on."""
        async with self._database.transaction() as connection:
            for tenant, each in sorted(touched.items()):
                await _apply(connection, tenant, each)
            await self._cursor.advance(connection, position)


async def _apply(connection: Connection, tenant: str, touched: Touched) -> None:
    # First, since it locks the tenant's row: whoever writes for a tenant does this first. A merge takes a turn.
    await connection.execute(_SEEN, tenant, 1 if touched.merges or touched.parted else 0)
    if touched.parted:
        await connection.execute(_DROP_TRAITS, tenant, list(touched.parted))
    await add_traits(connection, tenant, touched.traits)
    await move_traits(connection, tenant, touched.merges)
    if touched.merges:
        await connection.execute(_MOVE_MEMBERSHIPS, tenant, list(touched.merges), list(touched.merges.values()))
    rows = [(node, str(xid), seq) for node, (xid, seq) in sorted(touched.nodes.items())]
    await connection.execute(_MARK, tenant, *columns(rows))
