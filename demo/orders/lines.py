"""From a table to order lines: each row is a usable line, or is rejected for the first reason that it gives."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from demo.orders.mapping import Mapping
from demo.orders.table import Column, Table
from demo.source import ZERO, RejectedRow, Tally

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LIMIT: Final = Decimal(10**9)  # of a price and of a quantity
PRICE_DECIMALS: Final = 6
QUANTITY_DECIMALS: Final = 3
# Below this, an amount with nine decimals has at most fifteen digits, which a JSON number surely keeps.
SAFE_AMOUNT: Final = 10**6

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_WHOLE: Final = re.compile(r"(\d+)\.0", re.ASCII)
# NUL and half surrogate pairs cannot be stored; other control characters are no text either.
_UNREADABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Flaw:
    """Stands where a value cannot be used."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lines:
    """The file's rows, column by column. `amounts` are price times quantity, signed as in the file.

    `usable` holds the positions of the rows that can be used, in the file's order.
    """

    order_ids: list[str]
    customer_ids: list[str | None]
    item_ids: list[str]
    item_names: list[str | None]
    prices: list[Decimal]
    quantities: list[Decimal]
    amounts: list[Decimal]
    times: list[datetime]
    countries: list[str | None]
    categories: list[str | None]
    currencies: list[str]
    refunds: list[bool]
    usable: list[int]
    numbers: list[int]

    def reject(self, row: int, reason: str) -> RejectedRow:
        """What is written down about a row that cannot be used."""
        order_id, amount = self.order_ids[row], self.amounts[row]
        return RejectedRow(self.numbers[row], reason, order_id if isinstance(order_id, str) else "", amount)


def read_lines(table: Table, mapping: Mapping, tally: Tally, *, now: datetime) -> Lines:
    """Parses and judges every row; the rejected ones go into `tally`, with the sums of all."""
    columns = _parsed(table, mapping, now)
    rows = {name: column.rows() for name, column in columns.items()}
    refunds = _refunds(columns["order_id"], rows["quantity"], mapping)
    amounts = [_amount(price, count) for price, count in zip(rows["unit_price"], rows["quantity"], strict=True)]
    flaws = _flaws(columns, rows, refunds, amounts)
    lines = Lines(
        order_ids=rows["order_id"],
        customer_ids=rows["customer_id"],
        item_ids=rows["item_id"],
        item_names=rows["item_name"],
        prices=rows["unit_price"],
        quantities=rows["quantity"],
        amounts=amounts,
        times=rows["time"],
        countries=rows["country"],
        categories=rows["category"],
        currencies=rows["currency"],
        refunds=refunds,
        usable=[row for row in range(len(amounts)) if row not in flaws],
        numbers=table.numbers.tolist(),
    )
    tally.rows_in = len(amounts) + len(table.broken)
    tally.money_in = sum(amounts, ZERO)
    tally.rejected = [lines.reject(row, reason) for row, reason in flaws.items()]
    tally.rejected += [RejectedRow(number, "broken_line", "", ZERO) for number in table.broken]
    return lines


def _parsed(table: Table, mapping: Mapping, now: datetime) -> dict[str, Column]:
    """All our columns; one that the mapping lacks is absent in every row."""
    identifier = partial(_text, integer=mapping.integer_ids)
    currency = mapping.currency
    parsers: dict[str, Callable[[Any], Any]] = {
        "order_id": lambda value: _required(identifier(value), "missing_invoice"),
        "time": lambda value: _required(_time(value, mapping, now), "missing_time"),
        "quantity": lambda value: _number(value, "quantity", QUANTITY_DECIMALS),
        "unit_price": lambda value: _number(value, "price", PRICE_DECIMALS),
        "item_id": lambda value: _required(_text(value), "missing_item"),
        "item_name": _text,
        "customer_id": identifier,
        "country": _text,
        "category": _text,
        "currency": lambda value: _text(value) or currency,
    }
    first = table.columns["order_id"]
    absent = Column(first.codes * 0, [None])
    return {name: table.columns.get(name, absent).map(parse) for name, parse in parsers.items()}


