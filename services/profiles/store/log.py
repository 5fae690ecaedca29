"""Appending to the event log: receipts, events, new people's keys, and what was not taken, all in one transaction."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.db import Connection, Database
from services.profiles.store import plans, quarantine, receipts
from services.profiles.store.quarantine import Hold, Waiting
from services.profiles.store.receipts import Refusal

_KEYS = "SELECT node_id, wrapped_key FROM profiles.person_keys WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_ADD_KEYS = """
INSERT INTO profiles.person_keys (tenant_id, node_id, wrapped_key)
SELECT $1, node_id, wrapped_key FROM unnest($2::uuid[], $3::bytea[]) AS new (node_id, wrapped_key)
ON CONFLICT DO NOTHING RETURNING node_id
"""
# Receipts, events and what came again, in one statement: a trip to the database costs more than it does. Rows that several
# calls may want are locked in one order, those of messages by their hashes and then the tenant's counts, where all calls meet:
# so they wait for each other, shortly, instead of dying of a deadlock. That is why `counted` counts what the others wrote: a
# statement does not finish the one part before it begins the next, unless that one asks for all of it.
# It answers with the hashes that came before. What is known is a column and not a join, which would be planned for few rows.
_APPEND = """
WITH new AS MATERIALIZED (
    SELECT * FROM unnest($2::bytea[], $3::uuid[], $4::timestamptz[], $5::bytea[], $6::bigint[]) WITH ORDINALITY
        AS new (message_hash, key, received_at, payload, repeats, position)
), fresh AS (
    INSERT INTO log.receipts (tenant_id, message_hash, received_at)
    SELECT $1, message_hash, received_at FROM new ORDER BY message_hash ON CONFLICT DO NOTHING RETURNING message_hash
), told AS MATERIALIZED (
    SELECT *, message_hash NOT IN (SELECT message_hash FROM fresh) AS is_known FROM new
), written AS (
    INSERT INTO log.events (tenant_id, key, received_at, payload)
    SELECT $1, key, received_at, payload FROM told WHERE NOT is_known ORDER BY position RETURNING 1
), again AS (
    INSERT INTO profiles.repeats AS known (tenant_id, message_hash, repeat_count, last_received)
    SELECT $1, message_hash, repeats + is_known::int, received_at FROM told
    WHERE $7 AND (is_known OR repeats > 0) ORDER BY message_hash
    ON CONFLICT (tenant_id, message_hash) DO UPDATE SET
        repeat_count = known.repeat_count + excluded.repeat_count,
        last_received = greatest(known.last_received, excluded.last_received)
    RETURNING 1
), counted AS (
    INSERT INTO profiles.intake_counts AS counts (tenant_id, duplicate_count)
    SELECT $1, sum(repeats + is_known::int) FROM told
    WHERE (SELECT count(*) FROM again) > 0 AND (SELECT count(*) FROM written) >= 0 HAVING count(*) > 0
    ON CONFLICT (tenant_id) DO UPDATE SET duplicate_count = counts.duplicate_count + excluded.duplicate_count
)
SELECT message_hash FROM told WHERE is_known
"""
_ADD_OLD_RECEIPTS = """
INSERT INTO log.receipts (tenant_id, message_hash, received_at)
SELECT $1, message_hash, received_at FROM unnest($2::bytea[], $3::timestamptz[]) AS new (message_hash, received_at)
ON CONFLICT DO NOTHING RETURNING message_hash
"""
# Not COPY, which PostgreSQL refuses where rows have a policy.
_ADD_EVENTS = """
INSERT INTO log.events (tenant_id, key, received_at, payload)
SELECT $1, key, received_at, payload FROM unnest($2::uuid[], $3::timestamptz[], $4::bytea[]) AS new (key, received_at, payload)
"""
_FIRSTS = "SELECT message_hash, received_at FROM log.receipts WHERE tenant_id = $1 AND message_hash = ANY($2::bytea[])"
_COUNT = """
INSERT INTO profiles.intake_counts AS counts (tenant_id, rejected_count, duplicate_count, quarantined_count, replayed_count)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id) DO UPDATE SET
    rejected_count = counts.rejected_count + $2, duplicate_count = counts.duplicate_count + $3,
    quarantined_count = counts.quarantined_count + $4, replayed_count = counts.replayed_count + $5
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log. `event_id` decides whether it is a duplicate; `key` keeps its order among others of the key."""

    event_id: bytes
    key: UUID | None
    received: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class Aside:
    """What comes with the entries of a call and is not appended."""

    # Of those entries that are to wait in quarantine, by event id.
    holds: Mapping[bytes, Hold] = field(default_factory=dict[bytes, Hold])
    refusals: Sequence[Refusal] = ()
    # How often an entry's message came again within the call, by event id.
    repeats: Mapping[bytes, int] = field(default_factory=dict[bytes, int])
    # Counted where the entry is appended or held; refused ones by the id of their refusal.
    breaches: Sequence[plans.Breach] = ()

    @property
    def is_told(self) -> bool:
        """Whether there is more to write than entries and repeats."""
        return bool(self.holds or self.refusals or self.breaches)


NOTHING_ASIDE = Aside()


@dataclass(slots=True)
class Appended:
    """What became of the entries. Whatever is neither fresh nor held came before: `firsts` says when."""

    fresh: set[bytes] = field(default_factory=set[bytes])
    held: set[bytes] = field(default_factory=set[bytes])
    firsts: dict[bytes, datetime] = field(default_factory=dict[bytes, datetime])
    # Those whose first is itself held.
    waiting: set[bytes] = field(default_factory=set[bytes])


class _Changed(Exception):
    """What was to be replayed is no longer waiting."""


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
        aside: Aside = NOTHING_ASIDE,
    ) -> Appended:
        """On disk when it returns. No event id comes twice in `entries`.

        Where another call was first to store a key for somebody new, `seal_again` is given that key (and all others like it)
        and answers the entries sealed with it.
        """
        if not (new_keys or aside.is_told):
            async with self._database.connection() as connection:
                fresh, firsts = await _append(connection, tenant_id, entries, aside.repeats)
            return Appended(fresh, firsts=firsts)
        appended = Appended()
        async with self._database.transaction() as connection:
            if new_keys and (taken := await _add_keys(connection, tenant_id, new_keys)):
                entries = seal_again(taken)
            passing = [entry for entry in entries if entry.event_id not in aside.holds] if aside.holds else entries
            repeats = None if aside.is_told else aside.repeats
            appended.fresh, appended.firsts = await _append(connection, tenant_id, passing, repeats)
            if aside.holds:
                await _hold(connection, tenant_id, entries, aside.holds, appended)
            if aside.is_told:
                await _note(connection, tenant_id, entries, aside, appended)
        return appended

    async def replay(self, tenant_id: str, events: Sequence[Waiting], at: datetime) -> tuple[set[bytes], set[bytes]]:
        """(event ids that were appended, those whose message had been accepted meanwhile).

        Only what still waits is appended; what does not is in neither. A receipt is of when the event came, the log's row of
        `at`: readers measure their lag by it, and old partitions stay as they are.
        """
        for _ in range(5):
            try:
                return await self._replay(tenant_id, events, at)
            except _Changed:
                ids = await self._still_waiting(tenant_id, [event.event_id for event in events])
                events = [event for event in events if event.event_id in ids]
        return set(), set()

    async def _replay(self, tenant_id: str, events: Sequence[Waiting], at: datetime) -> tuple[set[bytes], set[bytes]]:
        """Receipts first, the quarantine's rows then: in the order of `append`, so that the two never lock each other out."""
        ordered = sorted(events, key=lambda event: event.event_id)
        ids = [event.event_id for event in ordered]
        if not ids:
            return set(), set()
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_ADD_OLD_RECEIPTS, tenant_id, ids, [event.received for event in ordered])
            fresh = {row[0] for row in rows}
            superseded = set(ids) - fresh
            if await quarantine.lock(connection, tenant_id, ids) != set(ids):
                raise _Changed
            entries = [Entry(event.event_id, event.node_id, at, event.payload) for event in ordered if event.event_id in fresh]
            if entries:
                await _add_events(connection, tenant_id, entries)
            await quarantine.decide(connection, tenant_id, "replayed", fresh, at)
            await quarantine.decide(connection, tenant_id, "superseded", superseded, at)
            await connection.execute(_COUNT, tenant_id, 0, 0, 0, len(fresh))
        return fresh, superseded

    async def _still_waiting(self, tenant_id: str, event_ids: Sequence[bytes]) -> set[bytes]:
        async with self._database.transaction() as connection:
            return await quarantine.lock(connection, tenant_id, event_ids)


