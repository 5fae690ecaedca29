"""What the timeline keeps of an event. The projection and the archive are written by this same function."""

from typing import Any, Final, NamedTuple

import msgspec
from rapport.profiles.v1 import event_pb2

from services.profiles.domain.amounts import canonical
from services.profiles.domain.validate import FACT_SOURCE
from services.profiles.jsontext import dumps, loads

_NUMBERS: Final = (int, float)
_EMPTY: Final = "{}"


class TimelineRow(NamedTuple):
    """Times in microseconds since the epoch; the last three are JSON objects as text.

    `numbers` holds the top-level numbers and truth values (as 0 and 1) that fit numeric(38, 9), written without exponent,
    `texts` the top-level texts, `rest` everything else, truth values as themselves among it: where a name is in several,
    `rest` is what the client sent.
    """

    node_id: str
    event_id: bytes
    ts_us: int
    known_us: int
    received_us: int
    type: str
    name: str
    source: str
    channel: str
    numbers: str
    texts: str
    rest: str


def is_fact(event: event_pb2.Event) -> bool:
    """Whether a service recorded it; no client can (see draft._label)."""
    return event.source.startswith(FACT_SOURCE)


def timeline_row(event: event_pb2.Event) -> TimelineRow | None:
    """None for what concerns nobody."""
    if not event.node_id:
        return None
    numbers, texts, rest = _parted(event.properties) if event.properties else (_EMPTY, _EMPTY, _EMPTY)
    return TimelineRow(
        event.node_id,
        event.event_id,
        event.ts_us,
        event.known_us,
        event.received_us,
        event.type,
        event.name,
        event.source,
        event.channel,
        numbers,
        texts,
        rest,
    )


def _parted(properties: bytes) -> tuple[str, str, str]:
    numbers: dict[str, msgspec.Raw] = {}
    texts: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for key, value in loads(properties).items():
        if isinstance(value, str):
            texts[key] = value
        elif isinstance(value, _NUMBERS):
            text = canonical(value)
            if text is not None:
                numbers[key] = msgspec.Raw(text.encode())
            if text is None or isinstance(value, bool):
                rest[key] = value
        else:
            rest[key] = value
    return _text(numbers), _text(texts), _text(rest)


def _text(part: dict[str, Any]) -> str:
    return dumps(part).decode() if part else _EMPTY
