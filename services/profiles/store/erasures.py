"""Erasures: what was asked for, how far it is, and the deletions themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from chassis import subjects
from chassis.db import Connection, Database, affected
from chassis.log import Cursor
from services.profiles.domain.validate import FACT_SOURCE
from services.profiles.store.log import Entry, append_entries

_COLUMNS: Final = """
erasure_id, tenant_id, profile_id, node_ids, reason, actor, requested_at, destroyed_at, completed_at, services, confirmed,
stores::text AS stores
"""
# Where one is open for the person, that one is the answer.
_BEGIN: Final = f"""
INSERT INTO profiles.erasures AS erasure (tenant_id, erasure_id, profile_id, node_ids, reason, actor, services)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, profile_id) WHERE completed_at IS NULL DO UPDATE SET reason = erasure.reason
RETURNING {_COLUMNS}
"""
_FIND: Final = f"SELECT {_COLUMNS} FROM profiles.erasures WHERE tenant_id = $1 AND erasure_id = $2"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM profiles.erasures WHERE tenant_id = $1 AND (requested_at, erasure_id) < ($2, $3)
ORDER BY requested_at DESC, erasure_id DESC LIMIT $4
"""
_OPEN: Final = f"SELECT {_COLUMNS} FROM profiles.erasures WHERE completed_at IS NULL ORDER BY requested_at LIMIT 1000"
_LOCK: Final = "SELECT FROM profiles.erasures WHERE tenant_id = $1 AND erasure_id = $2 AND {} FOR UPDATE SKIP LOCKED"
_ADD: Final = """
UPDATE profiles.erasures SET stores = stores || (
    SELECT coalesce(jsonb_object_agg(name, coalesce((stores ->> name)::bigint, 0) + count), '{}')
    FROM unnest($3::text[], $4::bigint[]) AS said (name, count)
)
WHERE tenant_id = $1 AND erasure_id = $2
"""
_CONFIRM: Final = """
UPDATE profiles.erasures SET confirmed = ARRAY(SELECT DISTINCT unnest(confirmed || $3::text) ORDER BY 1)
WHERE tenant_id = $1 AND erasure_id = $2
"""
# An old key may be had until this is committed: what was received until then, and clocks differ, may be sealed with it.
_DESTROYED: Final = """
UPDATE profiles.erasures SET destroyed_at = clock_timestamp() + interval '1 second' WHERE tenant_id = $1 AND erasure_id = $2
"""
# What a replay of the log would count from now on. The clock itself stays: a tenant's present does not go back.
_UNCOUNT: Final = """
UPDATE profiles.clocks SET event_count = event_count - coalesce(
    (SELECT sum(event_count) FROM profiles.nodes WHERE tenant_id = $1 AND node_id = ANY($2)), 0
)
WHERE tenant_id = $1
"""
# What was received by then and is still to be projected may say by what else the person is known.
_BEHIND: Final = """
SELECT EXISTS (
    SELECT FROM log.events
    WHERE (xid, seq) > ($1::text::xid8, $2) AND xid >= $1::text::xid8 AND tenant_id = $3 AND received_at <= $4
)
"""
_JOINED: Final = """
SELECT node_id FROM profiles.nodes WHERE tenant_id = $1 AND node_id <> ALL($2) AND profile_id IN (
    SELECT profile_id FROM profiles.nodes WHERE tenant_id = $1 AND node_id = ANY($2)
)
"""
_WIDEN: Final = """
UPDATE profiles.erasures SET node_ids = node_ids || $3::uuid[]
WHERE tenant_id = $1 AND erasure_id = $2 AND destroyed_at IS NULL AND NOT node_ids && $3::uuid[]
"""
_DESTROY: Final = "DELETE FROM profiles.person_keys WHERE tenant_id = $1 AND node_id = ANY($2)"
_CAME_BACK: Final = """
SELECT EXISTS (SELECT FROM log.events WHERE tenant_id = $1 AND key = ANY($2) AND received_at > $3)
"""

_PROJECTOR: Final = Cursor("profiles", "profiles")
# It takes this lock before any other: whoever deletes under its hands without it dies of a deadlock.
_HOLD_PROJECTOR: Final = "SELECT FROM profiles.log_cursor WHERE consumer = 'profiles' FOR UPDATE"
# The same, and what it has read already it must read again, without the rows that went: to read an event twice changes nothing.
_SEND_PROJECTOR_BACK: Final = "UPDATE profiles.log_cursor SET seq = seq - 1 WHERE consumer = 'profiles'"

