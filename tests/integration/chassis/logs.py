"""A log of a test's own, with one who reads it."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg

from chassis.db import Database, connect
from chassis.log import CURSOR_TABLE, Cursor, Position, Reader, Record
from infra.postgres import Temporary

NOW = datetime(2026, 1, 15, tzinfo=UTC)
INSERT = "INSERT INTO log.events (tenant_id, key, received_at, payload) SELECT 't', NULL, $1, unnest($2::bytea[])"


@dataclass
class World:
    """A database of its own with an empty log, as its owner."""

    database: Database
    dsn: str
    handled: list[bytes] = field(default_factory=list[bytes])

    async def writer(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn, ssl=False)

    async def write(self, *payloads: bytes, received: datetime = NOW) -> None:
        async with self.database.connection() as connection:
            await connection.execute(INSERT, received, payloads)

    def reader(self, *, batch: int = 100) -> Reader:
        return Reader(self.database, Cursor("reading", "test"), batch=batch, idle_s=0.01)

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        async with self.database.transaction() as connection:
            await Cursor("reading", "test").advance(connection, position)
        self.handled += [record.payload for record in records]

    async def read_all(self, *, batch: int = 100) -> list[bytes]:
        """What a reader handles until nothing is left, since the last time."""
        reader = self.reader(batch=batch)
        before = len(self.handled)
        while await reader.step(self.handle):
            pass
        return self.handled[before:]


@asynccontextmanager
async def new_world(platform_database: Temporary) -> AsyncIterator[World]:
    """Built as in the migration of profiles, in a database beside the platform's."""
    name = f"log_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(platform_database.admin_dsn, ssl=False)
    await admin.execute(f'CREATE DATABASE "{name}"')
    dsn = platform_database.admin_dsn.rsplit("/", 1)[0] + "/" + name
    database = await connect(dsn, connections=6)
    async with database.connection() as connection:
        for statement in (
            "CREATE SCHEMA log",
            "CREATE SCHEMA reading",
            CURSOR_TABLE.format(schema="reading"),
            "CREATE TABLE log.events (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq bigint GENERATED ALWAYS AS IDENTITY, "
            "tenant_id text NOT NULL, key uuid, received_at timestamptz NOT NULL, payload bytea NOT NULL) "
            "PARTITION BY RANGE (received_at)",
            "CREATE INDEX ON log.events (xid, seq)",
            "CREATE TABLE log.january PARTITION OF log.events FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00')",
            "CREATE TABLE log.others PARTITION OF log.events DEFAULT",
        ):
            await connection.execute(statement)
    yield World(database, dsn)
    await database.close()
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()
