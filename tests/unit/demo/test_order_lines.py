import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.orders import open_order_lines
from demo.source import write_rejected_rows

HEADER = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
GOOD = ["536365", "85123A", "WHITE HANGING HEART", "6", "12/1/2010 8:26", "2.55", "17850", "United Kingdom"]

Row = list[str]


def write_csv(path: Path, rows: list[Row], header: Row = HEADER, encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows([header, *rows])
    return path


def changed(**values: str) -> Row:
    return [values.get(name, good) for name, good in zip(HEADER, GOOD, strict=True)]


def calls_of(path: Path) -> list[dict[str, Any]]:
    return list(open_order_lines(path).calls())


def test_an_invoice_is_an_order_completed_at_its_local_time(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [GOOD, changed(StockCode="71053", UnitPrice="3.39", Quantity="2")])
    identify, order = calls_of(path)
    assert identify == {
        "type": "identify",
        "messageId": "online-retail:customer:17850",
        "userId": "17850",
        "timestamp": "2010-12-01T08:26:00Z",
        "traits": {"country": "United Kingdom"},
        "context": {"channel": "server"},
    }
    assert order == {
        "type": "track",
        "event": "Order Completed",
        "messageId": "online-retail:order:536365:1",
        "userId": "17850",
        "timestamp": "2010-12-01T08:26:00Z",
        "context": {"channel": "server"},
        "properties": {
            "order_id": "536365",
            "revenue": 22.08,
            "total": 22.08,
            "currency": "GBP",
            "products": [
                {"product_id": "85123A", "name": "WHITE HANGING HEART", "price": 2.55, "quantity": 6},
                {"product_id": "71053", "name": "WHITE HANGING HEART", "price": 3.39, "quantity": 2},
            ],
        },
    }


def test_summer_time_in_london_is_an_hour_ahead(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [changed(InvoiceDate="7/1/2011 12:00")])
    assert {call["timestamp"] for call in calls_of(path)} == {"2011-07-01T11:00:00Z"}


def test_a_cancellation_is_a_refund_with_positive_amounts(tmp_path: Path) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [changed(InvoiceNo="C536379", Quantity="-6")]))
    refund = list(source.calls())[1]
    assert refund["event"] == "Order Refunded"
    assert refund["properties"]["total"] == 15.3
    assert "revenue" not in refund["properties"]
    assert refund["properties"]["products"][0]["quantity"] == 6
    assert source.tally.sums().money_profiles == Decimal("-15.30")


def test_an_invoice_without_a_customer_is_anonymous(tmp_path: Path) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [changed(CustomerID="")]))
    (order,) = source.calls()
    assert order["anonymousId"] == "invoice-536365"
    assert "userId" not in order
    assert source.tally.sums().money_anonymous == Decimal("15.30")


def test_an_order_of_several_customers_becomes_one_order_each(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [GOOD, changed(CustomerID="17851"), changed(CustomerID="")])
    orders = [call for call in calls_of(path) if call["type"] == "track"]
    assert [order.get("userId") for order in orders] == [None, "17850", "17851"]
    assert len({order["messageId"] for order in orders}) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (changed(InvoiceNo=""), "missing_invoice"),
        (changed(InvoiceDate=""), "missing_time"),
        (changed(InvoiceDate="2010-13-01"), "unreadable_time"),
        (changed(InvoiceDate="12/1/1969 8:26"), "time_out_of_bounds"),
        (changed(InvoiceDate="12/1/2910 8:26"), "time_out_of_bounds"),
        (changed(Quantity=""), "missing_quantity"),
        (changed(Quantity="six"), "unreadable_quantity"),
        (changed(Quantity="0"), "zero_quantity"),
        (changed(Quantity="-6"), "negative_quantity"),
        (changed(InvoiceNo="C1"), "positive_quantity_in_refund"),
        (changed(UnitPrice=""), "missing_price"),
        (changed(UnitPrice="2,55"), "unreadable_price"),
        (changed(UnitPrice="NaN"), "unreadable_price"),
        (changed(UnitPrice="1e3"), "unreadable_price"),
        (changed(UnitPrice="-11062.06", InvoiceNo="A563186"), "negative_price"),
        (changed(UnitPrice="0.0000001"), "number_too_long"),
        (changed(UnitPrice="1000000000"), "number_too_long"),
        (changed(UnitPrice="999999999.999999", Quantity="999999.999"), "number_too_long"),
        (changed(StockCode=" "), "missing_item"),
        (changed(Description="a\x00b"), "unreadable_text"),
        (changed(Description="x" * 40_000), "line_too_large"),
        (GOOD[:5], "broken_line"),
        ([*GOOD, "more"], "broken_line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_row_is_rejected_for_its_reason(tmp_path: Path, row: Row, reason: str) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [GOOD, row, changed(InvoiceNo="536366")]))
    assert len(list(source.calls())) == 3
    (rejected,) = source.tally.rejected
    assert (rejected.row, rejected.reason) == (2, reason)
    assert source.tally.sums().hold
    assert source.tally.sums().rows_in == 3


def test_rejected_rows_are_listed_in_the_files_order(tmp_path: Path) -> None:
    rows = [changed(Quantity="-2"), GOOD, GOOD[:3], changed(UnitPrice="-1")]
    source = open_order_lines(write_csv(tmp_path / "a.csv", rows))
    write_rejected_rows(tmp_path / "rejected_rows.csv", source.tally)
    assert (tmp_path / "rejected_rows.csv").read_text().splitlines() == [
        "row,reason,order_id,money",
        "1,negative_quantity,536365,-5.10",
        "3,broken_line,,0",
        "4,negative_price,536365,-6",
    ]


def test_a_zero_price_and_a_repeated_row_are_rows_like_others(tmp_path: Path) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [GOOD, GOOD, changed(UnitPrice="0")]))
    order = list(source.calls())[1]
    assert len(order["properties"]["products"]) == 3
    assert order["properties"]["revenue"] == 30.6