# What was on its way when the keys went, and is in the projections of who came back; `is_fact` as timeline.is_fact.
_LATE: Final = f"""
DELETE FROM profiles.timeline WHERE tenant_id = $1 AND node_id = ANY($2) AND received_at <= $3
RETURNING node_id, event_id, starts_with(source, '{FACT_SOURCE}') AS is_fact
"""
_TAKE_FROM_NODES: Final = """
UPDATE profiles.nodes AS node SET
    event_count = event_count - late.count,
    first_seen = coalesce(
        (SELECT min(ts) FROM profiles.timeline AS row WHERE row.tenant_id = $1 AND row.node_id = node.node_id), node.first_seen
    ),
    last_seen = (SELECT max(ts) FROM profiles.timeline AS row WHERE row.tenant_id = $1 AND row.node_id = node.node_id)
FROM unnest($2::uuid[], $3::bigint[]) AS late (node_id, count)
WHERE node.tenant_id = $1 AND node.node_id = late.node_id
"""
_SUM_PROFILES: Final = """
UPDATE profiles.profiles AS profile SET
    first_seen = sums.first_seen, last_seen = coalesce(sums.last_seen, sums.first_seen), event_count = sums.event_count
FROM (
    SELECT profile_id, min(first_seen) AS first_seen, max(last_seen) AS last_seen, sum(event_count) AS event_count
    FROM profiles.nodes WHERE tenant_id = $1 AND profile_id IN (
        SELECT profile_id FROM profiles.nodes WHERE tenant_id = $1 AND node_id = ANY($2)
    ) GROUP BY profile_id
) AS sums
WHERE profile.tenant_id = $1 AND profile.profile_id = sums.profile_id
"""
_TAKE_FROM_CLOCK: Final = "UPDATE profiles.clocks SET event_count = event_count - $2 WHERE tenant_id = $1"
_TOLD_BY_EVENTS: Final = ("profiles.traits", "profiles.personal_traits", "profiles.identifiers", "profiles.consents")

# What is held back; its content is told as events are.
_HELD: Final = "event_id, node_id, received_at, ts, type, name, plan_version, rule, field, message, state, decided_at"

# Everything of a person but the keys and the log, in the order in which it may be deleted; exports read it too.
TABLES: Final = (
    subjects.Table("profiles.timeline", ("node_id",)),
    subjects.Table("profiles.traits", ("node_id",)),
    subjects.Table("profiles.personal_traits", ("node_id",)),
    subjects.Table("profiles.links", ("node_a", "node_b")),
    subjects.Table("profiles.identity_rulings", ("node_a", "node_b")),
    subjects.Table("profiles.identity_issues", ("node_id",)),
    subjects.Table("profiles.identifiers", ("node_id",)),
    subjects.Table("profiles.account_members", ("node_id",)),
    subjects.Table("profiles.consents", ("node_id",)),
    subjects.Table("profiles.match_suggestions", ("profile_a", "profile_b")),
    subjects.Table("profiles.node_profiles", ("node_id", "profile_id")),
    subjects.Table("profiles.nodes", ("node_id",)),
    subjects.Table("profiles.quarantine", ("node_id",), select=_HELD),
    subjects.Table("profiles.profiles"),
)
TIMELINE: Final = TABLES[0]
# Keys, which go first, and the proof of what went.
NOT_OF_PEOPLE: Final = frozenset({"profiles.person_keys", "profiles.erasures"})


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """As it is stored. `stores`: rows deleted, by table or folder."""

    erasure_id: UUID
    tenant_id: str
    profile_id: UUID
    node_ids: Sequence[UUID]
    reason: str
    actor: str
    requested: datetime
    destroyed: datetime | None
    completed: datetime | None
    services: Sequence[str]
    confirmed: Sequence[str]
    stores: Mapping[str, int]


class _Joined(Exception):
    """By the time of the deletion the person is known by more than will be deleted."""