async def append_entries(connection: Connection, tenant_id: str, entries: Sequence[Entry]) -> set[bytes]:
    """Receipts and events, in the caller's transaction; returns the event ids that are new. What came again is not counted."""
    return (await _append(connection, tenant_id, entries, None))[0]


async def _append(
    connection: Connection, tenant_id: str, entries: Sequence[Entry], repeats: Mapping[bytes, int] | None
) -> tuple[set[bytes], dict[bytes, datetime]]:
    """(event ids that are new, of the others when their first came). `repeats` None: what came again is not to be counted."""
    if not entries:
        return set(), {}
    event_ids = [entry.event_id for entry in entries]
    known = await connection.fetch(
        _APPEND,
        tenant_id,
        event_ids,
        [entry.key for entry in entries],
        [entry.received for entry in entries],
        [entry.payload for entry in entries],
        [repeats.get(event_id, 0) for event_id in event_ids] if repeats else [0] * len(entries),
        repeats is not None,
    )
    if not known:
        return set(event_ids), {}
    rows = await connection.fetch(_FIRSTS, tenant_id, [row[0] for row in known])
    return set(event_ids) - {row[0] for row in known}, {row[0]: row[1] for row in rows}


async def _add_events(connection: Connection, tenant_id: str, entries: Sequence[Entry]) -> None:
    columns = zip(*((entry.key, entry.received, entry.payload) for entry in entries), strict=True)
    await connection.execute(_ADD_EVENTS, tenant_id, *map(list, columns))


