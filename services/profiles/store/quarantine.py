"""Events that the tracking plan holds back: sealed as in the log, until somebody decides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.db import Connection, Database, affected

# What was discarded, and comes again, waits again. What is in the log is not held.
_HOLD = """
INSERT INTO profiles.quarantine AS held (
    tenant_id, event_id, node_id, received_at, payload, ts, type, name, plan_version, rule, field, message
)
SELECT $1, new.* FROM unnest(
    $2::bytea[], $3::uuid[], $4::timestamptz[], $5::bytea[], $6::timestamptz[], $7::text[], $8::text[], $9::integer[],
    $10::text[], $11::text[], $12::text[]
) AS new (event_id, node_id, received_at, payload, ts, type, name, plan_version, rule, field, message)
WHERE NOT EXISTS (SELECT FROM log.receipts WHERE receipts.tenant_id = $1 AND receipts.message_hash = new.event_id)
ON CONFLICT (tenant_id, event_id) DO UPDATE SET
    node_id = excluded.node_id, received_at = excluded.received_at, payload = excluded.payload, ts = excluded.ts,
    type = excluded.type, name = excluded.name, plan_version = excluded.plan_version, rule = excluded.rule,
    field = excluded.field, message = excluded.message, state = 'waiting', decided_at = NULL
WHERE held.state IN ('discarded', 'expired')
RETURNING event_id
"""
_RECEIVED = """
SELECT event_id, received_at FROM profiles.quarantine WHERE tenant_id = $1 AND event_id = ANY($2::bytea[])
"""
_LOCK = """
SELECT event_id FROM profiles.quarantine
WHERE tenant_id = $1 AND event_id = ANY($2::bytea[]) AND state = 'waiting' ORDER BY event_id FOR UPDATE
"""
_DECIDE = """
UPDATE profiles.quarantine SET state = $2, decided_at = $4, payload = NULL
WHERE tenant_id = $1 AND event_id = ANY($3::bytea[]) AND state = 'waiting'
"""
_COLUMNS = "event_id, node_id, received_at, payload, ts, type, name, plan_version, rule, field, message"
_NEWEST = f"""
SELECT {_COLUMNS} FROM profiles.quarantine
WHERE tenant_id = $1 AND state = 'waiting' AND (received_at, event_id) < ($2, $3)
ORDER BY received_at DESC, event_id DESC LIMIT $4
"""
_OLDEST = f"""
SELECT {_COLUMNS} FROM profiles.quarantine
WHERE tenant_id = $1 AND state = 'waiting' AND (received_at, event_id) > ($2, $3) ORDER BY received_at, event_id LIMIT $4
"""
_FIND = f"SELECT {_COLUMNS} FROM profiles.quarantine WHERE tenant_id = $1 AND event_id = $2 AND state = 'waiting'"
_EXPIRE = """
UPDATE profiles.quarantine SET state = 'expired', decided_at = now(), payload = NULL
WHERE state = 'waiting' AND received_at < $1
"""
_FORGET = "DELETE FROM profiles.quarantine WHERE state <> 'waiting' AND decided_at < $1"
_WAITING = "SELECT count(*) FROM profiles.quarantine WHERE state = 'waiting'"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an event is held back, without anything personal."""

    ts: datetime
    type: str
    name: str
    plan_version: int
    rule: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event as it would be appended."""

    event_id: bytes
    node_id: UUID | None
    received: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """An event that waits, and why."""

    event: Waiting
    hold: Hold


async def hold(connection: Connection, tenant_id: str, events: Sequence[Waiting], holds: Mapping[bytes, Hold]) -> set[bytes]:
    """In the caller's transaction; returns those that wait for it. The others are in the log, or waited before."""
    ordered = sorted(events, key=lambda event: event.event_id)
    why = [holds[event.event_id] for event in ordered]
    rows = await connection.fetch(
        _HOLD,
        tenant_id,
        [event.event_id for event in ordered],
        [event.node_id for event in ordered],
        [event.received for event in ordered],
        [event.payload for event in ordered],
        [each.ts for each in why],
        [each.type for each in why],
        [each.name for each in why],
        [each.plan_version for each in why],
        [each.rule for each in why],
        [each.field for each in why],
        [each.message for each in why],
    )
    return {row[0] for row in rows}


async def received(connection: Connection, tenant_id: str, event_ids: Sequence[bytes]) -> dict[bytes, datetime]:
    """When those came that are, or were, in quarantine."""
    return {row[0]: row[1] for row in await connection.fetch(_RECEIVED, tenant_id, event_ids)}


async def lock(connection: Connection, tenant_id: str, event_ids: Sequence[bytes]) -> set[bytes]:
    """Those that wait; nobody else decides on them until the transaction ends."""
    return {row[0] for row in await connection.fetch(_LOCK, tenant_id, event_ids)}


async def decide(connection: Connection, tenant_id: str, state: str, event_ids: Collection[bytes], at: datetime) -> bool:
    """Ends the waiting, and drops the events' content. False: none of them waited."""
    if not event_ids:
        return False
    done = await connection.execute(_DECIDE, tenant_id, state, list(event_ids), at)
    return not done.endswith(" 0")


class QuarantineStore:
    """Reads of what waits, and ends of waiting that append nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, tenant_id: str, before: tuple[datetime, bytes], limit: int) -> list[WaitingRow]:
        """Strictly before (received, event id), newest first."""
        async with self._database.connection() as connection:
            return [_row(row) for row in await connection.fetch(_NEWEST, tenant_id, *before, limit)]

    async def oldest(self, tenant_id: str, after: tuple[datetime, bytes], limit: int) -> list[WaitingRow]:
        """Strictly after (received, event id), oldest first."""
        async with self._database.connection() as connection:
            return [_row(row) for row in await connection.fetch(_OLDEST, tenant_id, *after, limit)]

    async def find(self, tenant_id: str, event_id: bytes) -> WaitingRow | None:
        """None where it does not wait."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant_id, event_id)
        return _row(row) if row else None

    async def discard(self, tenant_id: str, event_id: bytes, at: datetime) -> bool:
        """False: it does not wait."""
        async with self._database.connection() as connection:
            return await decide(connection, tenant_id, "discarded", [event_id], at)

    async def expire(self, before: datetime) -> int:
        """What waits since before then waits no longer; returns how many. Its receipts say so."""
        async with self._database.connection() as connection:
            return affected(await connection.execute(_EXPIRE, before))

    async def forget(self, before: datetime) -> int:
        """What was decided before then; returns how many."""
        async with self._database.connection() as connection:
            return affected(await connection.execute(_FORGET, before))

    async def waiting_count(self) -> int:
        """Of all tenants."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_WAITING)


def _row(row: Any) -> WaitingRow:
    values = tuple(row)
    return WaitingRow(Waiting(*values[:4]), Hold(*values[4:]))
