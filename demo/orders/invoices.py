"""From order lines to Segment calls.

- The lines of one order id, customer and currency are one order, at the time of the earliest of them: an order id with lines
  of several customers makes several orders. Lines without a customer are the anonymous visitor `invoice-<order id>`.
- An order is one `Order Completed`, a cancellation one `Order Refunded`, unless its JSON would pass MAX_EVENT_BYTES or
  MAX_LINES: then its lines, sorted by item, price, quantity and name, fill several events of the same order id, one after
  the other; each carries the sum of its own lines.
- A message id is made of the source, "order" or "refund", the order id and the event's number within that order id.
- Each customer with a country gets one `identify`, at the time and with the country of the first event that names one (the
  alphabetically first, where its lines differ). It carries no row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from demo.orders.lines import Lines, is_exact
from demo.source import ZERO, Call, Carried, RejectedRow

# The gateway takes 32 KB and 2,000 properties an event, an item's own counted.
MAX_EVENT_BYTES: Final = 32 * 1024 - 256
MAX_LINES: Final = 380
# What an item costs in JSON besides its texts; a character may be escaped as six.
_ITEM_BYTES: Final = 120
_ESCAPED: Final = 6

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Part:
    """One event of an order: some of its rows, as positions in Lines."""

    order_id: str
    customer_id: str | None
    refund: bool
    number: int
    time: datetime
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The events to come, in time order. `first` maps a customer to the first part, for the identify before it."""

    parts: list[Part]
    first: dict[str, Part]
    rejected: list[RejectedRow]


def plan_events(lines: Lines, source: str) -> Plan:
    """Groups the usable rows into events. A line that is too large for any event is rejected."""
    orders: dict[tuple[str, bool], dict[tuple[str | None, str], list[int]]] = {}
    for row in lines.usable:
        key = (lines.order_ids[row], lines.refunds[row])
        orders.setdefault(key, {}).setdefault((lines.customer_ids[row], lines.currencies[row]), []).append(row)
    parts: list[Part] = []
    rejected: list[RejectedRow] = []
    for (order_id, refund), groups in orders.items():
        number = 0
        for (customer_id, _), rows in sorted(groups.items(), key=lambda item: (item[0][0] or "", item[0][1])):
            time = min([lines.times[row] for row in rows])
            whole = Part(order_id, customer_id, refund, number + 1, time, rows)
            for some in _split(lines, whole, source, rejected):
                number += 1
                parts.append(Part(order_id, customer_id, refund, number, time, some))
    parts.sort(key=lambda part: (part.time, part.order_id, part.refund, part.number))
    first: dict[str, Part] = {}
    for part in parts:
        if part.customer_id is not None and part.customer_id not in first and _country(lines, part):
            first[part.customer_id] = part
    return Plan(parts, first, rejected)


def calls_of(lines: Lines, plan: Plan, source: str) -> Iterator[tuple[Call, Carried]]:
    """Each call with what it carries, in time order."""
    for part in plan.parts:
        if part.customer_id is not None and plan.first.get(part.customer_id) is part:
            yield identify_of(lines, part, source), Carried(0, ZERO, anonymous=False)
        money = sum((lines.amounts[row] for row in part.rows), ZERO)
        yield event_of(lines, part, source), Carried(len(part.rows), money, part.customer_id is None)


def identify_of(lines: Lines, part: Part, source: str) -> Call:
    """Who the customer of `part` is."""
    return {
        "type": "identify",
        "messageId": f"{source}:customer:{part.customer_id}",
        "userId": part.customer_id,
        "timestamp": _iso(part.time),
        "traits": {"country": _country(lines, part)},
        "context": {"channel": "server"},
    }


def event_of(lines: Lines, part: Part, source: str) -> Call:
    """`Order Completed` or `Order Refunded` in Segment's ecommerce spec; the amounts are positive in both."""
    total = _plain(abs(sum((lines.amounts[row] for row in part.rows), ZERO)))
    properties: dict[str, object] = {"order_id": part.order_id}
    if not part.refund:
        properties["revenue"] = total
    properties["total"] = total
    properties["currency"] = lines.currencies[part.rows[0]]
    properties["products"] = [_product(lines, row) for row in part.rows]
    kind = "refund" if part.refund else "order"
    known = part.customer_id is not None
    return {
        "type": "track",
        "event": "Order Refunded" if part.refund else "Order Completed",
        "messageId": f"{source}:{kind}:{part.order_id}:{part.number}",
        "userId" if known else "anonymousId": part.customer_id if known else f"invoice-{part.order_id}",
        "timestamp": _iso(part.time),
        "properties": properties,
        "context": {"channel": "server"},
    }


def _product(lines: Lines, row: int) -> dict[str, object]:
    product: dict[str, object] = {
        "product_id": lines.item_ids[row],
        "price": _plain(lines.prices[row]),
        "quantity": _plain(abs(lines.quantities[row])),
    }
    if (name := lines.item_names[row]) is not None:
        product["name"] = name
    if (category := lines.categories[row]) is not None:
        product["category"] = category
    return product


def _split(lines: Lines, whole: Part, source: str, rejected: list[RejectedRow]) -> list[list[int]]:
    """The rows of each event that `whole` needs."""
    if _surely_fits(lines, whole) or _fits(lines, whole, source):
        return [whole.rows]
    parts: list[list[int]] = []
    # An event without products, and its total in at most twenty digits, twice.
    frame = len(_encode(event_of(lines, Part(*_but_rows(whole), whole.rows[:1]), source))) + 40
    size, total = 0, ZERO
    for row in sorted(whole.rows, key=lambda row: _order(lines, row)):
        item = len(_encode(_product(lines, row))) + 1
        if frame + item > MAX_EVENT_BYTES:
            rejected.append(lines.reject(row, "line_too_large"))
            continue
        total += lines.amounts[row]
        size += item
        if not parts or frame + size > MAX_EVENT_BYTES or len(parts[-1]) == MAX_LINES or not is_exact(total):
            parts.append([])
            size, total = item, lines.amounts[row]
        parts[-1].append(row)
    return parts


def _country(lines: Lines, part: Part) -> str | None:
    return min((country for row in part.rows if (country := lines.countries[row])), default=None)


def _but_rows(part: Part) -> tuple[str, str | None, bool, int, datetime]:
    return part.order_id, part.customer_id, part.refund, part.number, part.time


def _surely_fits(lines: Lines, part: Part) -> bool:
    """Cheap and careful: without encoding anything."""
    if len(part.rows) > 100:
        return False
    texts = sum([len(lines.item_ids[row]) + len(lines.item_names[row] or "") for row in part.rows])
    texts += sum([len(lines.categories[row] or "") for row in part.rows])
    total = sum((lines.amounts[row] for row in part.rows), ZERO)
    return _ESCAPED * texts + _ITEM_BYTES * len(part.rows) < MAX_EVENT_BYTES // 2 and is_exact(total)


def _fits(lines: Lines, part: Part, source: str) -> bool:
    total = sum((lines.amounts[row] for row in part.rows), ZERO)
    size = len(_encode(event_of(lines, part, source)))
    return size <= MAX_EVENT_BYTES and len(part.rows) <= MAX_LINES and is_exact(total)


def _order(lines: Lines, row: int) -> tuple[str, Decimal, Decimal, str]:
    return lines.item_ids[row], lines.prices[row], lines.quantities[row], lines.item_names[row] or ""


def _plain(number: Decimal) -> int | float:
    """The JSON number with the same decimals."""
    return int(number) if number == number.to_integral_value() else float(number)


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
