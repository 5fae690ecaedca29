"""Appending to the event log: receipts, events, new people's keys and refusals, all in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.db import Connection, Database

_KEYS = "SELECT node_id, wrapped_key FROM profiles.person_keys WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_ADD_KEYS = """
INSERT INTO profiles.person_keys (tenant_id, node_id, wrapped_key)
SELECT $1, node_id, wrapped_key FROM unnest($2::uuid[], $3::bytea[]) AS new (node_id, wrapped_key)
ON CONFLICT DO NOTHING RETURNING node_id
"""
# The hashes come sorted: two batches with the same events wait for each other instead of dying of a deadlock. Nothing is
# returned: that nearly always all are new is told by their number.
_ADD_RECEIPTS = """
INSERT INTO log.receipts (tenant_id, message_hash, received_at)
SELECT $1, message_hash, $3 FROM unnest($2::bytea[]) AS new (message_hash) ON CONFLICT DO NOTHING
"""
_FRESH = """
SELECT message_hash FROM log.receipts
WHERE tenant_id = $1 AND message_hash = ANY($2::bytea[]) AND xid = pg_current_xact_id()
"""
_ADD_REJECTIONS = """
INSERT INTO profiles.rejections (tenant_id, rejection_id, received_at, type, reason, field, message)
SELECT $1, * FROM unnest($2::bytea[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[])
ON CONFLICT DO NOTHING
"""
_COUNT = """
INSERT INTO profiles.intake_counts AS counts (tenant_id, rejected_count, duplicate_count) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) DO UPDATE SET
    rejected_count = counts.rejected_count + $2, duplicate_count = counts.duplicate_count + $3
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log. `event_id` decides whether it is a duplicate; `key` keeps its order among others of the key."""

    event_id: bytes
    key: UUID | None
    received: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not taken, without anything personal. `refusal_id`: a repeat of the same call has the same."""

    refusal_id: bytes
    received: datetime
    type: str
    reason: str
    field: str
    message: str


class LogStore:
    """The only writer of log.events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, tenant_id: str, node_ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """The wrapped keys of those people who have one."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_KEYS, tenant_id, node_ids)
        return {row["node_id"]: row["wrapped_key"] for row in rows}

    async def append(
        self,
        tenant_id: str,
        entries: Sequence[Entry],
        new_keys: Mapping[UUID, bytes],
        seal_again: Callable[[Mapping[UUID, bytes]], Sequence[Entry]],
        refusals: Sequence[Refusal] = (),
        repeated_count: int = 0,
    ) -> set[bytes]:
        """The event ids that are new; the others were in the log before. On disk when it returns.

        Where another call was first to store a key for somebody new, `seal_again` is given that key (and all others like it)
        and answers the entries sealed with it. No event id comes twice in `entries`; `repeated_count` is how many were left
        out for that.
        """
        fresh: set[bytes] = set()
        async with self._database.transaction() as connection:
            if new_keys and (taken := await _add_keys(connection, tenant_id, new_keys)):
                entries = seal_again(taken)
            if entries:
                fresh = await append_entries(connection, tenant_id, entries)
            rejected_count = await _add_refusals(connection, tenant_id, refusals) if refusals else 0
            duplicate_count = len(entries) - len(fresh) + repeated_count
            if rejected_count or duplicate_count:
                # Last, since all batches of the tenant meet at this row.
                await connection.execute(_COUNT, tenant_id, rejected_count, duplicate_count)
        return fresh


async def append_entries(connection: Connection, tenant_id: str, entries: Sequence[Entry]) -> set[bytes]:
    """Receipts and events, in the caller's transaction; returns the event ids that are new."""
    event_ids = sorted([entry.event_id for entry in entries])
    done = await connection.execute(_ADD_RECEIPTS, tenant_id, event_ids, entries[0].received)
    if _count(done) == len(entries):
        fresh = set(event_ids)
    else:
        fresh = {row[0] for row in await connection.fetch(_FRESH, tenant_id, event_ids)}
    if fresh:
        await connection.copy_records_to_table(
            "events",
            schema_name="log",
            columns=("tenant_id", "key", "received_at", "payload"),
            records=[(tenant_id, entry.key, entry.received, entry.payload) for entry in entries if entry.event_id in fresh],
        )
    return fresh


def _count(command_tag: str) -> int:
    """Rows that an INSERT wrote."""
    return int(command_tag.rsplit(" ", 1)[1])


async def _add_keys(connection: Connection, tenant_id: str, new_keys: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    """The keys that others stored first: the insert waited for them, so they are there now."""
    node_ids = sorted(new_keys)
    rows = await connection.fetch(_ADD_KEYS, tenant_id, node_ids, [new_keys[node_id] for node_id in node_ids])
    taken = new_keys.keys() - {row["node_id"] for row in rows}
    if not taken:
        return {}
    return {row["node_id"]: row["wrapped_key"] for row in await connection.fetch(_KEYS, tenant_id, list(taken))}


async def _add_refusals(connection: Connection, tenant_id: str, refusals: Sequence[Refusal]) -> int:
    ordered = sorted(refusals, key=lambda refusal: refusal.refusal_id)
    done = await connection.execute(
        _ADD_REJECTIONS,
        tenant_id,
        [refusal.refusal_id for refusal in ordered],
        [refusal.received for refusal in ordered],
        [refusal.type for refusal in ordered],
        [refusal.reason for refusal in ordered],
        [refusal.field for refusal in ordered],
        [refusal.message for refusal in ordered],
    )
    return _count(done)
