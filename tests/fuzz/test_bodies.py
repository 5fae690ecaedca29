"""Bodies of events, right, wrong and broken: none is answered with a fault of ours, and none of their events is lost."""

import asyncio
import gzip
import json
import string
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import asyncpg
import httpx
from hypothesis import strategies as st
from rapport.profiles.v1 import event_pb2

from tests.fuzz.conftest import Run, seeds
from tests.part import Keys, Part

TYPES = ("identify", "track", "page", "screen", "group", "alias")
_COUNTS = """
SELECT rejected_count, duplicate_count, quarantined_count FROM profiles.intake_counts WHERE tenant_id = $1
"""
_PAYLOADS = "SELECT payload FROM log.events WHERE tenant_id = $1"

LATEST = 1_700_000_000
NAMES = ("price", "revenue", "total", "products", "email", "quantity")
texts = st.text(max_size=40) | st.sampled_from(["", "\x00", "null", "a" * 300, "\ud800", "\U0001f600", "ada@example.com", "-0"])


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
    | st.sampled_from([1e308, -1e308, 10**400, 0.1, 2**63, "1e400"])
)  # fmt: skip
# Three deep, and `deep` far deeper: st.recursive takes twice as long.
flat = scalars | st.lists(scalars, max_size=4) | st.dictionaries(texts, scalars, max_size=4)
values = scalars | st.lists(flat, max_size=4) | st.dictionaries(texts, flat, max_size=4)
deep = st.integers(1, 3000).map(lambda depth: _nested(depth))
objects = st.dictionaries(texts | st.sampled_from(NAMES), flat, max_size=6)
moments = st.integers(0, LATEST).map(_moment)
times = st.datetimes().map(lambda each: each.isoformat() + "Z") | texts | st.integers()


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(min(depth, 900)):
        value = [value]
    return value


def right(seed: int) -> dict[str, Any]:
    """An event with nothing wrong: of one choice, since Hypothesis takes longer for twelve than a service for the event."""
    chance = Random(seed)

    def short() -> str:
        return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(1, 3)))

    def printable() -> str:
        return "".join(chance.choices(string.printable, k=chance.randint(0, 20)))

    return {
        "type": chance.choice(TYPES),
        "messageId": short() if chance.random() < 0.3 else f"{chance.getrandbits(64):x}",
        "userId": short(),
        "anonymousId": short(),
        "previousId": short(),
        "groupId": short(),
        "event": chance.choice(("Order Completed", "Product Viewed", "x")),
        "name": printable(),
        "properties": {short(): chance.choice((chance.randint(0, 9), printable())) for _ in range(chance.randint(0, 4))},
        "traits": {short(): chance.choice((True, False, short())) for _ in range(chance.randint(0, 4))},
        "timestamp": _moment(chance.randint(0, LATEST)),
    }


wrong: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(right(0), values),
    "properties": objects | st.fixed_dictionaries({"deep": deep}) | values,
    "traits": objects,
    "context": objects | values,
    "timestamp": times,
    "originalTimestamp": times,
    "sentAt": times,
    "writeKey": texts,
}


# Made once: a strategy that is made anew for each input is checked anew, too.
twentieth = st.integers(0, 19)
wrongs = st.lists(st.tuples(st.sampled_from(list(wrong)), st.booleans()), max_size=2)


@st.composite
def an_event(draw: st.DrawFn) -> Any:
    """Right, or wrong in a place or two, or nothing of the kind."""
    if draw(twentieth) == 0:
        return draw(values)
    event = right(draw(seeds))
    for name, is_missing in draw(wrongs):
        if is_missing:
            event.pop(name, None)
        else:
            event[name] = draw(wrong[name])
    return event


events = an_event()


def as_json(value: Any) -> bytes:
    """With what JSON does not have, NaN among it, as Python writes it; half a pair as an escape."""
    return json.dumps(value).encode()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request; `count` events are in it, None where only profiles can tell."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


kinds = st.sampled_from([*TYPES, "batch", "batch", "batch", "import"])
batches = st.lists(events, max_size=8) | st.lists(events, max_size=8) | st.lists(events, max_size=8) | values
mores = st.fixed_dictionaries({}, optional={"sentAt": moments, "context": objects})
rubbish = st.binary(max_size=200)
places = st.floats(0, 1, exclude_max=True)
content_types = st.sampled_from([None, None, "application/json", "text/plain", "x", "text/plain;charset=utf-16"])
encodings = st.sampled_from(["gzip", "br", "identity", "x-gzip"])


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    kind = draw(kinds)
    body = as_json(draw(events) if kind in TYPES else {"batch": draw(batches)} | draw(mores))
    broken = draw(twentieth)
    if broken == 0:
        body = draw(rubbish)
    elif broken <= 2:
        place = int(draw(places) * len(body))
        body = body[:place] if broken == 1 else body[:place] + draw(rubbish)[:3] + body[place + 1 :]
    content_type = draw(content_types)
    headers = {} if content_type is None else {"Content-Type": content_type}
    if draw(twentieth) < 2:
        headers["Content-Encoding"] = draw(encodings)
        if headers["Content-Encoding"].endswith("gzip") and draw(st.booleans()):
            body = gzip.compress(body)
    return Sent(f"/v1/{kind}", body, headers)


def stored(running: Part, tenant: str) -> Counter[str]:
    """What the database says of a tenant's events."""

    async def ask() -> Counter[str]:
        connection = await asyncpg.connect(running.database.dsn("rapport_owner"))
        try:
            row = await connection.fetchrow(_COUNTS, tenant) or (0, 0, 0)
            events = [event_pb2.Event.FromString(each["payload"]) for each in await connection.fetch(_PAYLOADS, tenant)]
        finally:
            await connection.close()
        accepted = sum(not event.source.startswith("rapport.") for event in events)  # those are what services record
        return +Counter(accepted=accepted, rejected=row[0], duplicate=row[1], quarantined=row[2])

    with ThreadPoolExecutor(1) as aside:
        return aside.submit(lambda: asyncio.run(ask())).result()


def test_no_body_is_a_fault_of_ours_and_no_event_is_lost(running: Part, fuzz: Run) -> None:
    keys: Keys = running.new_tenant()
    told: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    with httpx.Client(base_url=running.url, auth=(keys.write, ""), trust_env=False, timeout=60) as client:

        def ask(sent: Sent) -> None:
            answer = client.post(sent.path, content=sent.body, headers=sent.headers)
            statuses[answer.status_code] += 1
            body = answer.json()
            if answer.status_code == 200:
                told.update(receipt["status"] for receipt in body["receipts"])
                is_batch = sent.path in ("/v1/batch", "/v1/import")
                if is_batch and not sent.headers.get("Content-Encoding", "").endswith("gzip"):
                    assert len(body["receipts"]) == _count(sent.body), sent
            elif answer.status_code == 400 and "Content-Encoding says" not in body["detail"]:
                told["rejected"] += 1  # the body as a whole, or its only event
            elif answer.status_code not in (400, 413, 415):
                faults.append(f"{answer.status_code} {answer.text} for {sent}")

        asked = fuzz(requests(), 0.45, ask)
        print(f"{asked} bodies: {dict(sorted(statuses.items()))}, events {dict(told)}")
    assert faults == []
    assert told["accepted"] > asked / 20
    assert told["rejected"] > asked / 20
    assert stored(running, keys.tenant) == told


def _count(body: bytes) -> int:
    try:  # a text that is not UTF-8 is its event's fault, not the body's
        return len(json.loads(body.decode(errors="replace"))["batch"])
    except (ValueError, RecursionError):
        return -1
