"""Order lines as arrays, from real shops, and how well a ranking meets what was bought later."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from services.recommendation.domain.model import History, Model, SegmentBuyers, build_model
from services.recommendation.domain.pairs import Pairs, horizon_us
from services.recommendation.domain.ranking import Ranked, Wish
from tests.data import dataset

BUILT = datetime(2011, 1, 1, tzinfo=UTC)
NO_SEGMENTS = SegmentBuyers([], np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """One row a line."""

    customer: Any
    item: Any
    order: Any
    ts_us: Any

    def where(self, mask: Any) -> "Lines":
        return replace(self, **{name: getattr(self, name)[mask] for name in self.__slots__})


def coded(customer: Any, item: Any, order: Any, ts_us: Any) -> Lines:
    codes = [np.unique(values, return_inverse=True)[1] for values in (customer, item, order)]
    return Lines(codes[0], codes[1], codes[2], ts_us)


def online_retail() -> Lines:
    table = pq.read_table(dataset("online_retail/online_retail.parquet"))
    sold = ~np.isnan(table["CustomerID"].to_numpy().astype(np.float64)) & (table["Quantity"].to_numpy() > 0)
    return _lines(table, "CustomerID", "StockCode", "InvoiceNo", "InvoiceDate").where(sold)


def complete_journey() -> Lines:
    table = pq.read_table(dataset("complete_journey/transactions_sample.parquet"))
    return _lines(table, "household_id", "product_id", "basket_id", "transaction_timestamp")


def _lines(table: Any, *columns: str) -> Lines:
    customer, item, order, time = (table[name].to_numpy() for name in columns)
    return coded(customer.astype(str), item.astype(str), order.astype(str), time.astype("datetime64[us]").astype(np.int64))


def pairs_of(lines: Lines, at_us: int) -> Pairs:
    """What the store reads from the database, from arrays."""
    known = lines.where(lines.ts_us < at_us)
    horizon = horizon_us(int(known.ts_us.min()), at_us)
    numbers, item = np.unique(known.item, return_inverse=True)
    customer = np.unique(known.customer, return_inverse=True)[1]
    keys, row = np.unique(customer * len(numbers) + item, return_inverse=True)
    early = known.ts_us < at_us - horizon
    return Pairs(
        at_us=at_us,
        horizon_us=horizon,
        item_numbers=numbers,
        customer=(keys // len(numbers)).astype(np.int32),
        item=(keys % len(numbers)).astype(np.int32),
        orders=_different_orders(row, known.order, len(keys)),
        last_us=_newest(row, known.ts_us, len(keys)),
        early_orders=_different_orders(row[early], known.order[early], len(keys)),
        early_last_us=_newest(row[early], known.ts_us[early], len(keys)),
        again=np.bincount(row[~early], minlength=len(keys)) > 0,
    )


def _different_orders(row: Any, order: Any, count: int) -> Any:
    unique = np.unique(np.stack((row, order)), axis=1)
    return np.bincount(unique[0], minlength=count).astype(np.int32)


def _newest(row: Any, ts_us: Any, count: int) -> Any:
    newest = np.zeros(count, np.int64)
    np.maximum.at(newest, row, ts_us)
    return newest


Ranking = Callable[[Model, History, Wish], list[Ranked]]


class Trial:
    """A model at an instant, and the customers who bought before it and after it."""

    def __init__(self, lines: Lines, at_us: int) -> None:
        pairs = pairs_of(lines, at_us)
        self.model = build_model(pairs, NO_SEGMENTS, built=BUILT)
        after = lines.where(lines.ts_us >= at_us)
        bought_after: dict[int, set[int]] = {}
        for customer, item in np.unique(np.stack((after.customer, after.item)), axis=1).T.tolist():
            bought_after.setdefault(customer, set()).add(item)
        self._customers: list[tuple[History, set[int]]] = []
        for position, customer in enumerate(np.unique(lines.customer[lines.ts_us < at_us]).tolist()):
            mine = slice(*np.searchsorted(pairs.customer, (position, position + 1)))
            if wanted := bought_after.get(customer):
                self._customers.append((History(pairs.item[mine], pairs.orders[mine], pairs.last_us[mine]), wanted))

    def hit_rate(self, ranking: Ranking, *, new_only: bool) -> float:
        """Share of customers to whom one of ten items was shown that they bought after.

        With `new_only`, items bought before are neither shown nor counted.
        """
        wish = Wish(10, not new_only, np.zeros(self.model.item_count, np.bool_))
        hits: list[bool] = []
        for history, bought in self._customers:
            wanted = bought - set(self.model.item_numbers[history.items].tolist()) if new_only else bought
            if wanted:
                hits.append(any(each.item_number in wanted for each in ranking(self.model, history, wish)))
        return float(np.mean(hits))
