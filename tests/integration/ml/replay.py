"""Segment calls as the timeline keeps them, without the service: public properties, and identities that are learnt."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
from rapport.profiles.v1 import event_pb2

from services.profiles.domain.classify import kind_of, split
from services.profiles.timeline import timeline_row
from tests.integration.ml.timelines import BEGINNING, World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Every so many events become known so much later.
EVERY, LATE = 20, timedelta(days=25)


def node(space: str, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{space}:{name}"))


def world_of(calls: Iterable[dict[str, Any]]) -> World:
    """A visitor who says who they are belongs to that customer from then on."""
    rows: list[tuple[Any, ...]] = []
    owners: dict[str, str] = {}
    links: list[tuple[str, str, datetime]] = []
    for number, call in enumerate(calls):
        ts = datetime.fromisoformat(call["timestamp"])
        ids = list(_nodes(call))
        for each in ids:
            if each not in owners:
                owners[each] = each
                links.append((each, each, BEGINNING))
        if len(ids) == 2 and owners[ids[1]] != ids[0]:
            owners[ids[1]] = ids[0]
            links.append((ids[1], ids[0], ts))
        rows.append(_row(call, ids[0], ts, ts + LATE if number % EVERY == 0 else ts))
    return World(sorted(owners), rows, links)


def _nodes(call: dict[str, Any]) -> Iterator[str]:
    """The user first."""
    for key in ("userId", "anonymousId"):
        if call.get(key):
            yield node(key, str(call[key]))


def _row(call: dict[str, Any], node_id: str, ts: datetime, known_at: datetime) -> tuple[Any, ...]:
    name = call.get("event") or call.get("name") or ""
    public, _ = split(call.get("properties") or call.get("traits") or {}, kind_of(call["type"], name))
    event = event_pb2.Event(
        event_id=sha256(call["messageId"].encode()).digest()[:16],
        type=call["type"],
        name=name,
        ts_us=(ts - EPOCH) // timedelta(microseconds=1),
        node_id=node_id,
        properties=msgspec.json.encode(public) if public else b"",
        channel=call.get("context", {}).get("channel", ""),
    )
    kept = timeline_row(event)
    assert kept is not None
    return (
        kept.node_id,
        kept.event_id,
        ts,
        known_at,
        ts,
        kept.type,
        kept.name,
        kept.source,
        kept.channel,
        kept.numbers,
        kept.texts,
        kept.rest,
    )
