"""The copy of the log in Kafka: where the relay is, and whether every event has arrived."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from chassis.log.kafka.client import new_consumer
from chassis.log.kafka.topic import item_of
from infra.kafka import Broker, fetch
from services.profiles.settings import Settings

_RELAYED = "SELECT xid::text, seq FROM profiles.log_cursor WHERE consumer = 'relay'"
_LOGGED = "SELECT xid::text AS xid, seq FROM log.events"
_LAG = """
SELECT count(*) FROM log.events
WHERE (xid, seq) > (SELECT xid, seq FROM profiles.log_cursor WHERE consumer = 'relay')
"""
PATIENCE_S = 120.0


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Up. Raises infra.kafka.Missing. To be entered by a thread that lives on and has no event loop."""
    made = Broker(fetch(), folder / "kafka")
    asyncio.run(made.start())
    try:
        yield made
    finally:
        asyncio.run(made.kill())


async def place_of_relay(dsn: str) -> tuple[int, int]:
    """(0, 0) before it has begun."""
    connection = await asyncpg.connect(dsn, timeout=10, ssl=False)
    try:
        row = await connection.fetchrow(_RELAYED)
        return (int(row[0]), row[1]) if row else (0, 0)
    finally:
        await connection.close()


async def arrived(dsn: str, brokers: str) -> tuple[int, int, int]:
    """(events of the log, those that Kafka has not, messages that repeat one), once the relay has caught up."""
    connection = await asyncpg.connect(dsn, timeout=10, ssl=False)
    try:
        end = time.monotonic() + PATIENCE_S
        while await connection.fetchval(_LAG):
            assert time.monotonic() < end, "the relay does not catch up"
            await asyncio.sleep(0.2)
        logged = {(int(row["xid"]), row["seq"]) for row in await connection.fetch(_LOGGED, timeout=120)}
    finally:
        await connection.close()
    found = await _messages(brokers, logged)
    return len(logged), len(logged - found.keys()), sum(found.values()) - len(found)


async def _messages(brokers: str, wanted: set[tuple[int, int]]) -> Counter[tuple[int, int]]:
    """By place. Reads until all are there, or nothing comes any more."""
    settings = Settings(kafka_brokers=brokers)
    consumer: Any = new_consumer(settings, settings.kafka_topic, group=f"test-{uuid.uuid4()}")
    await consumer.start()
    found: Counter[tuple[int, int]] = Counter()
    try:
        end, silent = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < end and silent < 10:
            polled = await consumer.getmany(timeout_ms=500, max_records=5_000)
            places = [item for messages in polled.values() for item in map(item_of, messages) if item.record is not None]
            found.update(item.place for item in places)
            silent = 0 if places else silent + 1
            if not places and not wanted - found.keys():
                break
    finally:
        await consumer.stop()
    return found
