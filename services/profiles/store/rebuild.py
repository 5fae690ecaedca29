"""A second set of projection tables beside the live ones: made, compared, put in their place, dropped. As the tables' owner."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from chassis.db import Connection, Database, session_lock
from chassis.log import CURSOR_TABLE, Cursor
from services.profiles.store.exports import Place

LIVE: Final = "profiles"
NEXT: Final = "profiles_next"
_OLD: Final = "profiles_old"
CONSUMER: Final = "profiles"

# What the projector writes, and nothing else does: all of it follows from the log.
PROJECTIONS: Final = (
    "clocks", "nodes", "links", "node_profiles", "profiles", "traits", "personal_traits", "timeline", "identity_rulings",
    "identity_issues", "identifiers", "accounts", "account_traits", "account_members", "consents",
)  # fmt: skip

# What LIKE leaves out, and nobody has copied by hand: a table that had it would lose it in the swap.
_UNCOPIED: Final = """
SELECT class.relname FROM pg_class AS class
WHERE class.oid = ANY($1::text[]::regclass[]) AND (
    class.relkind <> 'r'
    OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = class.oid)
    OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = class.oid AND contype = 'f')
) ORDER BY 1
"""
_KEYS: Final = """
SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')
"""
_INDEXES: Final = """
SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_SECURITY: Final = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::text::regclass"
_POLICIES: Final = """
SELECT format('CREATE POLICY %I ON {new} AS %s FOR %s TO ', policyname, permissive, cmd)
    || (SELECT string_agg(CASE role WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(role) END, ', ') FROM unnest(roles) AS role)
    || coalesce(' USING (' || qual || ')', '') || coalesce(' WITH CHECK (' || with_check || ')', '')
FROM pg_policies WHERE schemaname = $1 AND tablename = $2
"""
_OPTIONS: Final = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::text::regclass"
_STRETCH: Final = f"""
CREATE TABLE {NEXT}.stretch (
    received_from timestamptz, received_until timestamptz, made_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
# What was replayed of them before is in the new tables still.
_ERASED: Final = f"""
SELECT EXISTS (SELECT FROM profiles.erasures WHERE destroyed_at >= (SELECT made_at FROM {NEXT}.stretch))
"""
_BEFORE: Final = """
SELECT xid::text AS xid, seq - 1 AS seq FROM log.events WHERE received_at >= $1 ORDER BY events.xid, events.seq LIMIT 1
"""
_TOTAL: Final = """
SELECT count(*) FROM log.events
WHERE (xid, seq) > ($1::text::xid8, $2) AND (xid, seq) <= ($3::text::xid8, $4)
"""
# A sum does not depend on the order; two hashes of 64 bits each.
_DIGEST: Final = """
SELECT count(*) AS count, sum(hashtextextended(each::text, 1)) AS one, sum(hashtextextended(each::text, 2)) AS two
FROM {schema}.{table} AS each
"""
_ONLY: Final = """
SELECT count(*) FROM (SELECT each::text FROM {one}.{table} AS each EXCEPT ALL SELECT each::text FROM {two}.{table} AS each) AS x
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of all events those that were received in [received_from, received_until); None: no bound."""

    received_from: datetime | None = None
    received_until: datetime | None = None

    @property
    def is_all(self) -> bool:
        return self.received_from is None and self.received_until is None

    def holds(self, received: datetime) -> bool:
        after = self.received_from is None or received >= self.received_from
        return after and (self.received_until is None or received < self.received_until)


@dataclass(frozen=True, slots=True)
class Compared:
    """A table in both sets; `live_only` and `next_only` count rows that the other has not."""

    table: str
    row_count: int
    live_only: int = 0
    next_only: int = 0

    @property
    def equal(self) -> bool:
        return self.live_only == self.next_only == 0


class Erased(Exception):
    """Somebody was erased since the new tables were made: they may hold what must not come back."""


class NotCopied(Exception):
    """The live tables have what a copy of them would not have."""


class RebuildStore:
    """Schema profiles_next. `database` is the owner's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.live = Cursor(LIVE, CONSUMER)
        self.next = Cursor(NEXT, CONSUMER)

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        """False where a rebuild or the retention of the log is running; else neither begins before this ends."""
        statement = "SELECT pg_try_advisory_lock(hashtext('profiles log'))"
        async with self._database.connection() as connection, session_lock(connection, statement) as is_alone:
            yield is_alone

    async def make(self, stretch: Stretch) -> Stretch:
        """Makes the tables where they are missing; the stretch that they are for. Raises NotCopied."""
        async with self._database.transaction() as connection:
            if await connection.fetchval("SELECT to_regclass($1) IS NULL", f"{NEXT}.stretch"):
                await _drop(connection)
                await _make(connection, stretch)
            rows = await connection.fetch(f"SELECT received_from, received_until FROM {NEXT}.stretch")
        return Stretch(*rows[0])

    async def drop(self) -> bool:
        """Removes what is beside the live tables, whether that was finished or not. False: there was nothing."""
        async with self._database.transaction() as connection:
            return await _drop(connection)

    async def place(self, cursor: Cursor) -> Place:
        """Where a cursor stands."""
        async with self._database.connection() as connection:
            return Place(*await cursor.load(connection))

    async def total(self, after: Place, upto: Place) -> int:
        """How many rows of the log there are between two places."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_TOTAL, str(after.xid), after.seq, str(upto.xid), upto.seq, timeout=600)

    async def analyse(self) -> None:
        """Before anybody reads them: without statistics the first reads would be planned badly."""
        async with self._database.connection() as connection:
            for table in PROJECTIONS:
                await connection.execute(f"VACUUM (ANALYZE) {NEXT}.{table}", timeout=3_600)

    @asynccontextmanager
    async def holding(self) -> AsyncGenerator[tuple[Connection, Place | None]]:
        """The live projector waits while this is held. The transaction that holds it, and the place where it stands.

        None where it follows Kafka, and its partitions are at different places.
        """
        async with self._database.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute(f"SELECT FROM {LIVE}.log_cursor WHERE consumer = $1 FOR UPDATE", CONSUMER)
            places = await self.live.places(connection)
            even = all(places.of(number) == places.reached for number in places.partitions)
            yield connection, Place(*places.reached) if even else None

    async def swap(self, connection: Connection) -> bool:
        """In the transaction of `holding`. False where somebody reads for so long that others would wait: nothing changed.

        Reads that have begun end before it; those that come then find the new tables under the old names. The patience is
        shorter than the server's deadlock_timeout: where two wait for each other, it is this one that gives way. Raises Erased.
        """
        live, new = [tuple(await cursor.load(connection)) for cursor in (self.live, self.next)]
        if live != new:
            raise RuntimeError("the new tables are not where the live ones are")
        names = ", ".join(f"{LIVE}.{table}" for table in PROJECTIONS)
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '300ms'")
                await connection.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
                if await connection.fetchval(_ERASED):
                    raise Erased
                await connection.execute(f"CREATE SCHEMA {_OLD}")
                # What is left of the new schema is nothing to go on with, if this process ends before it is dropped.
                await connection.execute(f"DROP TABLE {NEXT}.stretch")
                for table in PROJECTIONS:
                    await connection.execute(f"ALTER TABLE {LIVE}.{table} SET SCHEMA {_OLD}")
                    await connection.execute(f"ALTER TABLE {NEXT}.{table} SET SCHEMA {LIVE}")
        except asyncpg.LockNotAvailableError:
            return False
        return True

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Connection]:
        """Both sets as they are when this begins; to be begun while the projector is held."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("SELECT count(*) FROM pg_class")
            yield connection

    async def compare(self, connection: Connection) -> Sequence[Compared]:
        """All tables, row by row, in the transaction of `snapshot`."""
        return [await _compared(connection, table) for table in PROJECTIONS]


