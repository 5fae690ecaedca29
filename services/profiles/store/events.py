"""Reads of the timeline, the rejections and the counters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.db import Database

# Each node's newest first, then the newest of all: the index is read in its order, and no further than needed.
_EVENTS = """
SELECT event.* FROM unnest($2::uuid[]) AS node (node_id) CROSS JOIN LATERAL (
    SELECT event_id, type, name, ts, received_at, source, numbers::text, texts::text, rest::text
    FROM profiles.timeline
    WHERE tenant_id = $1 AND timeline.node_id = node.node_id AND (ts, event_id) < ($3, $4)
    ORDER BY ts DESC, event_id DESC LIMIT $5
) AS event
ORDER BY ts DESC, event_id DESC LIMIT $5
"""
_REJECTIONS = """
SELECT rejection_id, received_at, type, reason, field, message FROM profiles.rejections
WHERE tenant_id = $1 AND (received_at, rejection_id) < ($2, $3) ORDER BY received_at DESC, rejection_id DESC LIMIT $4
"""
# As chassis.log.postgres.LAG, of one tenant.
LAG = """
WITH place AS (
    SELECT xid, seq FROM profiles.log_cursor WHERE consumer = 'profiles' UNION ALL SELECT '0', 0 LIMIT 1
)
SELECT count(*) FROM (
    SELECT FROM log.events
    WHERE tenant_id = $1 AND (xid, seq) > ((SELECT xid FROM place), (SELECT seq FROM place))
        AND xid >= (SELECT xid FROM place) AND xid < pg_snapshot_xmax(pg_current_snapshot())
    LIMIT 100000
) AS behind
"""
_COUNTS = """
SELECT coalesce((SELECT event_count FROM profiles.clocks WHERE tenant_id = $1), 0) AS event_count,
    coalesce((SELECT rejected_count FROM profiles.intake_counts WHERE tenant_id = $1), 0) AS rejected_count,
    coalesce((SELECT duplicate_count FROM profiles.intake_counts WHERE tenant_id = $1), 0) AS duplicate_count,
    coalesce((SELECT quarantined_count FROM profiles.intake_counts WHERE tenant_id = $1), 0) AS quarantined_count,
    coalesce((SELECT replayed_count FROM profiles.intake_counts WHERE tenant_id = $1), 0) AS replayed_count
"""


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of the timeline; the last three are JSON objects."""

    event_id: bytes
    type: str
    name: str
    ts: datetime
    received: datetime
    source: str
    numbers: bytes
    texts: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class RejectionRow:
    """As it is stored."""

    rejection_id: bytes
    received: datetime
    type: str
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class IntakeCounts:
    """Of all time: events of customers that were projected, refused, came again, were held back, were replayed of those."""

    event_count: int
    rejected_count: int
    duplicate_count: int
    quarantined_count: int
    replayed_count: int


class EventStore:
    """Queries over timeline, rejections and counters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, tenant_id: str, node_ids: Sequence[UUID], before: tuple[datetime, bytes], limit: int
    ) -> list[EventRow]:
        """Events strictly before (time, event id), newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_EVENTS, tenant_id, node_ids, *before, limit)
        return [EventRow(*row[:6], *(text.encode() for text in row[6:])) for row in map(tuple, rows)]

    async def rejections(self, tenant_id: str, before: tuple[datetime, bytes], limit: int) -> list[RejectionRow]:
        """Rejections strictly before (time, id), newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_REJECTIONS, tenant_id, *before, limit)
        return [RejectionRow(*row) for row in rows]

    async def lag(self, tenant_id: str) -> int:
        """Events in the log that are not projected yet, counted up to 100,000."""
        async with self._database.connection() as connection:
            return await connection.fetchval(LAG, tenant_id)

    async def counts(self, tenant_id: str) -> IntakeCounts:
        """The counters."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_COUNTS, tenant_id)
        return IntakeCounts(*row) if row else IntakeCounts(0, 0, 0, 0, 0)