def _required(value: Any, reason: str) -> Any:
    return Flaw(reason) if value is None else value


def _text(value: Any, *, integer: bool = False) -> Any:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if _UNREADABLE.search(text):
        return Flaw("unreadable_text")
    whole = _WHOLE.fullmatch(text) if integer else None
    return whole[1] if whole else text


def _number(value: Any, noun: str, decimals: int) -> Decimal | Flaw:
    if value is None:
        return Flaw(f"missing_{noun}")
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, str) and not _NUMBER.fullmatch(text):
        return Flaw(f"unreadable_{noun}")
    if isinstance(value, float) and not math.isfinite(value):
        return Flaw(f"unreadable_{noun}")
    number = Decimal(text)
    if abs(number) >= LIMIT or number != round(number, decimals):
        return Flaw("number_too_long")
    return number


def _time(value: Any, mapping: Mapping, now: datetime) -> datetime | Flaw | None:
    """UTC. Of a local time that comes twice the first is meant; one that is skipped is taken as before the change."""
    if value is None:
        return None
    moment = _moment(value, mapping.time_formats)
    if moment is None:
        return Flaw("unreadable_time")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(mapping.time_zone))
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        return Flaw("time_out_of_bounds")
    return moment if EPOCH <= moment <= now + timedelta(days=1) else Flaw("time_out_of_bounds")


def _moment(value: Any, formats: tuple[str, ...]) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    for pattern in formats:
        try:
            return datetime.strptime(str(value), pattern)  # noqa: DTZ007  (its zone comes from the mapping)
        except ValueError:
            continue
    try:
        return None if formats else datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _amount(price: Decimal | Flaw, quantity: Decimal | Flaw) -> Decimal:
    return ZERO if isinstance(price, Flaw) or isinstance(quantity, Flaw) else price * quantity


def _refunds(order_ids: Column, quantities: list[Any], mapping: Mapping) -> list[bool]:
    prefix = mapping.refund_prefix
    by_id = order_ids.map(lambda value: bool(prefix) and isinstance(value, str) and value.startswith(prefix)).rows()
    if not mapping.refund_negative_quantity:
        return by_id
    return [marked or (isinstance(count, Decimal) and count < 0) for marked, count in zip(by_id, quantities, strict=True)]


def _flaws(
    columns: dict[str, Column], rows: dict[str, list[Any]], refunds: list[bool], amounts: list[Decimal]
) -> dict[int, str]:
    """Reason by row position: unreadable or missing values first, in the columns' order, then what makes no sense."""
    flaws: dict[int, str] = {}
    for name, column in columns.items():
        if any(isinstance(value, Flaw) for value in column.values):
            for row, value in enumerate(rows[name]):
                if isinstance(value, Flaw):
                    flaws.setdefault(row, value.reason)
    judged = zip(rows["unit_price"], rows["quantity"], refunds, amounts, strict=True)
    for row, (price, quantity, refund, amount) in enumerate(judged):
        if row not in flaws and (reason := _nonsense(price, quantity, refund, amount)):
            flaws[row] = reason
    return flaws


def _nonsense(price: Decimal, quantity: Decimal, refund: bool, amount: Decimal) -> str | None:
    if price < 0:
        return "negative_price"
    if quantity == 0:
        return "zero_quantity"
    if (quantity < 0) is not refund:
        return "positive_quantity_in_refund" if refund else "negative_quantity"
    if abs(amount) >= SAFE_AMOUNT and not is_exact(amount):
        return "number_too_long"
    return None


def is_exact(amount: Decimal) -> bool:
    """Whether the amount survives as a JSON number that is read as a binary float."""
    return Decimal(repr(float(amount))) == amount
