"""Which column of an order-line file is what.

A mapping is a TOML file beside the data (orders.csv -> orders.toml), or named on the command line:

    source = "my-shop"                  # optional; message ids begin with it; default "orders"
    currency = "EUR"                    # optional where columns.currency is given; default "USD"
    time_format = "%d.%m.%Y %H:%M"      # optional; without it ISO 8601, or a typed column
    time_zone = "Europe/Berlin"         # optional; of times that name no zone; default "UTC"
    delimiter = ";"                     # optional; default ","
    refund_prefix = "R"                 # optional; an order id that begins with it is a refund
    refund_negative_quantity = true     # optional; a line with a negative quantity is a refund

    [columns]
    order_id = "Order"                  # required: order_id, item_id, quantity, unit_price, time
    item_id = "SKU"
    item_name = "Title"                 # optional: item_name, customer_id, country, category, currency
    quantity = "Qty"
    unit_price = "Price"
    time = "Ordered at"
    customer_id = "Customer"
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from infra.failure import Refusal

REQUIRED: Final = ("order_id", "item_id", "quantity", "unit_price", "time")
OPTIONAL: Final = ("item_name", "customer_id", "country", "category", "currency")
_SOURCE: Final = re.compile("[a-z][a-z0-9-]{0,39}")
_SETTINGS: Final = MappingProxyType(
    {
        "source": str,
        "currency": str,
        "time_format": str,
        "time_zone": str,
        "delimiter": str,
        "refund_prefix": str,
        "refund_negative_quantity": bool,
    }
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """How to read one kind of file. `columns` maps our names (REQUIRED, OPTIONAL) to the file's."""

    source: str
    columns: MappingProxyType[str, str]
    currency: str = "USD"
    time_formats: tuple[str, ...] = ()
    time_zone: str = "UTC"
    delimiter: str = ","
    refund_prefix: str = ""
    refund_negative_quantity: bool = False
    # Spreadsheets save an integer column with gaps as 17850.0.
    integer_ids: bool = False


ONLINE_RETAIL: Final = Mapping(
    source="online-retail",
    columns=MappingProxyType(
        {
            "order_id": "InvoiceNo",
            "item_id": "StockCode",
            "item_name": "Description",
            "quantity": "Quantity",
            "time": "InvoiceDate",
            "unit_price": "UnitPrice",
            "customer_id": "CustomerID",
            "country": "Country",
        }
    ),
    currency="GBP",
    time_formats=("%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S"),
    time_zone="Europe/London",
    refund_prefix="C",
    integer_ids=True,
)


def read_mapping(path: Path) -> Mapping:
    """Reads and checks a mapping file. Raises Refusal."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"The mapping file {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"The mapping file {path} is not TOML: {error}.") from error
    columns = _columns(content.pop("columns", None), path)
    settings = _settings(content, path)
    _check_zone(settings.get("time_zone", "UTC"), path)
    formats = (settings.pop("time_format"),) if "time_format" in settings else ()
    source = settings.pop("source", "orders")
    return Mapping(source, columns, time_formats=formats, **settings)


def _columns(content: object, path: Path) -> MappingProxyType[str, str]:
    if not isinstance(content, dict):
        raise Refusal(f"The mapping file {path} has no table [columns].")
    known = (*REQUIRED, *OPTIONAL)
    columns: dict[str, str] = {}
    for key, value in content.items():
        if key not in known:
            raise Refusal(f"The mapping file {path} names columns.{key}; there are {', '.join(known)}.")
        if not isinstance(value, str):
            raise Refusal(f"The mapping file {path} gives columns.{key} no text.")
        columns[str(key)] = value
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise Refusal(f"The mapping file {path} lacks columns.{', columns.'.join(missing)}.")
    return MappingProxyType(columns)


def _settings(content: dict[str, Any], path: Path) -> dict[str, Any]:
    for key, value in content.items():
        if key not in _SETTINGS:
            raise Refusal(f"The mapping file {path} has the key {key}; there are {', '.join(_SETTINGS)} and [columns].")
        if type(value) is not _SETTINGS[key]:
            raise Refusal(f"The mapping file {path} gives {key} a value that is no {_SETTINGS[key].__name__}.")
    if not _SOURCE.fullmatch(content.get("source", "orders")):
        raise Refusal(f"The mapping file {path} gives a source that is not 1 to 40 lower-case letters, digits and dashes.")
    if len(content.get("delimiter", ",")) != 1:
        raise Refusal(f"The mapping file {path} gives a delimiter that is not one character.")
    return content


def _check_zone(zone: str, path: Path) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Refusal(f"The mapping file {path} names the time zone {zone}, which is not known.") from error
