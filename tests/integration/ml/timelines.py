"""Random customers whose timelines hold every case that has ever made two engines disagree."""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGINNING = datetime.min.replace(tzinfo=UTC)
# Instants at which features are asked for: one before everything, one on a midnight, one on an odd microsecond.
INSTANTS = (
    START - timedelta(days=1),
    START + timedelta(days=60),
    START + timedelta(days=150, hours=23, microseconds=1),
    START + timedelta(days=400),
)
# As clients' doubles and whole numbers arrive in jsonb.
AMOUNTS = (
    "12.50", "0.1", "0.2", "1e2", "99999999999999999999", "18446744073709551617", "1234567.890123456", "0.000000001",
    "-3.25", "7", "0.0000000005", "8.000000001499999",
)  # fmt: skip
CHANNELS = ("browser", "browser", "server", "Ähren", "")
# What clients have ever sent for a price or a quantity.
ELEMENT_NUMBERS = (
    12.5,
    0.1,
    7,
    "3.50",
    "1e2",
    1e16,
    12345678901234567890,
    -2,
    0.00005,
    "",
    "12,50",
    "n/a",
    True,
    None,
    [1],
    {"a": 1},
)

_AT_A_TIME = 20_000
# Of columns that are no texts.
_TYPES = {
    **dict.fromkeys(("node_id", "profile_id"), "uuid"), "event_id": "bytea",
    **dict.fromkeys(("ts", "known_at", "received_at", "since"), "timestamptz"),
    **dict.fromkeys(("numbers", "texts", "rest"), "jsonb"),
}  # fmt: skip
TIMELINE = (
    "tenant_id",
    "node_id",
    "event_id",
    "ts",
    "known_at",
    "received_at",
    "type",
    "name",
    "source",
    "channel",
    "numbers",
    "texts",
    "rest",
)
LINKS = ("tenant_id", "node_id", "profile_id", "since")
MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class World:
    """`events` are rows of the timeline, `links` of node_profiles, without the tenant."""

    profile_ids: list[str]
    events: list[tuple[Any, ...]]
    links: list[tuple[str, str, datetime]]


def world(seed: int, *, profile_count: int = 60) -> World:
    chance = random.Random(seed)
    profile_ids = [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(profile_count)]
    links: list[tuple[str, str, datetime]] = []
    nodes: list[str] = []
    for profile_id in profile_ids:
        for node_id in [profile_id, *(str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(chance.randrange(3)))]:
            nodes.append(node_id)
            links.append((node_id, profile_id, BEGINNING))
            merges = sorted(_moments(chance, chance.choice((0, 0, 0, 1, 2))))
            links += [(node_id, chance.choice(profile_ids), since) for since in merges]
    events = [event for node_id in nodes for event in _events(chance, node_id)]
    return World(profile_ids, events, links)


def _moments(chance: random.Random, count: int) -> set[datetime]:
    """Often exactly on an instant, on the edge of a window, or on a midnight."""
    edges = [at - timedelta(days=days) for at in INSTANTS for days in (0, 30, 90)]
    edges += [edge + timedelta(microseconds=sign) for edge in edges for sign in (-1, 1)]
    anywhere = (START + timedelta(seconds=chance.uniform(0, 420 * 86400)) for _ in range(count))
    return {chance.choice(edges) if chance.random() < 0.3 else moment for moment in anywhere}


def _events(chance: random.Random, node_id: str) -> Iterator[tuple[Any, ...]]:
    count = chance.choice((0, 1, 2, 10, 40))
    moments = list(_moments(chance, count)) or []
    for _ in range(count if moments else 0):
        ts = chance.choice(moments)  # Ties.
        late = chance.choice((timedelta(0), timedelta(0), timedelta(0), timedelta(days=40)))
        kind, name = chance.choice(
            [("track", "Order Completed")] * 4
            + [("track", "Order Refunded"), ("track", "Ticket Opened"), ("track", "Product Viewed")]
            + [("track", "Product Added"), ("page", "Home"), ("page", ""), ("identify", ""), ("screen", "Order Completed")]
        )
        numbers, texts = _properties(chance)
        channel, rest = chance.choice(CHANNELS), json.dumps({"products": _products(chance), "gift": True})
        yield (node_id, chance.randbytes(16), ts, ts + late, ts + late, kind, name, "web", channel, numbers, texts, rest)


def _properties(chance: random.Random) -> tuple[str, str]:
    amount = chance.choice(AMOUNTS)
    numbers = [f'"{key}": {amount}' for key in ("revenue", "total") if chance.random() < 0.8]
    texts = {"city": chance.choice(["Zürich", "zürich", "Ähren", "北京", "a", "B", "_"])}
    if chance.random() < 0.2:
        numbers.append(f'"order_id": {chance.randrange(5)}')
    elif chance.random() < 0.9:
        texts["order_id"] = str(chance.randrange(8))
    for key in ("topic", "category", "product_id"):
        if chance.random() < 0.7:
            texts[key] = chance.choice(("delivery", "Ähren", "zürich", "7"))
    texts["it's $.odd/key"] = chance.choice(["x", "y"])
    return "{" + ", ".join(numbers) + "}", json.dumps(texts, ensure_ascii=False)


def _products(chance: random.Random) -> object:
    """Mostly a list of objects; a client may send anything under any name."""
    if chance.random() < 0.1:
        return chance.choice([None, {}, {"price": 5}, 5, [], [[]], [5, "x", None, True], [{"price": 2.5}, 7]])
    products: list[dict[str, object]] = []
    for _ in range(chance.randrange(4)):
        product: dict[str, object] = {
            "product_id": chance.choice(["P1", "P2", 7, "P7"]),
            "price": chance.choice(ELEMENT_NUMBERS),
        }
        if chance.random() < 0.8:
            product["quantity"] = chance.choice((1, 2, 3, 0.5, "2", None))
        if chance.random() < 0.9:
            product["category"] = chance.choice(("Zürich", "zürich", "a", "B", "{odd}", None))
        products.append(product)
    return products


async def store(connection: asyncpg.Connection, tenant: str, made: World) -> None:
    """The same nodes belong to another tenant as well, who must never be read."""
    for name in (tenant, f"{tenant}-other"):
        await _insert(connection, "timeline", TIMELINE, [(name, *event) for event in made.events])
        await _insert(connection, "node_profiles", LINKS, [(name, *link) for link in made.links])


async def _insert(connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    types = [_TYPES.get(column, "text") for column in columns]
    arrays = ", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, 1))
    insert = f"INSERT INTO profiles.{table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"
    for first in range(0, len(rows), _AT_A_TIME):
        await connection.execute(insert, *map(list, zip(*rows[first : first + _AT_A_TIME], strict=True)))


def export(folder: Path, made: World) -> None:
    """The archive, as profiles writes it."""
    events = {name: list(column) for name, column in zip(TIMELINE[1:], zip(*made.events, strict=True), strict=True)}
    types = {"event_id": pa.binary(16), "ts": MOMENT, "known_at": MOMENT, "received_at": MOMENT}
    _write(folder / "events" / "day=2024-01-01" / "1-1.parquet", events, types)
    links = {name: list(column) for name, column in zip(LINKS[1:], zip(*made.links, strict=True), strict=True)}
    _write(folder / "identities" / "identities.parquet", links, {"since": MOMENT})


def _write(path: Path, columns: dict[str, list[Any]], types: dict[str, pa.DataType]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(column, types.get(name, pa.string())) for name, column in columns.items()}), path)
