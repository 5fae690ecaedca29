"""What a reader of the log is handed."""

import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from rapport.log.v1.log_pb2 import Traced

from chassis import telemetry

# (xid, seq) of a row: the order of the log.
Place = tuple[int, int]

MessageT = TypeVar("MessageT", bound=Message)


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
class Move:
    """What becomes of the place in one partition."""

    partition: int
    start: Place
    end: Place


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader goes from and to; `Cursor.advance` takes it inside the transaction that saves the work."""

    from_xid: int
    from_seq: int
    to_xid: int
    to_seq: int
    # The places of a reader of Kafka, as the reader of PostgreSQL has seen them.
    partitions: Mapping[int, Place] = field(default_factory=dict[int, Place])
    # Of a reader of Kafka, which leaves the place in PostgreSQL's log alone.
    moves: Sequence[Move] = ()
    # Of an event that had been set aside and is played again.
    again: Place | None = None


Handle = Callable[[Sequence[Record], Position], Awaitable[None]]


def partition_of(tenant_id: str, partitions: int) -> int:
    """Where all that a tenant says is, in the log's order: what readers keep joins the events of several profiles."""
    return zlib.crc32(tenant_id.encode()) % partitions


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


def writer_of(record: Record) -> str:
    """The span of the call that wrote it; empty where there was none."""
    try:
        return Traced.FromString(record.payload).traceparent
    except DecodeError:
        return ""
