"""From a customer's days to Segment calls.

A moment is a call in short; its key is the same in both worlds and from run to run, and makes the message id.
"""

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np

from demo.simulator.catalogue import Catalogue
from demo.simulator.lives import RETURNED_FROM, Life, World, order_days, ticket_days, visit_days
from demo.simulator.people import Kind, Person
from demo.source import Call

CURRENCY: Final = "EUR"
DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
# The shop's day: visitors come between these parts of it, UTC.
OPENS, CLOSES = 0.28, 0.94
# Chances for the number of items in a basket, cumulative, from one item on.
BASKET_SIZES: Final = (0.28, 0.55, 0.76, 0.89, 0.96)
SAME_RANGE: Final = 0.62
OWN_RANGES: Final = 0.92
SECOND_VIEW: Final = 0.3
PAGE_ONLY: Final = 0.3
ABANDONED_CART: Final = 0.18
REFUNDED: Final = 0.02
REFUNDED_UNHAPPY: Final = 0.07
TOPICS: Final = ("delivery", "damaged item", "refund", "question")
# Columns of chance per order: size, range, and for each of six items range, place and quantity; then refunds and views.
_ORDER_CHANCES: Final = 26
_VISIT_CHANCES: Final = 6

Basket = tuple[tuple[int, int], ...]  # (place in the catalogue, quantity)


class Moment(NamedTuple):
    """One call in short, ordered by time, customer, key. `items` are those it is about."""

    ms: int
    person: int
    key: str
    name: str
    items: Basket = ()
    order: str = ""


@dataclass(frozen=True, slots=True)
class Chances:
    """What else is random of one customer: a row of numbers in [0, 1) for each order and each visit."""

    orders: list[list[float]]
    returned: list[list[float]]
    visits: list[list[float]]

    def of_order(self, number: int) -> list[float]:
        """The row of order `number`."""
        return self.returned[number - RETURNED_FROM] if number >= RETURNED_FROM else self.orders[number]


def draw_chances(life: Life, rng: np.random.Generator) -> Chances:
    """Draws for all orders of both worlds."""
    numbers = {number for world in World for number, _ in order_days(life, world)}
    returned = sum(number >= RETURNED_FROM for number in numbers)
    return Chances(
        orders=rng.random((len(numbers) - returned, _ORDER_CHANCES)).tolist(),
        returned=rng.random((returned, _ORDER_CHANCES)).tolist(),
        visits=rng.random((len(life.visits), _VISIT_CHANCES)).tolist(),
    )