class ErasureStore:
    """profiles.erasures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, tenant_id: str, erasure_id: UUID, profile_id: UUID, node_ids: Sequence[UUID], reason: str, actor: str,
        services: Sequence[str],
    ) -> ErasureRow:  # fmt: skip
        """The new one, or the one that is under way for this person."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_BEGIN, tenant_id, erasure_id, profile_id, node_ids, reason, actor, services)
        assert row is not None  # noqa: S101  # an upsert returns its row
        return _row(row)

    async def find(self, tenant_id: str, erasure_id: UUID) -> ErasureRow | None:
        """None where the tenant has none such."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant_id, erasure_id)
        return _row(row) if row else None

    async def page(self, tenant_id: str, before: tuple[datetime, UUID], limit: int) -> list[ErasureRow]:
        """Newest first."""
        async with self._database.connection() as connection:
            return [_row(row) for row in await connection.fetch(_PAGE, tenant_id, *before, limit)]

    async def open(self) -> list[ErasureRow]:
        """Of all tenants, oldest first."""
        async with self._database.connection() as connection:
            return [_row(row) for row in await connection.fetch(_OPEN)]

    async def widen(self, erasure: ErasureRow) -> bool:
        """Whether it names all by which the person is known; adds what it does not name.

        Nobody knows that while events from before it was asked for are still to be projected: False then, too.
        """
        async with self._database.transaction() as connection:
            xid, seq = await _PROJECTOR.load(connection)
            if await connection.fetchval(_BEHIND, str(xid), seq, erasure.tenant_id, erasure.requested):
                return False
            joined = await _joined(connection, erasure)
            if joined:
                await connection.execute(_WIDEN, erasure.tenant_id, erasure.erasure_id, joined)
        return not joined

    async def destroy(self, erasure: ErasureRow, told: Entry) -> bool:
        """Destroys the keys and deletes the rows, all or nothing; False where another process was first, or somebody joined."""
        with suppress(_Joined):
            return await self._destroy(erasure, told)
        return False

    async def _destroy(self, erasure: ErasureRow, told: Entry) -> bool:
        tenant_id, ids = erasure.tenant_id, list(erasure.node_ids)
        async with self._database.transaction() as connection:
            if not await connection.fetch(_LOCK.format("destroyed_at IS NULL"), tenant_id, erasure.erasure_id):
                return False
            counts = {"profiles.person_keys": affected(await connection.execute(_DESTROY, tenant_id, ids))}
            counts["log.events"] = await connection.fetchval("SELECT log.erase($1, $2, now())", tenant_id, ids, timeout=600)
            await connection.execute(_SEND_PROJECTOR_BACK)
            if await _joined(connection, erasure):
                raise _Joined
            await connection.execute(_UNCOUNT, tenant_id, ids)
            counts |= await subjects.erase(connection, TABLES, tenant_id, ids)
            await _add(connection, erasure, counts)
            await append_entries(connection, tenant_id, [told])
            await connection.execute(_DESTROYED, tenant_id, erasure.erasure_id)
        return True

    async def confirm(self, tenant_id: str, erasure_id: UUID, service: str, counts: Mapping[str, int]) -> bool:
        """What a service has deleted comes on top; False where the tenant has no such erasure."""
        async with self._database.transaction() as connection:
            if affected(await connection.execute(_CONFIRM, tenant_id, erasure_id, service)) == 0:
                return False
            await connection.execute(_ADD, tenant_id, erasure_id, list(counts), list(counts.values()))
        return True

    async def complete(self, erasure: ErasureRow, counts: Mapping[str, int]) -> None:
        """Deletes what was still on its way when the rows went, and closes the erasure.

        Where the person has come back since, only what came before is deleted.
        """
        tenant_id, ids = erasure.tenant_id, list(erasure.node_ids)
        async with self._database.transaction() as connection:
            if not await connection.fetch(_LOCK.format("completed_at IS NULL"), tenant_id, erasure.erasure_id):
                return
            late = await connection.fetchval("SELECT log.erase($1, $2, $3)", tenant_id, ids, erasure.destroyed, timeout=600)
            counts = {**counts, "log.events": late}
            await connection.execute(_HOLD_PROJECTOR)
            if await connection.fetchval(_CAME_BACK, tenant_id, ids, erasure.destroyed, timeout=600):
                counts |= await _take_back(connection, tenant_id, ids, erasure.destroyed)
            else:
                await connection.execute(_UNCOUNT, tenant_id, ids)
                counts |= await subjects.erase(connection, TABLES, tenant_id, ids)
                counts["profiles.person_keys"] = affected(await connection.execute(_DESTROY, tenant_id, ids))
            await _add(connection, erasure, counts)
            done = "UPDATE profiles.erasures SET completed_at = now() WHERE tenant_id = $1 AND erasure_id = $2"
            await connection.execute(done, tenant_id, erasure.erasure_id)


async def _joined(connection: Connection, erasure: ErasureRow) -> list[UUID]:
    """What belongs to the person by now, and is not named."""
    return [row[0] for row in await connection.fetch(_JOINED, erasure.tenant_id, list(erasure.node_ids))]


async def _take_back(connection: Connection, tenant_id: str, ids: list[UUID], upto: datetime | None) -> dict[str, int]:
    """Deletes late rows, and all that they alone have said; what came after them stays."""
    late = await connection.fetch(_LATE, tenant_id, ids, upto)
    counts = {TIMELINE.name: len(late)}
    counted = Counter(row["node_id"] for row in late if not row["is_fact"])
    if counted:
        await connection.execute(_TAKE_FROM_NODES, tenant_id, list(counted), list(counted.values()))
        await connection.execute(_SUM_PROFILES, tenant_id, list(counted))
        await connection.execute(_TAKE_FROM_CLOCK, tenant_id, counted.total())
    for table in _TOLD_BY_EVENTS if late else ():
        delete = f"DELETE FROM {table} WHERE tenant_id = $1 AND node_id = ANY($2) AND event_id = ANY($3)"
        counts[table] = affected(await connection.execute(delete, tenant_id, ids, [row["event_id"] for row in late]))
    return counts


async def _add(connection: Connection, erasure: ErasureRow, counts: Mapping[str, int]) -> None:
    await connection.execute(_ADD, erasure.tenant_id, erasure.erasure_id, list(counts), list(counts.values()))


def _row(row: Any) -> ErasureRow:
    stores: Mapping[str, int] = msgspec.json.decode(row["stores"], type=dict[str, int])
    return ErasureRow(*tuple(row)[:11], stores=stores)
