"""An order-line file as columns of distinct values, so that each is parsed once however many rows have it."""

import codecs
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from demo.orders.mapping import Mapping
from infra.failure import Refusal


@dataclass(frozen=True, slots=True)
class Column:
    """`codes[row]` is the place in `values` of a row's value. None stands for an absent or empty one."""

    codes: NDArray[np.int32]
    values: list[Any]

    def rows(self) -> list[Any]:
        """The value of each row."""
        values = self.values
        return [values[code] for code in self.codes.tolist()]

    def map(self, parse: Callable[[Any], Any]) -> "Column":
        """Each distinct value parsed once."""
        return Column(self.codes, [parse(value) for value in self.values])


@dataclass(frozen=True, slots=True)
class Table:
    """`numbers[i]` is the data row's number in the file, from 1; `broken` are the rows with too few or too many fields."""

    columns: dict[str, Column]
    numbers: NDArray[np.int64]
    broken: list[int]


def column_names(path: Path, delimiter: str = ",") -> list[str]:
    """The names in a file's header. Raises Refusal where the file cannot be read."""
    if path.suffix == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    header, _, _ = _text(path).partition(b"\n")
    return next(csv.reader([header.decode().strip("\r")], delimiter=delimiter), [])


def check_columns(path: Path, mapping: Mapping) -> None:
    """Raises Refusal where the file cannot be read, or a mapped column is not there once."""
    names = column_names(path, mapping.delimiter)
    for ours, theirs in mapping.columns.items():
        if theirs not in names:
            raise Refusal(f"{path} has no column {theirs} (mapped to {ours}); there are {', '.join(names)}.")
        if names.count(theirs) > 1:
            raise Refusal(f"{path} has several columns {theirs} (mapped to {ours}).")


def read_table(path: Path, mapping: Mapping) -> Table:
    """Reads the mapped columns, which are there. Raises Refusal where the file cannot be read."""
    wanted = list(dict.fromkeys(mapping.columns.values()))
    if path.suffix == ".parquet":
        table, broken = _read_parquet(path, wanted), []
    else:
        table, broken = _read_csv(path, wanted, mapping.delimiter)
    numbers = np.setdiff1d(np.arange(1, table.num_rows + len(broken) + 1), np.asarray(broken, dtype=np.int64))
    return Table({ours: _column(table[theirs]) for ours, theirs in mapping.columns.items()}, numbers, broken)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise Refusal(f"The data file {path} cannot be read as Parquet: {_first_line(error)}.") from error


def _read_parquet(path: Path, names: list[str]) -> pa.Table:
    try:
        return _parquet(path).read(columns=names)
    except (OSError, pa.ArrowException) as error:
        raise Refusal(f"The data file {path} cannot be read as Parquet: {_first_line(error)}.") from error


def _text(path: Path) -> bytes:
    """The file as UTF-8. What is not UTF-8 is taken for Windows-1252, as spreadsheets write it."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise Refusal(f"The data file {path} cannot be read: {error.strerror}.") from error
    if not content.strip():
        raise Refusal(f"The data file {path} is empty.")
    try:
        content.decode()
    except UnicodeDecodeError:
        # Five bytes mean nothing in Windows-1252; Latin-1 makes control characters of them, which their rows answer for.
        try:
            return content.decode("cp1252").encode()
        except UnicodeDecodeError:
            return content.decode("latin-1").encode()
    return content


def _read_csv(path: Path, names: list[str], delimiter: str) -> tuple[pa.Table, list[int]]:
    broken: list[int] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        broken.append(row.number - 1)  # the header is row 1
        return "skip"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(_text(path)),
            # One thread: with more, a broken row does not know its number. Blocks larger than any row.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=1 << 25),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pa_csv.ConvertOptions(
                include_columns=names, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise Refusal(f"The data file {path} cannot be read as CSV: {_first_line(error)}.") from error
    return table, broken


def _column(chunked: pa.ChunkedArray) -> Column:
    kind = chunked.type
    if pa.types.is_timestamp(kind):
        chunked = pc.cast(chunked, pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_dictionary(kind):
        chunked = pc.cast(chunked, kind.value_type)
    encoded = chunked.combine_chunks().dictionary_encode()
    values = [_present(value) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return Column(codes.astype(np.int32), [*values, None])


def _present(value: Any) -> Any:
    """Text without the space around it; None for what is empty."""
    if isinstance(value, str):
        return value.strip() or None
    return None if value != value else value  # NaN is how a float column says absent


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