def test_a_file_of_a_spreadsheet_is_read_in_its_encoding(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [changed(Description="CAFÉ £5", CustomerID="17850.0")], encoding="cp1252")
    order = calls_of(path)[1]
    assert order["properties"]["products"][0]["name"] == "CAFÉ £5"
    assert order["userId"] == "17850"


def test_parquet_and_csv_give_the_same_calls(tmp_path: Path) -> None:
    rows = [GOOD, changed(CustomerID="", UnitPrice="0.001"), changed(InvoiceNo="C7", Quantity="-1")]
    columns = dict(zip(HEADER, zip(*rows, strict=True), strict=True))
    table = pa.table(
        {
            **columns,
            "Quantity": [int(value) for value in columns["Quantity"]],
            "UnitPrice": [float(value) for value in columns["UnitPrice"]],
            "CustomerID": [float(value) if value else None for value in columns["CustomerID"]],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert calls_of(tmp_path / "a.parquet") == calls_of(write_csv(tmp_path / "a.csv", rows))


def test_a_large_invoice_is_split_under_the_limit(tmp_path: Path) -> None:
    rows = [changed(StockCode=f"I{number}", Description="é" * 60, UnitPrice=f"{number}.01") for number in range(700)]
    forward = calls_of(write_csv(tmp_path / "a.csv", rows))[1:]
    backward = calls_of(write_csv(tmp_path / "b.csv", rows[::-1]))[1:]
    assert forward == backward
    assert [call["messageId"][-2:] for call in forward] == [f":{number + 1}" for number in range(len(forward))]
    assert {call["properties"]["order_id"] for call in forward} == {"536365"}
    assert all(len(msgspec.json.encode(call)) < 32 * 1024 for call in forward)
    # Each but the last is full: the next line would not have fitted.
    assert all(len(msgspec.json.encode(call)) > 32 * 1024 - 700 for call in forward[:-1])
    sold = [product for call in forward for product in call["properties"]["products"]]
    assert sorted(product["product_id"] for product in sold) == sorted(row[1] for row in rows)


def test_many_short_lines_are_split_by_their_number(tmp_path: Path) -> None:
    orders = calls_of(write_csv(tmp_path / "a.csv", [changed(StockCode="1", Description="")] * 400))[1:]
    assert [len(order["properties"]["products"]) for order in orders] == [380, 20]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", "C4", "A5", ""]),
        st.sampled_from(["10", "11"]),
        st.sampled_from(["A", "B\xa3", ""]),
        st.sampled_from(["1", "-3", "12", "0", "x", "2.5"]),
        st.sampled_from(["12/1/2010 8:26", "12/1/2010 8:27", "3/27/2011 1:30", "never"]),
        st.sampled_from(["0", "2.55", "0.001", "-1", "11062.06", "0.1", ""]),
        st.sampled_from(["17850", "17851", ""]),
        st.sampled_from(["France", "EIRE", ""]),
    ).map(list),
    max_size=40,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, seed=st.randoms(use_true_random=False))
def test_no_row_and_no_penny_is_lost_in_any_order(tmp_path: Path, rows: list[Row], seed: Any) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", rows))
    calls = list(source.calls())
    sums = source.tally.sums()
    assert sums.hold
    assert sums.rows_in == len(rows)
    said = sum((sign(call) * Decimal(repr(call["properties"]["total"])) for call in calls if "properties" in call), Decimal(0))
    assert said == sums.money_profiles + sums.money_anonymous
    seed.shuffle(rows)
    shuffled = open_order_lines(write_csv(tmp_path / "b.csv", rows))
    assert Counter(call["messageId"] for call in shuffled.calls()) == Counter(call["messageId"] for call in calls)
    assert shuffled.tally.sums() == sums


def sign(call: dict[str, Any]) -> int:
    return -1 if call["event"] == "Order Refunded" else 1


def test_what_the_gateway_refused_is_told_apart(tmp_path: Path) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [GOOD, changed(InvoiceNo="536366", CustomerID="")]))
    list(source.calls())
    sums = source.tally.sums({"online-retail:order:536366:1"})
    assert (sums.rows_carried, sums.rows_refused) == (1, 1)
    assert (sums.money_anonymous, sums.money_refused) == (Decimal("15.30"), Decimal("15.30"))
    assert sums.hold


def test_running_the_calls_again_changes_nothing(tmp_path: Path) -> None:
    source = open_order_lines(write_csv(tmp_path / "a.csv", [GOOD, changed(CustomerID="")]))
    first, sums = list(source.calls()), source.tally.sums()
    assert list(source.calls()) == first
    assert source.tally.sums() == sums
    assert source.call_count == len(first)
