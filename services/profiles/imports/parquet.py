"""Rows of a Parquet file. A module of its own: Arrow takes 60 MB, which a CSV does not need."""

import io
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from chassis.errors import InvalidArgument, Reason
from services.profiles.imports.mapping import ColumnMapping, layout_of
from services.profiles.imports.rows import Identify, Row, encoder_of

_ROWS: Final = 1_000
# Of each column at a time, whatever the size of the file's row groups.
_BUFFER_BYTES: Final = 128 * 1024
_KINDS: Final = (
    (types.is_boolean, "boolean"),
    (types.is_integer, "integer"),
    (types.is_floating, "number"),
    (types.is_decimal, "number"),
    (types.is_string, "text"),
    (types.is_large_string, "text"),
    (types.is_timestamp, "time"),
    (types.is_date, "time"),
    (types.is_null, "text"),
    (types.is_nested, "json"),
)


class ParquetRows:
    """`total` is how many rows there are; places are numbers of rows. Raises InvalidArgument where it is not Parquet."""

    def __init__(self, file: io.RawIOBase, mapping: ColumnMapping, identify: Identify) -> None:
        pa.set_memory_pool(pa.system_memory_pool())
        try:
            self._file = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError):
            raise _damaged() from None
        self.total: int = self._file.metadata.num_rows
        layout = layout_of(mapping, schema.names, [_kind_of(field.type) for field in schema])
        self._encode = encoder_of(layout, identify)
        # The others are not read at all.
        self._names = [schema.names[column.index] for column in layout.columns]
        self._width = len(schema.names)
        self._indexes = [column.index for column in layout.columns]

    def rows(self, place: int) -> Iterator[Row]:
        """From row `place` on, the first is 0."""
        group, before = 0, 0
        metadata = self._file.metadata
        while group < metadata.num_row_groups and before + metadata.row_group(group).num_rows <= place:
            before += metadata.row_group(group).num_rows
            group += 1
        skip = place - before
        try:
            for batch in self._file.iter_batches(_ROWS, row_groups=range(group, metadata.num_row_groups), columns=self._names):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                for values in self._values(batch.slice(skip)):
                    place += 1
                    yield Row(self._call(values), place)
                skip = 0
        except (pa.ArrowException, OSError):
            raise _damaged() from None

    def _values(self, batch: Any) -> Iterator[list[Any]]:
        columns: list[Any] = [[None] * batch.num_rows] * self._width
        for index, name in zip(self._indexes, self._names, strict=True):
            columns[index] = _plain(batch.column(batch.schema.get_field_index(name))).to_pylist()
        return map(list, zip(*columns, strict=True))

    def _call(self, values: list[Any]) -> bytes | InvalidArgument:
        try:
            return self._encode(values)
        except InvalidArgument as error:
            return error
        except (TypeError, OverflowError):
            return InvalidArgument("the row holds what JSON cannot", reason=Reason.MALFORMED_ROW)


def _kind_of(kind: Any) -> str:
    """The type of a column's values; empty where a call cannot hold them."""
    if types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    return next((name for matches, name in _KINDS if matches(kind)), "")


def _plain(column: Any) -> Any:
    """Nanoseconds are no time of Python's."""
    if types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _damaged() -> InvalidArgument:
    return InvalidArgument("the file is not Parquet, or it is damaged", reason=Reason.MALFORMED_FILE)
