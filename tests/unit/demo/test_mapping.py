from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.opening import open_source
from infra.failure import Refusal

COLUMNS = """
[columns]
order_id = "Order"
item_id = "SKU"
quantity = "Qty"
unit_price = "Price"
time = "At"
"""
HEADER = "Order;SKU;Title;Qty;Price;At;Buyer;Land;Group;Money"
LINE = "R-1;S1;Chair;2;10.5;31.03.2024 12:00;b1;Germany;Seats;CHF"
FULL = f"""
source = "chairs"
currency = "EUR"
time_format = "%d.%m.%Y %H:%M"
time_zone = "Europe/Berlin"
delimiter = ";"
refund_negative_quantity = true
{COLUMNS}
item_name = "Title"
customer_id = "Buyer"
country = "Land"
category = "Group"
currency = "Money"
"""


def write(folder: Path, mapping: str, *lines: str) -> Path:
    (folder / "chairs.toml").write_text(mapping)
    path = folder / "chairs.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_any_order_lines_are_read_with_a_mapping(tmp_path: Path) -> None:
    refund = LINE.replace("R-1;S1;Chair;2", "R-1;S1;Chair;-1")
    source = open_source(write(tmp_path, FULL, LINE, refund))
    identify, order, back = source.calls()
    assert identify["traits"] == {"country": "Germany"}
    assert order["messageId"] == "chairs:order:R-1:1"
    assert order["timestamp"] == "2024-03-31T10:00:00Z"
    assert order["properties"] == {
        "order_id": "R-1",
        "revenue": 21,
        "total": 21,
        "currency": "CHF",
        "products": [{"product_id": "S1", "price": 10.5, "quantity": 2, "name": "Chair", "category": "Seats"}],
    }
    assert (back["event"], back["messageId"]) == ("Order Refunded", "chairs:refund:R-1:1")
    assert source.tally.sums().hold


def test_without_a_time_format_typed_columns_are_read(tmp_path: Path) -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    table = pa.table({"Order": [1], "SKU": [7], "Qty": [2.5], "Price": [1.25], "At": [at]})
    pq.write_table(table, tmp_path / "kilos.parquet")
    (tmp_path / "kilos.toml").write_text(COLUMNS)
    (order,) = open_source(tmp_path / "kilos.parquet").calls()
    assert order["timestamp"] == "2024-05-01T12:00:00Z"
    assert order["properties"]["revenue"] == 3.125
    assert order["properties"]["currency"] == "USD"


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (COLUMNS, "no column Order (mapped to order_id); there are Order;SKU"),
        (FULL.replace('"Price"', '"Cost"'), "no column Cost (mapped to unit_price); there are Order, SKU, Title, Qty, Price"),
        (FULL.replace('order_id = "Order"', ""), "lacks columns.order_id"),
        (FULL + 'colour = "Title"', "names columns.colour; there are order_id, item_id"),
        ('sauce = "x"\n' + COLUMNS, "has the key sauce; there are source"),
        ("refund_prefix = 7\n" + COLUMNS, "gives refund_prefix a value that is no str"),
        ('time_zone = "Europe/Atlantis"\n' + COLUMNS, "names the time zone Europe/Atlantis"),
        ('source = "My Shop"\n' + COLUMNS, "gives a source that is not"),
        ('delimiter = "--"\n' + COLUMNS, "delimiter that is not one character"),
        ("currency = ", "is not TOML"),
        ("", "has no table [columns]"),
    ],
)
def test_a_wrong_mapping_is_refused_by_name(tmp_path: Path, mapping: str, sentence: str) -> None:
    path = write(tmp_path, mapping, LINE)
    with pytest.raises(Refusal) as refusal:
        open_source(path)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.csv", None, "There is no data file"),
        ("empty.csv", b"", "is empty"),
        ("other.csv", b"a,b\n1,2\n", "is not UCI Online Retail (no column InvoiceNo"),
        ("torn.parquet", b"PAR1 no more", "cannot be read as Parquet"),
        ("words.jsonl", b"hello\n", "is not JSON lines"),
        ("empty.jsonl", b"\n", "is empty"),
        ("table.xlsx", b"PK", "ends in none of .csv"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refusal) as refusal:
        open_source(path)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
