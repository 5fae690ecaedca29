"""A small shop in the archive's form: customers who order at a rate of their own until they drop out."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np

from tests.integration.ml.timelines import BEGINNING, World, export

OPENING = datetime(2023, 1, 1, tzinfo=UTC)
DAYS = 480


def node(name: str, *, anonymous: bool = False) -> str:
    """As profiles names nodes: an eighth-version UUID that says what it stands for."""
    raw = bytearray(hashlib.sha256(name.encode()).digest()[:16])
    raw[6], raw[8] = 0x81 if anonymous else 0x80, (raw[8] & 0x3F) | 0x80
    return str(UUID(bytes=bytes(raw)))


def order(node_id: str, day: float, revenue: float = 20.0, *, source: str = "web") -> tuple[object, ...]:
    ts = OPENING + timedelta(days=day)
    number = hashlib.sha256(f"{node_id}{day}".encode())
    texts = json.dumps({"order_id": number.hexdigest()[:12]})
    numbers = json.dumps({"revenue": revenue})
    return (node_id, number.digest()[:16], ts, ts, ts, "track", "Order Completed", source, "", numbers, texts, "{}")


def shop(*, customers: int = 500, seed: int = 1) -> World:
    """Gamma-distributed rates, exponential lifetimes; the last event is a minute before DAYS end."""
    chance = np.random.default_rng(seed)
    events = [order(node("last"), DAYS - 1 / 1440)]
    ids = [node("last")]
    for index in range(customers):
        node_id = node(f"customer {index}")
        ids.append(node_id)
        joined = chance.uniform(0, DAYS * 0.85)
        until = min(DAYS - 0.01, joined + chance.exponential(250))
        rate, spend = chance.gamma(0.8, 1 / 25), chance.lognormal(3.5, 0.6)
        day = joined
        while day < until:
            events.append(order(node_id, day, round(spend * chance.lognormal(0, 0.4), 2)))
            day += chance.exponential(1 / rate)
    return World(ids, events, [(node_id, node_id, BEGINNING) for node_id in ids])


def archive(folder: Path, made: World) -> Path:
    export(folder, made)
    return folder
