"""The customers of a small shop, for the console's tests and for looking at it: the same ones each time."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import NAMESPACE_URL, uuid5

NOW = datetime(2025, 4, 1, 9, 30, tzinfo=UTC)
ADA = "user_id:ada@example.com"
_ITEMS = ("Oak writing desk", "Linen curtain, sand", "Brass table lamp", "Wool throw, moss", "Stoneware mug", "Walnut shelf")
_TOPICS = ("delivery", "damaged item", "question")


@dataclass(frozen=True, slots=True)
class Happened:
    """One event."""

    at: datetime
    type: str
    name: str
    properties: dict[str, Any]
    source: str = "shop"


@dataclass(frozen=True)
class Person:
    """One customer; `number` decides everything."""

    number: int

    @property
    def profile_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"person-{self.number}"))

    @property
    def identified(self) -> bool:
        return self.number % 5 != 4

    @property
    def refs(self) -> tuple[str, ...]:
        named = ADA if self.number == 0 else f"user_id:customer-{self.number}"
        device = f"anonymous_id:device-{self.number}"
        return (self.profile_id, named, device) if self.identified else (self.profile_id, device)

    @cached_property
    def _chance(self) -> random.Random:
        return random.Random(self.number)

    @cached_property
    def orders(self) -> Sequence[tuple[datetime, float]]:
        if not self.identified:
            return ()
        count = 1 + self.number * 7 % 23
        first = NOW - timedelta(days=420 - self.number)
        step = (380 - self.number * 5 % 200) / count
        return [(first + timedelta(days=step * place), 20 + self.number * 31 % 170 + place * 3.5) for place in range(count)]

    @property
    def revenue(self) -> float:
        return sum(amount for _, amount in self.orders)

    @property
    def days_since(self) -> float | None:
        return (NOW - self.orders[-1][0]) / timedelta(days=1) if self.orders else None

    @property
    def risk(self) -> float:
        return min(0.96, 0.05 + (self.days_since or 0.0) / 320)

    @property
    def stage(self) -> str:
        if self.days_since is None:
            return "potential"
        if self.days_since >= 90:
            return "lost"
        return "new" if len(self.orders) < 3 else "active"

    @property
    def rfm(self) -> str | None:
        """Not the real rule; only spread in a like way."""
        if not self.orders:
            return None
        names = ("champions", "loyal", "potential_loyalists", "need_attention", "at_risk", "hibernating", "hibernating")
        return names[min(6, int((self.days_since or 0) / 45))]

    @cached_property
    def events(self) -> Sequence[Happened]:
        """Newest first."""
        events = [Happened(NOW - timedelta(days=430), "page", "Home", {"path": "/"}, "web")]
        if self.identified:
            events.append(Happened(NOW - timedelta(days=425), "identify", "", {"plan": "standard"}, "web"))
        for place, (at, amount) in enumerate(self.orders):
            item = _ITEMS[(self.number + place) % len(_ITEMS)]
            viewed = {"product_id": f"P{place:03d}", "name": item, "price": amount}
            events.append(Happened(at - timedelta(minutes=9), "track", "Product Viewed", viewed, "web"))
            products = [viewed | {"quantity": 1 + place % 3}, {"product_id": "P900", "name": "Stoneware mug", "quantity": 2}]
            order = {"order_id": f"{self.number:05d}-{place:04d}", "revenue": amount, "currency": "EUR", "products": products}
            events.append(Happened(at, "track", "Order Completed", order))
        if self.number % 3 == 0:
            topic = {"ticket_id": "t1", "topic": _TOPICS[self.number % 3]}
            events.append(Happened(NOW - timedelta(days=31), "track", "Ticket Opened", topic))
        scored = {"model": "churn", "version": "3", "probability": self.risk}
        events.append(Happened(NOW - timedelta(hours=2), "track", "Churn Scored", scored, "rapport.scoring"))
        entered = {"segment": self.stage, "version": 1}
        events.append(Happened(NOW - timedelta(days=3), "track", "Segment Entered", entered, "rapport.segmentation"))
        return sorted(events, key=lambda event: event.at, reverse=True)

    @property
    def traits(self) -> bytes:
        return json.dumps({"plan": "standard", "country": "DE"} if self.identified else {}).encode()


PEOPLE = tuple(Person(number) for number in range(64))
BY_REF = {ref: person for person in PEOPLE for ref in person.refs}
