"""What receipts are answered from: messages that came again, refusals, and the log's own receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.db import Connection, Database, affected

_ADD_REFUSALS = """
INSERT INTO profiles.rejections (tenant_id, rejection_id, received_at, type, reason, field, message, message_hash)
SELECT $1, * FROM unnest($2::bytea[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
ON CONFLICT DO NOTHING
"""
# Sorted, as all rows that several batches may want.
_ADD_REPEATS = """
INSERT INTO profiles.repeats AS known (tenant_id, message_hash, repeat_count, last_received)
SELECT $1, message_hash, count, $4 FROM unnest($2::bytea[], $3::bigint[]) AS new (message_hash, count)
ON CONFLICT (tenant_id, message_hash) DO UPDATE SET
    repeat_count = known.repeat_count + excluded.repeat_count,
    last_received = greatest(known.last_received, excluded.last_received)
"""
_ACCEPTED = "SELECT received_at FROM log.receipts WHERE tenant_id = $1 AND message_hash = $2"
_REPEATS = "SELECT repeat_count, last_received FROM profiles.repeats WHERE tenant_id = $1 AND message_hash = $2"
_REFUSED = """
SELECT received_at, type, reason, field, message FROM profiles.rejections
WHERE tenant_id = $1 AND message_hash = $2 ORDER BY received_at DESC, rejection_id LIMIT $3
"""
_HELD = """
SELECT event_id, state, received_at, decided_at, type, name, plan_version, rule, field, message FROM profiles.quarantine
WHERE tenant_id = $1 AND event_id = $2
"""
_FORGOTTEN = "SELECT forgotten_through FROM profiles.intake_counts WHERE tenant_id = $1"
_FORGET_REFUSALS = """
WITH gone AS (
    DELETE FROM profiles.rejections WHERE ctid IN (
        SELECT ctid FROM profiles.rejections WHERE received_at < $1 LIMIT $2
    ) RETURNING tenant_id, received_at
), told AS (
    UPDATE profiles.intake_counts AS counts
    SET forgotten_through = greatest(counts.forgotten_through, newest.received_at)
    FROM (SELECT tenant_id, max(received_at) AS received_at FROM gone GROUP BY tenant_id) AS newest
    WHERE counts.tenant_id = newest.tenant_id
)
SELECT count(*) FROM gone
"""
_OVER = """
SELECT counts.tenant_id, (
    SELECT received_at FROM profiles.rejections AS rejection WHERE rejection.tenant_id = counts.tenant_id
    ORDER BY received_at DESC, rejection_id OFFSET $1 LIMIT 1
) AS before
FROM profiles.intake_counts AS counts WHERE counts.rejected_count > $1
"""
_PRUNE = """
WITH gone AS (
    DELETE FROM profiles.rejections WHERE tenant_id = $1 AND ctid IN (
        SELECT ctid FROM profiles.rejections WHERE tenant_id = $1 AND received_at <= $2 LIMIT $3
    ) RETURNING received_at
), told AS (
    UPDATE profiles.intake_counts SET forgotten_through = greatest(forgotten_through, newest.received_at)
    FROM (SELECT max(received_at) AS received_at FROM gone) AS newest
    WHERE tenant_id = $1 AND newest.received_at IS NOT NULL
)
SELECT count(*) FROM gone
"""
_FORGET_REPEATS = """
DELETE FROM profiles.repeats WHERE ctid IN (SELECT ctid FROM profiles.repeats WHERE last_received < $1 LIMIT $2)
"""
# Rows a statement deletes: one that takes minutes would hold up what waits behind it.
_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not taken, without anything personal. `refusal_id`: a repeat of the same call has the same."""

    refusal_id: bytes
    received: datetime
    type: str
    reason: str
    field: str
    message: str
    message_hash: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as it is told."""

    received: datetime
    type: str
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Held:
    """An event in quarantine, or that was there."""

    event_id: bytes
    state: str
    received: datetime
    decided: datetime | None
    type: str
    name: str
    plan_version: int
    rule: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a message."""

    accepted: datetime | None
    repeat_count: int
    last_repeat: datetime | None
    refusals: Sequence[Refused]
    held: Held | None
    # Rejections up to then are forgotten.
    forgotten_through: datetime | None


async def add_refusals(connection: Connection, tenant_id: str, refusals: Sequence[Refusal]) -> None:
    """In the caller's transaction; a repeat of the same call adds nothing."""
    ordered = sorted(refusals, key=lambda refusal: refusal.refusal_id)
    await connection.execute(
        _ADD_REFUSALS,
        tenant_id,
        [refusal.refusal_id for refusal in ordered],
        [refusal.received for refusal in ordered],
        [refusal.type for refusal in ordered],
        [refusal.reason for refusal in ordered],
        [refusal.field for refusal in ordered],
        [refusal.message for refusal in ordered],
        [refusal.message_hash for refusal in ordered],
    )


async def add_repeats(connection: Connection, tenant_id: str, repeats: Mapping[bytes, int], received: datetime) -> None:
    """Messages that came again, and how often, in the caller's transaction."""
    hashes = sorted(repeats)
    await connection.execute(_ADD_REPEATS, tenant_id, hashes, [repeats[each] for each in hashes], received)


class ReceiptStore:
    """Reads of what became of messages, and forgetting it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def story(self, tenant_id: str, message_hash: bytes, most: int) -> Story:
        """At most `most` refusals, newest first."""
        async with self._database.transaction() as connection:
            accepted = await connection.fetchval(_ACCEPTED, tenant_id, message_hash)
            repeats = await connection.fetchrow(_REPEATS, tenant_id, message_hash)
            refused = await connection.fetch(_REFUSED, tenant_id, message_hash, most)
            held = await connection.fetchrow(_HELD, tenant_id, message_hash)
            forgotten = await connection.fetchval(_FORGOTTEN, tenant_id)
        return Story(
            accepted=accepted,
            repeat_count=repeats[0] if repeats else 0,
            last_repeat=repeats[1] if repeats else None,
            refusals=[Refused(*row) for row in refused],
            held=Held(*held) if held else None,
            forgotten_through=forgotten,
        )

    async def forget_refusals(self, before: datetime) -> int:
        """Of all tenants; returns how many."""
        return await self._in_steps(_FORGET_REFUSALS, before)

    async def prune_refusals(self, keep: int) -> int:
        """Keeps each tenant's newest; returns how many went."""
        async with self._database.connection() as connection:
            over = await connection.fetch(_OVER, keep)
        return sum([await self._in_steps(_PRUNE, row[0], row[1]) for row in over if row[1] is not None])

    async def forget_repeats(self, before: datetime) -> int:
        """Of all tenants; returns how many."""
        total = 0
        while True:
            async with self._database.connection() as connection:
                done = await connection.execute(_FORGET_REPEATS, before, _AT_ONCE)
            total += (count := affected(done))
            if count < _AT_ONCE:
                return total

    async def _in_steps(self, statement: str, *arguments: object) -> int:
        total = 0
        while True:
            async with self._database.connection() as connection:
                count: int = await connection.fetchval(statement, *arguments, _AT_ONCE)
            total += count
            if count < _AT_ONCE:
                return total