async def _add_keys(connection: Connection, tenant_id: str, new_keys: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    """The keys that others stored first: the insert waited for them, so they are there now."""
    node_ids = sorted(new_keys)
    rows = await connection.fetch(_ADD_KEYS, tenant_id, node_ids, [new_keys[node_id] for node_id in node_ids])
    taken = new_keys.keys() - {row["node_id"] for row in rows}
    if not taken:
        return {}
    return {row["node_id"]: row["wrapped_key"] for row in await connection.fetch(_KEYS, tenant_id, list(taken))}


async def _hold(
    connection: Connection, tenant_id: str, entries: Sequence[Entry], holds: Mapping[bytes, Hold], appended: Appended
) -> None:
    waiting = [
        Waiting(entry.event_id, entry.key, entry.received, entry.payload) for entry in entries if entry.event_id in holds
    ]
    appended.held = await quarantine.hold(connection, tenant_id, waiting, holds)
    if before := holds.keys() - appended.held:
        appended.firsts |= {row[0]: row[1] for row in await connection.fetch(_FIRSTS, tenant_id, list(before))}
        found = await quarantine.received(connection, tenant_id, list(before - appended.firsts.keys()))
        appended.firsts |= found
        appended.waiting = set(found)


async def _note(connection: Connection, tenant_id: str, entries: Sequence[Entry], aside: Aside, appended: Appended) -> None:
    """What was not taken, and counts. Last, since all batches of the tenant meet at these rows."""
    taken: Set[bytes] = appended.fresh | appended.held if appended.held else appended.fresh
    again = dict(aside.repeats)
    if len(taken) < len(entries):
        for entry in entries:
            if entry.event_id not in taken:
                again[entry.event_id] = again.get(entry.event_id, 0) + 1
    if again:
        received = max(entry.received for entry in entries)
        await receipts.add_repeats(connection, tenant_id, again, received)
    if aside.refusals:
        await receipts.add_refusals(connection, tenant_id, aside.refusals)
    if aside.breaches:
        counted = taken | {refusal.refusal_id for refusal in aside.refusals}
        await plans.add_breaches(connection, tenant_id, [each for each in aside.breaches if each.key in counted])
    if again or aside.refusals or appended.held:
        counts = (len(aside.refusals), sum(again.values()), len(appended.held), 0)
        await connection.execute(_COUNT, tenant_id, *counts)
