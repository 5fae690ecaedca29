"""How fast the log is followed: from PostgreSQL, from Kafka, and by a bare Kafka client that keeps nothing.

Ours: a reader that saves its place in the transaction of its work, the work being one statement a batch. The limit: aiokafka
alone, which takes the same messages and throws them away. All in turns, in one run, over the same events; then the relay that
fills Kafka. Run: `python -m tests.bench.bench_log`. Without Java 17 or Maven it says so and ends.
"""

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from chassis.db import Database, connect
from chassis.log import CURSOR_TABLE, Cursor, Follower, Position, PostgresLog, Reader, Record
from chassis.log.kafka.reader import KafkaReader
from chassis.migrate import migrate
from infra.kafka import Broker, Missing, fetch
from infra.postgres import Temporary, temporary
from services.profiles.relay import Relay
from services.profiles.settings import Settings

EVENTS = 40_000
TENANTS = 24
PAYLOAD = b"x" * 400
ROUNDS = 3
PATIENCE_S = 300
NOW = datetime(2026, 1, 15, tzinfo=UTC)
INSERT = """
INSERT INTO log.events (tenant_id, key, received_at, payload)
SELECT 'tenant-' || n % $1, gen_random_uuid(), $2, $3 FROM generate_series(1, $4) AS n
"""
_names = itertools.count()


async def fill(database: Database) -> None:
    """As ingest does: a transaction for some hundred events."""
    for _ in range(EVENTS // 500):
        async with database.connection() as connection:
            await connection.execute(INSERT, TENANTS, NOW, PAYLOAD, 500)


async def relayed(database: Database, settings: Settings) -> float:
    """Seconds until Kafka has acknowledged all."""
    began = time.monotonic()
    task = asyncio.create_task(Relay(database, settings).follow())
    try:
        cursor, log = Cursor("profiles", "relay"), PostgresLog(database)
        while True:
            async with database.connection() as connection:
                place = await cursor.load(connection)
            if place != (0, 0) and not await log.read(*place, 1):
                return time.monotonic() - began
            assert time.monotonic() - began < PATIENCE_S
            await asyncio.sleep(0.05)
    finally:
        await asyncio.sleep(0.5)  # the last marks
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def followed(database: Database, settings: Settings, kind: str) -> float:
    """Seconds from the first batch to the last, of a consumer that has read nothing before."""
    cursor = Cursor("bench", f"c{next(_names)}")
    reader: Follower = Reader(database, cursor) if kind == "postgres" else KafkaReader(database, cursor, settings)
    handled, began = 0, 0.0

    async def handle(records: Sequence[Record], position: Position) -> None:
        nonlocal handled
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO bench.sums VALUES ($1)", sum(len(record.payload) for record in records))
            await cursor.advance(connection, position)
        handled += len(records)

    while handled < EVENTS:
        started = time.monotonic()
        if await reader.step(handle) and not began:
            began = started
    took = time.monotonic() - began
    if isinstance(reader, KafkaReader):
        await reader.close()
    return took


async def bare(settings: Settings) -> float:
    """Seconds of the client alone, in the same steps."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka_brokers, "group_id": f"bare{next(_names)}"}
    seen, began = 0, 0.0
    async with AIOKafkaConsumer(settings.kafka_topic, auto_offset_reset="earliest", **options) as consumer:
        while seen < EVENTS:
            started = time.monotonic()
            polled = await consumer.getmany(timeout_ms=200, max_records=500)
            if polled and not began:
                began = started
            seen += sum(1 for messages in polled.values() for message in messages if message.key)
    return time.monotonic() - began


async def measure(server: Temporary, broker: Broker) -> None:
    database = await connect(server.admin_dsn.rsplit("/", 1)[0] + "/rapport", connections=6)
    async with database.connection() as connection:
        for statement in ("CREATE SCHEMA bench", CURSOR_TABLE.format(schema="bench"), "CREATE TABLE bench.sums (bytes bigint)"):
            await connection.execute(statement)
    await fill(database)
    settings = Settings(kafka_brokers=broker.address)
    copying_s = await relayed(database, settings)
    took: dict[str, list[float]] = {"postgres": [], "kafka": [], "bare": []}
    for _ in range(ROUNDS):
        took["postgres"].append(await followed(database, settings, "postgres"))
        took["kafka"].append(await followed(database, settings, "kafka"))
        took["bare"].append(await bare(settings))
    rates = {kind: EVENTS / statistics.median(times) for kind, times in took.items()}
    print(f"{EVENTS:,} events of {len(PAYLOAD)} bytes, {ROUNDS} rounds, medians")
    print(f"relay to Kafka, acks=all    {EVENTS / copying_s:10,.0f} events/s")
    print(f"reader over PostgreSQL      {rates['postgres']:10,.0f} events/s")
    print(f"reader over Kafka           {rates['kafka']:10,.0f} events/s")
    print(f"bare Kafka client           {rates['bare']:10,.0f} events/s")
    print(f"Kafka / PostgreSQL {rates['kafka'] / rates['postgres']:.2f}")
    print(f"Kafka / bare client {rates['kafka'] / rates['bare']:.2f}")
    await database.close()


async def run(server: Temporary, folder: Path) -> None:
    broker = Broker(fetch(), folder)
    await broker.start()
    try:
        await measure(server, broker)
    finally:
        await broker.stop()


def main() -> None:
    try:
        fetch()
    except Missing as error:
        print(f"not measured: {error}")
        sys.exit(0)
    with temporary() as server, tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(migrate, server.dsn("rapport_owner")).result()
        asyncio.run(run(server, Path(folder)))


if __name__ == "__main__":
    main()
