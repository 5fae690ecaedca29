"""The real file, once: every figure is the one that its publishers and the shared data's README state."""

import time
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from demo.orders import OrderLines, open_order_lines
from tests.data import dataset

Read = tuple[OrderLines, list[dict[str, Any]], list[int]]


@pytest.fixture(scope="module")
def read() -> Read:
    path = dataset("online_retail/online_retail.parquet")
    started = time.monotonic()
    source = open_order_lines(path)
    calls, sizes = [], []
    for call in source.calls():
        sizes.append(len(msgspec.json.encode(call)))
        calls.append({**call, "properties": {**call.get("properties", {}), "products": None}})
    print(f"\nOnline Retail, read and written as {len(calls)} calls: {time.monotonic() - started:.1f} s")
    return source, calls, sizes


def test_every_row_and_every_penny_is_accounted_for(read: Read) -> None:
    sums = read[0].tally.sums()
    assert sums.hold
    assert sums.rows_in == 541_909
    assert sums.rows_rejected == Counter(negative_quantity=1336, negative_price=2)
    assert sums.money_in == Decimal("9747747.934")
    assert sums.money_profiles == Decimal("8300065.814")
    assert sums.money_rejected == Decimal("-22124.12")


def test_customers_invoices_and_cancellations_are_all_there(read: Read) -> None:
    _, calls, _ = read
    assert sum(call["type"] == "identify" for call in calls) == 4372
    orders = {call["properties"]["order_id"] for call in calls if call.get("event") == "Order Completed"}
    refunds = {call["properties"]["order_id"] for call in calls if call.get("event") == "Order Refunded"}
    # Of the 25,900 invoices, 1,336 have one line with a negative quantity and no price, and 2 adjust bad debt.
    assert len(orders) + len(refunds) == 25_900 - 1338
    assert len(refunds) == 3836


def test_large_invoices_are_split_and_no_event_passes_32_kb(read: Read) -> None:
    source, calls, sizes = read
    assert max(sizes) < 32 * 1024
    split = {call["properties"]["order_id"] for call in calls if call["messageId"].endswith(":2")}
    assert len(split) in (86, 87)
    assert source.call_count == len(calls)
    assert len({call["messageId"] for call in calls}) == len(calls)


def test_calls_come_in_time_order(read: Read) -> None:
    times = [call["timestamp"] for call in read[1]]
    assert times == sorted(times)
    assert (times[0], times[-1]) == ("2010-12-01T08:26:00Z", "2011-12-09T12:50:00Z")
