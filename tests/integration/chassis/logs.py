"""A log of a test's own, with one who reads it: from PostgreSQL, or from the copy that a relay keeps in Kafka."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from chassis.db import Database, connect
from chassis.log import CURSOR_TABLE, Cursor, Follower, Handle, Position, PostgresLog, Reader, Record
from chassis.log.kafka.client import administering, partitions_of
from chassis.log.kafka.reader import KafkaReader
from infra.postgres import Temporary
from infra.processes import end, spawn
from services.profiles.relay import Relay
from services.profiles.settings import Settings

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 15, tzinfo=UTC)
INSERT = "INSERT INTO log.events (tenant_id, key, received_at, payload) SELECT 't', NULL, $1, unnest($2::bytea[])"
INSERT_OF = "INSERT INTO log.events (tenant_id, key, received_at, payload) SELECT $3, NULL, $1, unnest($2::bytea[])"
CURSOR = Cursor("reading", "test")
PATIENCE_S = 90


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not await done():
        assert time.monotonic() < end, "it takes too long"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Beside the test, as a service's background task."""

    async def run() -> None:
        await work()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def process(folder: Path, *command: str, **environment: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Gone with the test, however that ends."""
    with (folder / "output").open("ab") as output:
        running = spawn(
            [sys.executable, "-m", *command],
            output=output,
            folder=ROOT,
            environment={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen", **environment},
        )
    try:
        yield running
    finally:
        running.kill()
        await end(running, grace_s=5)


def effects(database: Database, cursor: Cursor = CURSOR) -> Handle:
    """Work that shows when it was done twice: a row for each record, in the transaction that moves the cursor."""

    async def handle(records: Sequence[Record], position: Position) -> None:
        async with database.transaction() as connection:
            rows = [(cursor.consumer, record.tenant_id, record.payload) for record in records]
            await connection.executemany("INSERT INTO reading.effects (consumer, tenant_id, payload) VALUES ($1, $2, $3)", rows)
            await cursor.advance(connection, position)

    return handle


@dataclass
class World:
    """A database of its own with an empty log, as its owner. Its readers follow the table itself."""

    database: Database
    dsn: str
    handled: list[bytes] = field(default_factory=list[bytes])

    async def writer(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn, ssl=False)

    async def write(self, *payloads: bytes, received: datetime = NOW, tenant: str = "t") -> None:
        async with self.database.connection() as connection:
            await connection.execute(INSERT_OF, received, payloads, tenant)

    def reader(self, *, batch: int = 100) -> Follower:
        return Reader(self.database, CURSOR, batch=batch, idle_s=0.01)

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        await effects(self.database)(records, position)
        self.handled += [record.payload for record in records]

    async def effects(self, consumer: str = "test") -> list[tuple[str, bytes]]:
        """(tenant, payload) in the order in which they were handled."""
        select = "SELECT tenant_id, payload FROM reading.effects WHERE consumer = $1 ORDER BY id"
        async with self.database.connection() as connection:
            return [(row[0], row[1]) for row in await connection.fetch(select, consumer)]

    async def read_all(self, *, batch: int = 100) -> list[bytes]:
        """What a reader handles until nothing is left, since the last time."""
        before = len(self.handled)
        reader = self.reader(batch=batch)
        while await reader.step(self.handle):
            pass
        return self.handled[before:]

    async def close(self) -> None:
        """Ends what runs beside the test."""


@dataclass
class KafkaWorld(World):
    """Its readers follow Kafka, which a relay beside the test fills."""

    settings: Settings = field(default_factory=Settings)
    readers: list[KafkaReader] = field(default_factory=list[KafkaReader])

    def reader(self, *, batch: int = 100) -> KafkaReader:
        self.readers.append(KafkaReader(self.database, CURSOR, self.settings, batch=batch))
        return self.readers[-1]

    async def read_all(self, *, batch: int = 100) -> list[bytes]:
        before = len(self.handled)
        await self.close()
        reader = self.reader(batch=batch)
        while True:
            await reader.step(self.handle)
            if await self.is_over():
                return self.handled[before:]

    async def is_over(self) -> bool:
        """Whether all that may be read has been, by the relay and then by the reader."""
        async with self.database.connection() as connection:
            relayed, read = await Cursor("profiles", "relay").load(connection), await CURSOR.load(connection)
        return not await PostgresLog(self.database).read(*relayed, 1) and read >= relayed

    async def has_topic(self) -> bool:
        async with administering(self.settings) as admin:
            return (await partitions_of(admin, self.settings.kafka_topic))[0] > 0

    def relay(self) -> Relay:
        return Relay(self.database, self.settings)

    async def close(self) -> None:
        while self.readers:
            await self.readers.pop().close()


@asynccontextmanager
async def new_world(platform_database: Temporary, brokers: str = "") -> AsyncIterator[World]:
    """Built as in the migration of profiles, in a database beside the platform's. With brokers: in Kafka too."""
    name = f"log_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(platform_database.admin_dsn, ssl=False)
    await admin.execute(f'CREATE DATABASE "{name}"')
    dsn = platform_database.admin_dsn.rsplit("/", 1)[0] + "/" + name
    database = await connect(dsn, connections=10)
    async with database.connection() as connection:
        for statement in (
            "CREATE SCHEMA log",
            "CREATE SCHEMA reading",
            "CREATE SCHEMA profiles",
            CURSOR_TABLE.format(schema="reading"),
            CURSOR_TABLE.format(schema="profiles"),
            "CREATE TABLE reading.effects (id bigserial, consumer text, tenant_id text, payload bytea)",
            "CREATE TABLE log.events (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq bigint GENERATED ALWAYS AS IDENTITY, "
            "tenant_id text NOT NULL, key uuid, received_at timestamptz NOT NULL, payload bytea NOT NULL) "
            "PARTITION BY RANGE (received_at)",
            "CREATE INDEX ON log.events (xid, seq)",
            "CREATE TABLE log.january PARTITION OF log.events FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00')",
            "CREATE TABLE log.others PARTITION OF log.events DEFAULT",
        ):
            await connection.execute(statement)
    world = World(database, dsn)
    if brokers:
        world = KafkaWorld(database, dsn, settings=Settings(kafka_brokers=brokers, kafka_topic=name, kafka_partitions=4))
    try:
        yield world
    finally:
        await world.close()
        await database.close()
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()
