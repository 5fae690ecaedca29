"""Reads the log: what was bought and paid, who is in which stage of life, who was scored, who became whom."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from rapport.profiles.v1.event_pb2 import Event

from chassis import telemetry
from chassis.log import Position, Record, messages
from services.recommendation.domain.changes import (
    LIFE_CYCLE,
    CatalogueEntry,
    Changes,
    ChurnScore,
    Item,
    Move,
    Parting,
    Payment,
    Purchase,
)
from services.recommendation.store.projection import ProjectionStore

# Services sign what they tell; profiles lets no client use such a source.
_OURS: Final = "rapport."
_CONSUMER: Final = "recommendation"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = 256


class Projector:
    """`handle` is what a log reader calls."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Writes what the records say and moves the cursor on, all or nothing."""
        await self._store.apply(changes_of(records), position)


def changes_of(records: Sequence[Record]) -> dict[str, Changes]:
    """By tenant. What cannot be read is counted and left out."""
    found: dict[str, Changes] = {}
    for record, event in messages(records, Event, _CONSUMER):
        try:
            if event.type == "track" and (add := _ADDERS.get((event.source.startswith(_OURS), event.name))):
                add(found.setdefault(record.tenant_id, Changes()), event, msgspec.json.decode(event.properties or b"{}"))
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError):
            telemetry.LOG_UNREADABLE.labels(_CONSUMER).inc()
    return found


def _add_order(changes: Changes, event: Event, said: Mapping[str, Any]) -> None:
    node_id, bought, known = UUID(event.node_id), _moment(event.ts_us), _moment(event.known_us)
    order_id = _text(said.get("order_id")) or event.event_id.hex()
    products = said.get("products")
    for product in products if isinstance(products, list) else ():
        if isinstance(product, dict) and (item_id := _text(product.get("product_id")) or _text(product.get("sku"))):
            changes.name(Item(item_id, _text(product.get("name")), _text(product.get("category")), bought))
            changes.purchases.append(Purchase(node_id, item_id, order_id, bought, known))
    if (revenue := _amount(said.get("revenue", said.get("total")))) is not None:
        changes.payments.append(Payment(node_id, event.event_id, bought, revenue))


def _add_refund(changes: Changes, event: Event, said: Mapping[str, Any]) -> None:
    if (total := _amount(said.get("total"))) is not None:
        changes.payments.append(Payment(UUID(event.node_id), event.event_id, _moment(event.ts_us), -total))


def _add_move(changes: Changes, event: Event, said: Mapping[str, Any]) -> None:
    if (segment := said["segment"]) in LIFE_CYCLE:
        changes.moves.append(Move(UUID(event.node_id), segment, event.name == "Segment Entered", _moment(event.ts_us)))


def _add_score(changes: Changes, event: Event, said: Mapping[str, Any]) -> None:
    probability = said["probability"]
    if said["purpose"] == "serving" and math.isfinite(probability):
        changes.score(ChurnScore(UUID(event.node_id), float(probability), _moment(event.ts_us)))


def _add_merge(changes: Changes, _: Event, said: Mapping[str, Any]) -> None:
    changes.merge(UUID(said["from"]), UUID(said["into"]))


def _add_parting(changes: Changes, _: Event, said: Mapping[str, Any]) -> None:
    changes.partings.append(Parting(UUID(said["from"]), UUID(said["into"]), [UUID(node) for node in said["nodes"]]))


def _add_catalogue(changes: Changes, _: Event, said: Mapping[str, Any]) -> None:
    entry = CatalogueEntry(said["item"], bool(said["inCatalogue"]), int(said["version"]))
    changes.catalogue[entry.item_id] = entry


# (told by a service, name)
_ADDERS: Final = {
    (False, "Order Completed"): _add_order,
    (False, "Order Refunded"): _add_refund,
    (True, "Segment Entered"): _add_move,
    (True, "Segment Exited"): _add_move,
    (True, "Churn Scored"): _add_score,
    (True, "Profile Merged"): _add_merge,
    (True, "Profile Unmerged"): _add_parting,
    (True, "Catalogue Item Updated"): _add_catalogue,
}


def _text(value: Any) -> str:
    """Clients send ids as numbers too. What is too long to be an id or a name is cut."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()[:_LONGEST]


def _amount(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
