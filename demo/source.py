"""What every source of calls has in common, and the sums that are checked after its calls were fed."""

import csv
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

Call = dict[str, Any]  # one Segment call, as JSON
ZERO = Decimal(0)


class Source(Protocol):
    """Where calls come from. `calls` may be run again: it gives the same calls with the same message ids."""

    @property
    def name(self) -> str:
        """For people: a file's name, or "simulated shop"."""
        ...

    @property
    def kind(self) -> str:
        """For programs: "simulator", "online-retail", "orders" (or its mapping's name), "segment"."""
        ...

    @property
    def clock(self) -> Literal["events"]:
        """Whose time it is: all sources replay history, so the newest event says."""
        ...

    @property
    def call_count(self) -> int | None:
        """How many calls there will be, for a progress bar; None where only the end tells."""
        ...

    @property
    def tally(self) -> "Tally":
        """Complete once `calls` has been run to its end."""
        ...

    def calls(self) -> Iterator[Call]:
        """The calls in the order to feed them."""
        ...


@dataclass(frozen=True, slots=True)
class Carried:
    """What one message carries. `money`: orders positive, refunds negative."""

    rows: int
    money: Decimal
    anonymous: bool


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be used. `row` counts the data rows from 1; `money` is zero where it could not be read."""

    row: int
    reason: str
    order_id: str
    money: Decimal


@dataclass(frozen=True, slots=True)
class Sums:
    """Both sides of the identity: rows in = carried + refused + rejected, and the same of the money.

    Carried are the rows of the messages that were stored, refused those of the messages that were not.
    """

    rows_in: int
    rows_carried: int
    rows_refused: int
    rows_rejected: Counter[str]
    money_in: Decimal
    money_profiles: Decimal
    money_anonymous: Decimal
    money_refused: Decimal
    money_rejected: Decimal

    @property
    def hold(self) -> bool:
        """Whether both identities hold, exactly."""
        rows_out = self.rows_carried + self.rows_refused + self.rows_rejected.total()
        money_out = self.money_profiles + self.money_anonymous + self.money_refused + self.money_rejected
        return self.rows_in == rows_out and self.money_in == money_out


@dataclass(slots=True)
class Tally:
    """What came in and where it went. Writing the same message again changes nothing."""

    rows_in: int = 0
    money_in: Decimal = ZERO
    carried: dict[str, Carried] = field(default_factory=dict[str, Carried])
    rejected: list[RejectedRow] = field(default_factory=list[RejectedRow])

    def sums(self, stored: Container[str] | None = None) -> Sums:
        """`stored`: the message ids that the platform holds (accepted now or earlier); None: all of them."""
        kept = [carried for key, carried in self.carried.items() if stored is None or key in stored]
        lost = [carried for key, carried in self.carried.items() if stored is not None and key not in stored]
        return Sums(
            rows_in=self.rows_in,
            rows_carried=sum(carried.rows for carried in kept),
            rows_refused=sum(carried.rows for carried in lost),
            rows_rejected=Counter(row.reason for row in self.rejected),
            money_in=self.money_in,
            money_profiles=sum((carried.money for carried in kept if not carried.anonymous), ZERO),
            money_anonymous=sum((carried.money for carried in kept if carried.anonymous), ZERO),
            money_refused=sum((carried.money for carried in lost), ZERO),
            money_rejected=sum((row.money for row in self.rejected), ZERO),
        )

    def count_call(self, call: Call) -> bool:
        """Counts a call that is a row of its own; False: its message id was counted before, nothing changes."""
        key = str(call["messageId"])
        if key in self.carried:
            return False
        carried = Carried(1, money_of(call), not call.get("userId"))
        self.carried[key] = carried
        self.rows_in += 1
        self.money_in += carried.money
        return True

    def reject(self, row: RejectedRow) -> None:
        """Counts a row that no call carries."""
        self.rejected.append(row)
        self.rows_in += 1
        self.money_in += row.money


def money_of(call: Call) -> Decimal:
    """Revenue of an `Order Completed`, minus the total of an `Order Refunded`, else zero. Exact in the JSON's decimals."""
    properties = call.get("properties")
    if not isinstance(properties, dict):
        return ZERO
    if call.get("event") == "Order Completed":
        return _decimal(properties.get("revenue"))
    return -_decimal(properties.get("total")) if call.get("event") == "Order Refunded" else ZERO


def _decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ZERO
    amount = Decimal(repr(value))
    return amount if amount.is_finite() else ZERO


def write_rejected_rows(path: Path, tally: Tally) -> None:
    """Writes all rejected rows as CSV, in the file's order; the header alone where there is none."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "reason", "order_id", "money"])
        for row in sorted(tally.rejected, key=lambda rejected: rejected.row):
            writer.writerow([row.row, row.reason, row.order_id, format(row.money, "f")])
