"""The log in PostgreSQL, and its reader."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final, Protocol

from opentelemetry.trace import SpanKind

from chassis import context, telemetry, tracing
from chassis.db import Database
from chassis.errors import Conflict, Unavailable
from chassis.log.cursor import Cursor, Places
from chassis.log.records import Handle, Position, Record, partition_of, writer_of

# The order is by the column: a bare xid would be the text of the answer, and '1000' comes before '999'.
READ: Final = """
SELECT xid::text AS xid, seq, tenant_id, key, received_at, payload
FROM log.events
WHERE (xid, seq) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.xid, events.seq
LIMIT $3
"""
# That it lies between two transactions says nothing new, but tells a plan for any position that few rows do: it would read the
# log from its beginning.
LAG: Final = """
SELECT count(*) FROM (
    SELECT FROM log.events
    WHERE (xid, seq) > ($1::text::xid8, $2) AND xid >= $1::text::xid8 AND xid < pg_snapshot_xmax(pg_current_snapshot())
    LIMIT 100000
) AS behind
"""


class Log(Protocol):
    """What a reader needs of a log."""

    async def read(self, xid: int, seq: int, limit: int) -> Sequence[Record]:
        """The next rows after a position, oldest first; empty at the end."""
        ...

    async def lag(self, xid: int, seq: int) -> int:
        """How many rows there are after a position, counted up to 100,000."""
        ...


class PostgresLog:
    """The log in PostgreSQL, table log.events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, xid: int, seq: int, limit: int) -> Sequence[Record]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(READ, str(xid), seq, limit)
        return [
            Record(int(row["xid"]), row["seq"], row["tenant_id"], row["key"], row["received_at"], row["payload"])
            for row in rows
        ]

    async def lag(self, xid: int, seq: int) -> int:
        async with self._database.connection() as connection:
            return await connection.fetchval(LAG, str(xid), seq)


def traced(consumer: str, records: Sequence[Record]) -> AbstractContextManager[object]:
    """The span of a batch, joined to those of the calls that wrote it."""
    attributes: tracing.Attributes = {
        "messaging.operation.type": "process",
        "messaging.destination.name": "log",
        "messaging.consumer.group.name": consumer,
        "messaging.batch.message_count": len(records),
    }
    return tracing.joined(SpanKind.CONSUMER, "process log", attributes, map(writer_of, records))


def count_from_zero(consumer: str) -> None:
    """Of a counter that is born with its first failure, Prometheus would not see that one."""
    for counter in (telemetry.LOG_HANDLED, telemetry.LOG_FAILURES, telemetry.LOG_UNREADABLE):
        counter.labels(consumer)


class Reader:
    """Follows the log for one consumer and hands its rows on in batches."""

    def __init__(
        self, database: Database, cursor: Cursor, *, log: Log | None = None, batch: int = 500, idle_s: float = 0.2
    ) -> None:
        self._database = database
        self._log = log or PostgresLog(database)
        self._cursor = cursor
        self._batch = batch
        self._idle_s = idle_s
        count_from_zero(cursor.consumer)

    async def follow(self, handle: Handle) -> None:
        """Runs for ever. `handle(records, position)` saves its work and calls `cursor.advance` in one transaction."""
        pause_s, seen = 0.01, 0.0
        while True:
            with context.everyone(), context.use(request_id=context.new_request_id()):
                handled, failed = await self._attempt(handle)
            if time.monotonic() - seen > 5:
                seen = time.monotonic()
                await self._measure()
            pause_s = 1.0 if failed else 0.01 if handled else min(self._idle_s, pause_s * 2)
            if handled < self._batch:
                await asyncio.sleep(pause_s)

    async def _attempt(self, handle: Handle) -> tuple[int, bool]:
        """(how many rows, whether it failed)."""
        try:
            return await self.step(handle), False
        except (Conflict, Unavailable):
            return 0, True
        except Exception:
            telemetry.LOG_FAILURES.labels(self._cursor.consumer).inc()
            telemetry.logger().error(
                "a batch of the log failed and is tried again", consumer=self._cursor.consumer, exc_info=True
            )
            return 0, True

    async def step(self, handle: Handle) -> int:
        """One batch, of whatever tenants; returns how many rows it had."""
        with context.everyone():  # who saw one tenant's rows only would pass over the others' for ever
            async with self._database.connection() as connection:
                places = await self._cursor.places(connection)
            records = await self._log.read(*places.reached, self._batch)
        if not records:
            return 0
        position = Position(*places.own, records[-1].xid, records[-1].seq, places.partitions)
        if new := _not_handled(records, places):
            with traced(self._cursor.consumer, new):
                await handle(new, position)
            telemetry.LOG_HANDLED.labels(self._cursor.consumer).inc(len(new))
        else:
            async with self._database.transaction() as connection:
                await self._cursor.advance(connection, position)
        return len(records)

    async def lag(self) -> int:
        """How many rows wait, of all tenants."""
        with context.everyone():
            async with self._database.connection() as connection:
                place = await self._cursor.load(connection)
            return await self._log.lag(*place)

    async def _measure(self) -> None:
        with suppress(Unavailable):  # counted where it was raised; the next round tries again
            telemetry.LOG_LAG.labels(self._cursor.consumer).set(await self.lag())


def _not_handled(records: Sequence[Record], places: Places) -> Sequence[Record]:
    """Without those that this consumer has read from Kafka."""
    if not places.partitions:
        return records
    count = len(places.partitions)
    return [each for each in records if (each.xid, each.seq) > places.of(partition_of(each.tenant_id, count))]