@dataclass(frozen=True, slots=True)
class Diary:
    """Writes the moments of customer `index`. `start_ms` is the shop's first midnight."""

    index: int
    person: Person
    life: Life
    chances: Chances
    catalogue: Catalogue
    start_ms: int

    def moments(self, world: World) -> Iterator[Moment]:
        """All moments in that world, in no order, beyond any horizon too."""
        yield from self._acquaintance()
        for number, day in order_days(self.life, world):
            yield from self._order(number, self._ms(day))
        for number, day in visit_days(self.life, world):
            yield from self._visit(number, self._ms(day))
        for number, day in ticket_days(self.life, world):
            yield Moment(self._ms(day), self.index, f"ticket-{number}", "Ticket Opened")

    def _acquaintance(self) -> Iterator[Moment]:
        """Visits before the customer is known, and how that comes about."""
        nature = self.person.nature
        for number, day in enumerate(self.life.early_visits.tolist()):
            yield Moment(self._ms(day), self.index, f"early-{number}", "page")
        if nature.kind is not Kind.STRANGER:
            yield Moment(self._ms(nature.identified) - 30 * MINUTE_MS, self.index, "identify-1", "identify")
        if (day := self.life.second_device) is not None:
            yield Moment(self._ms(day), self.index, "device-2", "page")
            yield Moment(self._ms(day) + 2 * MINUTE_MS, self.index, "identify-2", "identify")

    def _order(self, number: int, ms: int) -> Iterator[Moment]:
        chances = self.chances.of_order(number)
        basket = self._basket(chances)
        order = f"{self.index + 1:05d}-{number:04d}"
        views = basket[: 2 if chances[25] < SECOND_VIEW else 1]
        for place, item in enumerate(views):
            yield Moment(
                ms - (9 - 2 * place) * MINUTE_MS, self.index, f"order-{number}-view-{place}", "Product Viewed", (item,)
            )
        yield Moment(ms - 3 * MINUTE_MS, self.index, f"order-{number}-cart", "Product Added", basket[:1])
        yield Moment(ms, self.index, f"order-{number}", "Order Completed", basket, order)
        unhappy = self.person.nature.rating <= 6
        if chances[20] < (REFUNDED_UNHAPPY if unhappy else REFUNDED):
            returned = basket if chances[22] < 0.4 else basket[:1]
            later = int((2.0 + 16.0 * chances[21]) * DAY_MS)
            yield Moment(ms + later, self.index, f"order-{number}-refund", "Order Refunded", returned, order)

    def _visit(self, number: int, ms: int) -> Iterator[Moment]:
        chances = self.chances.visits[number]
        if chances[0] < PAGE_ONLY:
            yield Moment(ms, self.index, f"visit-{number}", "page")
            return
        item = ((self._item(self._shelf(chances[1]), chances[2], chances[3]), 1),)
        yield Moment(ms, self.index, f"visit-{number}", "Product Viewed", item)
        if chances[4] < ABANDONED_CART:
            yield Moment(ms + 2 * MINUTE_MS, self.index, f"visit-{number}-cart", "Product Added", item)

    def _basket(self, chances: list[float]) -> Basket:
        """Most items of a basket are of one range, so that what is bought together says something."""
        main = self._shelf(chances[1])
        basket: dict[int, int] = {}
        for number in range(1 + bisect(BASKET_SIZES, chances[0])):
            where, which, count = chances[2 + 3 * number : 5 + 3 * number]
            shelf = main if number == 0 or where < SAME_RANGE else self._shelf((where - SAME_RANGE) / (1.0 - SAME_RANGE))
            place = self._item(shelf, where if number else 0.0, which)
            basket.setdefault(place, 1 + bisect((0.8, 0.95), count))
        return tuple(basket.items())

    def _shelf(self, chance: float) -> int:
        nature = self.person.nature
        return nature.shelves[bisect(nature.shelf_chances, chance)]

    def _item(self, shelf: int, where: float, which: float) -> int:
        """An item of the range, or, where chance is beyond the customer's own taste, any."""
        return self.catalogue.item_of(shelf, which) if where < OWN_RANGES else self.catalogue.any_item(which)

    def _ms(self, day: float) -> int:
        """Keeps the order of days and stays on the same date."""
        whole, part = divmod(day, 1.0)
        return self.start_ms + int((whole + OPENS + (CLOSES - OPENS) * part) * DAY_MS)


def call_of(moment: Moment, person: Person, catalogue: Catalogue, prefix: str) -> Call:
    """The Segment call of a moment. Before a customer is known, and on a new device, it names the anonymous id."""
    call: Call = {"messageId": f"{prefix}-{moment.person + 1:05d}-{moment.key}", "timestamp": iso(moment.ms)}
    device = person.anonymous_ids[1 if moment.key in ("device-2", "identify-2") else 0]
    if moment.name == "identify":
        call |= {"type": "identify", "userId": person.user_id, "anonymousId": device, "traits": person.traits}
    elif moment.name == "page":
        call |= {"type": "page", "name": "Home", "properties": {"path": "/"}}
    else:
        call |= {"type": "track", "event": moment.name, "properties": _properties(moment, catalogue)}
    if moment.name != "identify":
        stranger = person.nature.kind is Kind.STRANGER or moment.key.startswith(("early-", "device-2"))
        call |= {"anonymousId": device} if stranger else {"userId": person.user_id}
    served = moment.name in ("Order Completed", "Order Refunded", "Ticket Opened")
    call["context"] = {"channel": "server" if served else "browser"}
    return call


def _properties(moment: Moment, catalogue: Catalogue) -> dict[str, Any]:
    if moment.name == "Ticket Opened":
        # A topic by the key, so that it needs no chance of its own.
        return {"ticket_id": f"{moment.person + 1:05d}-{moment.key}", "topic": TOPICS[sum(moment.key.encode()) % len(TOPICS)]}
    products = [_product(catalogue, place, count) for place, count in moment.items]
    if moment.name in ("Product Viewed", "Product Added"):
        product = products[0]
        return product if moment.name == "Product Added" else {k: v for k, v in product.items() if k != "quantity"}
    total = sum(catalogue.items[place].price_cents * count for place, count in moment.items) / 100
    amounts = {"revenue": total, "total": total} if moment.name == "Order Completed" else {"total": total}
    return {"order_id": moment.order, **amounts, "currency": CURRENCY, "products": products}


def _product(catalogue: Catalogue, place: int, count: int) -> dict[str, Any]:
    item = catalogue.items[place]
    return {
        "product_id": item.product_id,
        "name": item.name,
        "category": item.category,
        "price": item.price_cents / 100,
        "quantity": count,
    }


def iso(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 with Z."""
    seconds, rest = divmod(ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=rest)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
