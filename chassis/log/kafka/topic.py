"""What lies in the topics.

Each record says which place of the log it has, and after which place it comes: between the two there is nothing of its
partition. So a reader sees what Kafka has lost, and takes it from PostgreSQL. A mark has no payload: it only moves readers on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from chassis.log.records import Place, Record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Headers = Sequence[tuple[str, bytes]]


class Message(Protocol):
    """Of a consumer's record, what we look at."""

    offset: int
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Item:
    """One message of the topic. `record` None: a mark."""

    place: Place
    after: Place
    record: Record | None


def headers_of(record: Record, after: Place) -> Headers:
    """Nothing personal: what is in the row beside its payload."""
    return [
        ("place", _text(record.xid, record.seq)),
        ("after", _text(*after)),
        ("tenant", record.tenant_id.encode()),
        ("key", record.key.bytes if record.key else b""),
        ("received", b"%d" % ((record.received_at - _EPOCH) // timedelta(microseconds=1))),
    ]


def headers_of_mark(place: Place, after: Place) -> Headers:
    """Everything up to `place` has been sent."""
    return [("place", _text(*place)), ("after", _text(*after))]


def item_of(message: Message) -> Item:
    """Raises KeyError or ValueError for what the relay did not write."""
    said = dict(message.headers)
    place = _place(said["place"])
    record = None
    if "tenant" in said:
        key = UUID(bytes=said["key"]) if said["key"] else None
        received = _EPOCH + timedelta(microseconds=int(said["received"]))
        record = Record(*place, said["tenant"].decode(), key, received, message.value or b"")
    return Item(place, _place(said["after"]), record)


def _text(xid: int, seq: int) -> bytes:
    return b"%d:%d" % (xid, seq)


def _place(text: bytes) -> Place:
    xid, seq = text.split(b":")
    return int(xid), int(seq)


def dead_topic(topic: str, consumer: str) -> str:
    """Where events lie that a consumer could not handle."""
    return f"{topic}.dead.{consumer}"


def again_topic(topic: str, consumer: str) -> str:
    """Where those of them lie that it is to try again."""
    return f"{topic}.again.{consumer}"