async def _drop(connection: Connection) -> bool:
    rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname = ANY($1)", [NEXT, _OLD])
    for (schema,) in rows:
        # No CASCADE: what somebody else has hung on them is not ours to remove.
        for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema):
            await connection.execute(f'DROP TABLE {schema}."{table}"')
        await connection.execute(f"DROP SCHEMA {schema}")
    return bool(rows)


async def _make(connection: Connection, stretch: Stretch) -> None:
    lost = await connection.fetch(_UNCOPIED, [f"{LIVE}.{table}" for table in PROJECTIONS])
    if lost:
        raise NotCopied(", ".join(row[0] for row in lost))
    await connection.execute(f"CREATE SCHEMA {NEXT}")
    for table in PROJECTIONS:
        await _copy(connection, table)
    await connection.execute(CURSOR_TABLE.format(schema=NEXT))
    await connection.execute(_STRETCH)
    await connection.execute(
        f"INSERT INTO {NEXT}.stretch (received_from, received_until) VALUES ($1, $2)",
        stretch.received_from,
        stretch.received_until,
    )
    if stretch.received_from is not None and (first := await connection.fetchrow(_BEFORE, stretch.received_from)):
        await connection.execute(
            f"INSERT INTO {NEXT}.log_cursor VALUES ($1, $2::text::xid8, $3)", CONSUMER, first["xid"], first["seq"]
        )
    await connection.execute(f"GRANT USAGE ON SCHEMA {NEXT} TO rapport_profiles")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {NEXT} TO rapport_profiles")


async def _copy(connection: Connection, table: str) -> None:
    """Empty, with the options, keys, indexes and policies of the live one, under their names."""
    live = f"{LIVE}.{table}"
    await connection.execute(f"CREATE TABLE {NEXT}.{table} (LIKE {live} INCLUDING ALL EXCLUDING INDEXES)")
    if options := await connection.fetchval(_OPTIONS, live):
        await connection.execute(f"ALTER TABLE {NEXT}.{table} SET ({options})")
    for key in await connection.fetch(_KEYS, live):
        await connection.execute(f'ALTER TABLE {NEXT}.{table} ADD CONSTRAINT "{key["name"]}" {key["definition"]}')
    for (definition,) in await connection.fetch(_INDEXES, live):
        await connection.execute(definition.replace(f" ON {live} ", f" ON {NEXT}.{table} ", 1))
    for (policy,) in await connection.fetch(_POLICIES.replace("{new}", f"{NEXT}.{table}"), LIVE, table):
        await connection.execute(policy)
    enabled, forced = await connection.fetchrow(_SECURITY, live) or (False, False)
    for word, wanted in (("ENABLE", enabled), ("FORCE", forced)):
        if wanted:
            await connection.execute(f"ALTER TABLE {NEXT}.{table} {word} ROW LEVEL SECURITY")


async def _compared(connection: Connection, table: str) -> Compared:
    rows = [
        tuple(await connection.fetchrow(_DIGEST.format(schema=schema, table=table), timeout=3_600) or ())
        for schema in (LIVE, NEXT)
    ]
    if rows[0] == rows[1]:
        return Compared(table, rows[0][0])
    only = [
        await connection.fetchval(_ONLY.format(one=one, two=two, table=table), timeout=3_600)
        for one, two in ((LIVE, NEXT), (NEXT, LIVE))
    ]
    return Compared(table, rows[0][0], *only)
