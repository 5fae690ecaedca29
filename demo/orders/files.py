"""An order-line file as a source."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from demo.orders.invoices import Plan, calls_of, plan_events
from demo.orders.lines import Lines, read_lines
from demo.orders.mapping import ONLINE_RETAIL, Mapping, read_mapping
from demo.orders.table import check_columns, column_names, read_table
from demo.source import Call, Tally
from infra.failure import Refusal


class _Read(NamedTuple):
    lines: Lines
    plan: Plan
    tally: Tally


class OrderLines:
    """See demo.source.Source. The file is read when it is first needed, once; `calls` may be run again.

    Whatever needs the rows raises Refusal where the file cannot be read after all.
    """

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self._path = path
        self._mapping = mapping

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def kind(self) -> str:
        return self._mapping.source

    @property
    def clock(self) -> Literal["events"]:
        return "events"

    @property
    def call_count(self) -> int:
        return len(self._read.plan.parts) + len(self._read.plan.first)

    @property
    def tally(self) -> Tally:
        return self._read.tally

    def calls(self) -> Iterator[Call]:
        lines, plan, tally = self._read
        for call, carried in calls_of(lines, plan, self.kind):
            tally.carried[call["messageId"]] = carried
            yield call

    @cached_property
    def _read(self) -> _Read:
        table = read_table(self._path, self._mapping)
        tally = Tally()
        lines = read_lines(table, self._mapping, tally, now=datetime.now(UTC))
        plan = plan_events(lines, self.kind)
        tally.rejected += plan.rejected
        return _Read(lines, plan, tally)


def open_order_lines(path: Path, mapping: Path | None = None) -> OrderLines:
    """A CSV or Parquet file. Without a mapping it is UCI Online Retail, or there is one beside it: <file>.toml.

    Raises Refusal: unreadable file, unknown columns without a mapping, or a mapping that does not fit.
    """
    chosen = _mapping_for(path, mapping)
    check_columns(path, chosen)
    return OrderLines(path, chosen)


def _mapping_for(path: Path, mapping: Path | None) -> Mapping:
    beside = path.with_suffix(".toml")
    if mapping is not None or beside.exists():
        return read_mapping(mapping or beside)
    names = column_names(path)
    missing = [name for name in ONLINE_RETAIL.columns.values() if name not in names]
    if not missing:
        return ONLINE_RETAIL
    raise Refusal(
        f"{path} is not UCI Online Retail (no column {', '.join(missing)}; there are {', '.join(names)}), "
        f"and there is no mapping file {beside}."
    )
