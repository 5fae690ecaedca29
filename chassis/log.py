"""How readers follow the event log.

Rows carry the id of the transaction that wrote them. A reader takes only rows of transactions older than every one
that is still running, in the order (transaction, sequence): what commits late comes later in this order, and is never
skipped. A reader saves what it makes of the rows and its new position in one transaction, so each row counts once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind
from rapport.log.v1.log_pb2 import Traced

from chassis import context, telemetry, tracing
from chassis.db import Connection, Database
from chassis.errors import Conflict, Unavailable

# Put into each service's first migration: its own cursors, in its own schema.
CURSOR_TABLE: Final = "CREATE TABLE {schema}.log_cursor (consumer text PRIMARY KEY, xid xid8 NOT NULL, seq bigint NOT NULL)"

# The order is by the column: a bare xid would be the text of the answer, and '1000' comes before '999'.
_READ: Final = """
SELECT xid::text AS xid, seq, tenant_id, key, received_at, payload
FROM log.events
WHERE (xid, seq) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.xid, events.seq
LIMIT $3
"""
_LAG: Final = "SELECT count(*) FROM (SELECT 1 FROM log.events WHERE (xid, seq) > ($1::text::xid8, $2) LIMIT 100000) AS behind"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the log."""

    xid: int
    seq: int
    tenant_id: str
    # What keeps its order: rows of one key are read as they were written.
    key: UUID | None
    received_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader goes from and to; `Cursor.advance` takes it inside the transaction that saves the work."""

    from_xid: int
    from_seq: int
    to_xid: int
    to_seq: int


Handle = Callable[[Sequence[Record], Position], Awaitable[None]]


MessageT = TypeVar("MessageT", bound=Message)


def messages(records: Sequence[Record], cls: type[MessageT], consumer: str) -> Iterator[tuple[Record, MessageT]]:
    """Each record with what it says. One that is no `cls` must not hold up all others: it is counted and passed over."""
    for record in records:
        if (message := message_of(record.payload, cls, consumer)) is not None:
            yield record, message


def message_of(payload: bytes, cls: type[MessageT], consumer: str) -> MessageT | None:
    """None, and counted, where the payload is no `cls`."""
    try:
        return cls.FromString(payload)
    except DecodeError:
        telemetry.LOG_UNREADABLE.labels(consumer).inc()
        return None


def _writer_of(record: Record) -> str:
    """The span of the call that wrote it; empty where there was none."""
    try:
        return Traced.FromString(record.payload).traceparent
    except DecodeError:
        return ""


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
            rows = await connection.fetch(_READ, str(xid), seq, limit)
        return [
            Record(int(row["xid"]), row["seq"], row["tenant_id"], row["key"], row["received_at"], row["payload"])
            for row in rows
        ]

    async def lag(self, xid: int, seq: int) -> int:
        async with self._database.connection() as connection:
            return await connection.fetchval(_LAG, str(xid), seq)


class Cursor:
    """A consumer's place in the log, kept in <schema>.log_cursor."""

    def __init__(self, schema: str, consumer: str) -> None:
        self.consumer = consumer
        self._table = f"{schema}.log_cursor"

    async def load(self, connection: Connection) -> tuple[int, int]:
        """(xid, seq) of the last row that was handled; (0, 0) before the first."""
        row = await connection.fetchrow(f"SELECT xid::text AS xid, seq FROM {self._table} WHERE consumer = $1", self.consumer)
        return (int(row["xid"]), row["seq"]) if row else (0, 0)

    async def advance(self, connection: Connection, position: Position) -> None:
        """Moves on, in the caller's transaction. Raises Conflict where another process has moved it meanwhile."""
        if (position.from_xid, position.from_seq) == (0, 0):
            insert = f"INSERT INTO {self._table} VALUES ($1, $2::text::xid8, $3) ON CONFLICT DO NOTHING"
            done = await connection.execute(insert, self.consumer, str(position.to_xid), position.to_seq)
        else:
            update = (
                f"UPDATE {self._table} SET xid = $2::text::xid8, seq = $3 "
                "WHERE consumer = $1 AND xid = $4::text::xid8 AND seq = $5"
            )
            done = await connection.execute(
                update, self.consumer, str(position.to_xid), position.to_seq, str(position.from_xid), position.from_seq
            )
        if done.endswith(" 0"):
            raise Conflict("another reader has moved this cursor")


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
        # From the start at 0: of a counter that is born with its first failure, Prometheus would not see that one.
        for counter in (telemetry.LOG_HANDLED, telemetry.LOG_FAILURES, telemetry.LOG_UNREADABLE):
            counter.labels(cursor.consumer)

    async def follow(self, handle: Handle) -> None:
        """Runs for ever. `handle(records, position)` saves its work and calls `cursor.advance` in one transaction."""
        pause_s, seen = 0.01, 0.0
        while True:
            with context.use(request_id=context.new_request_id()):
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
        """One batch; returns how many rows it had."""
        async with self._database.connection() as connection:
            xid, seq = await self._cursor.load(connection)
        records = await self._log.read(xid, seq, self._batch)
        if records:
            with tracing.joined(SpanKind.CONSUMER, "process log", self._attributes(records), map(_writer_of, records)):
                await handle(records, Position(xid, seq, records[-1].xid, records[-1].seq))
            telemetry.LOG_HANDLED.labels(self._cursor.consumer).inc(len(records))
        return len(records)

    def _attributes(self, records: Sequence[Record]) -> tracing.Attributes:
        return {
            "messaging.operation.type": "process",
            "messaging.destination.name": "log",
            "messaging.consumer.group.name": self._cursor.consumer,
            "messaging.batch.message_count": len(records),
        }

    async def lag(self) -> int:
        """How many rows wait."""
        async with self._database.connection() as connection:
            xid, seq = await self._cursor.load(connection)
        return await self._log.lag(xid, seq)

    async def _measure(self) -> None:
        with suppress(Unavailable):  # counted where it was raised; the next round tries again
            telemetry.LOG_LAG.labels(self._cursor.consumer).set(await self.lag())
