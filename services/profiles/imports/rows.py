"""Rows of a file as calls in JSON, each with a messageId, from any place on.

A row that cannot be a call is an InvalidArgument in its place. What is wrong with the whole file is raised.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.validate import MAX_BATCH, MAX_BODY_BYTES, MAX_EVENT_BYTES
from services.profiles.imports.mapping import ColumnMapping, FieldPath, Layout, layout_of
from services.profiles.jsontext import dumps
from services.profiles.segment import decode_call, malformed_text
from services.profiles.vault import TenantKeys

_BLOCK_BYTES: Final = 256 * 1024
# A cell that is longer makes an event that is too large in any case.
_MAX_LINE_BYTES: Final = 4 * MAX_EVENT_BYTES
_BOM: Final = b"\xef\xbb\xbf"
_ENVELOPE: Final = (b'{"batch":[', b"]}")
_NO_ID: Final = frozenset({b"", b"null"})


class _Identified(msgspec.Struct, rename="camel"):
    message_id: msgspec.Raw = msgspec.Raw(b"")


_identified: Final = msgspec.json.Decoder(_Identified).decode
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Row:
    """`place` is where the file goes on after it."""

    call: bytes | InvalidArgument
    place: int


Identify: TypeAlias = Callable[[bytes], str]


def identifying(keys: TenantKeys, source: str) -> Identify:
    """The messageId of a row that has none: of tenant, source and content, so that the same file again is duplicates."""

    def identify(content: bytes) -> str:
        return "import-" + keys.event_id(f"import:{source}:{sha256(content).hexdigest()}").hex()

    return identify


class Batches:
    """Rows by as many as go into one body."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._held: Row | None = None

    def take(self, limit: int = MAX_BATCH) -> list[Row]:
        """The next ones, empty at the end. The same rows from the same place, whenever it is."""
        taken: list[Row] = []
        room = MAX_BODY_BYTES - len(_ENVELOPE[0]) - len(_ENVELOPE[1])
        while len(taken) < limit and (row := self._held or next(self._rows, None)) is not None:
            self._held = None
            if isinstance(row.call, bytes):
                room -= len(row.call) + 1
                if room < 0:
                    self._held = row
                    break
            taken.append(row)
        return taken


def body_of(calls: Sequence[bytes]) -> bytes:
    """Segment's body of many calls."""
    return _ENVELOPE[0] + b",".join(calls) + _ENVELOPE[1]


def json_rows(file: io.RawIOBase, place: int, identify: Identify) -> Iterator[Row]:
    """One call a line."""
    for line, after in _lines(file, place, MAX_EVENT_BYTES):
        if line is None:
            yield Row(_too_large(), after)
        elif text := line.strip():
            yield Row(_json_call(text, identify), after)


def _json_call(text: bytes, identify: Identify) -> bytes | InvalidArgument:
    try:
        given = bytes(_identified(text).message_id)
        return with_id(text, identify) if given in _NO_ID or not given.strip(b'" \t') else text
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            decode_call(text)
        except InvalidArgument as error:
            return error
        return InvalidArgument("that is not JSON", reason=Reason.MALFORMED_JSON)


def with_id(text: bytes, identify: Identify) -> bytes:
    """At the end, where it counts more than an empty one before it."""
    comma = b"" if text[1:-1].isspace() or text == b"{}" else b","
    return b'%s%s"messageId":"%s"}' % (text[:-1], comma, identify(text).encode())


def csv_rows(file: io.RawIOBase, place: int, mapping: ColumnMapping, identify: Identify) -> Iterator[Row]:
    """RFC 4180: commas, quotes, a header first. Every value is text where the mapping does not say otherwise."""
    csv.field_size_limit(_MAX_LINE_BYTES)
    texts = _Texts(file, 0)
    try:
        header = next(csv.reader(texts, strict=True), None)
    except csv.Error:
        header = None
    if not header or any("\x00" in name or not name.isprintable() for name in header):
        raise InvalidArgument("the file has no header that can be read as CSV in UTF-8", reason=Reason.MALFORMED_FILE)
    encode = _Encoder(layout_of(mapping, header, ["text"] * len(header)), identify)
    texts = _Texts(file, max(place, texts.place))
    reader = csv.reader(texts, strict=True)
    while True:
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(header):
                raise _malformed(f"the row has {len(cells)} fields, the header has {len(header)}")
            call: bytes | InvalidArgument = encode(cells)
        except InvalidArgument as error:
            call = error
        except csv.Error:
            call = _malformed("the row's quotes do not match, or a field of it is too long")
        yield Row(call, texts.place)


class _Texts:
    """Lines for the csv module, which takes as many as a row has: `place` is where the next row begins."""

    def __init__(self, file: io.RawIOBase, place: int) -> None:
        self.place = place
        self._lines = _lines(file, place, _MAX_LINE_BYTES)

    def __iter__(self) -> "_Texts":
        return self

    def __next__(self) -> str:
        line, self.place = next(self._lines)
        if line is None:
            raise _too_large()
        # What is no UTF-8 is found out when the row is encoded.
        return line.decode("utf-8", "surrogateescape") + "\n"


class _Encoder:
    """A row's values as the JSON of a call."""

    def __init__(self, layout: Layout, identify: Identify) -> None:
        self._columns = [(each.index, each.path[:-1], each.path[-1], each.convert) for each in layout.columns]
        self._constants = [(path[:-1], path[-1], value) for path, value in layout.constants]
        self._identify = identify

    def __call__(self, values: Sequence[Any]) -> bytes:
        """Raises InvalidArgument. What is empty, null or not a number is absent."""
        call: dict[str, Any] = {}
        parts: dict[FieldPath, dict[str, Any]] = {(): call}
        for inside, key, value in self._constants:
            (parts.get(inside) or _part(parts, inside))[key] = value
        for index, inside, key, convert in self._columns:
            value = values[index]
            if value is None or value == "" or value != value:
                continue
            if convert is not None:
                try:
                    value = convert(value)
                except ValueError as error:
                    field = ".".join((*inside, key))
                    raise InvalidArgument(f"{field} must be {error}", field=field) from None
            part = parts.get(inside)
            (_part(parts, inside) if part is None else part)[key] = value
        text = _json_of(call)
        text = text if call.get("messageId") else with_id(text, self._identify)
        if len(text) > MAX_EVENT_BYTES:
            raise _too_large()
        return text


def _part(parts: dict[FieldPath, dict[str, Any]], path: FieldPath) -> dict[str, Any]:
    if (found := parts.get(path)) is None:
        found = parts[path] = {}
        _part(parts, path[:-1])[path[-1]] = found
    return found


def _json_of(call: dict[str, Any]) -> bytes:
    try:
        return _encode(call)
    except OverflowError:
        return dumps(call)
    except UnicodeEncodeError:
        raise malformed_text() from None


def encoder_of(layout: Layout, identify: Identify) -> Callable[[Sequence[Any]], bytes]:
    """For rows that come as values."""
    return _Encoder(layout, identify)


def _lines(file: io.RawIOBase, place: int, most_bytes: int) -> Iterator[tuple[bytes | None, int]]:
    """(a line without its end, None for one that is too long; the place after it)."""
    file.seek(place)
    rest, skipped, too_long = b"", 0, False
    while block := file.read(_BLOCK_BYTES):
        if place == 0 and not rest and not skipped:
            _check_start(block)
            if block.startswith(_BOM):
                place, block = len(_BOM), block[len(_BOM) :]
        if too_long:
            end = block.find(b"\n")
            if end < 0:
                skipped += len(block)
                continue
            place += skipped + end + 1
            yield None, place
            block, skipped, too_long = block[end + 1 :], 0, False
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            place += len(line) + 1
            yield (line if len(line) <= most_bytes else None), place
        if len(rest) > most_bytes:
            rest, skipped, too_long = b"", len(rest), True
    if rest or too_long:
        yield (None if too_long else rest), place + skipped + len(rest)


def _check_start(block: bytes) -> None:
    if block.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidArgument("the file is UTF-16; send it as UTF-8", reason=Reason.MALFORMED_FILE)
    if block.startswith(b"\x1f\x8b"):
        raise InvalidArgument("the file is gzip; send it with Content-Encoding: gzip", reason=Reason.MALFORMED_FILE)


def _too_large() -> InvalidArgument:
    return InvalidArgument(f"an event is at most {MAX_EVENT_BYTES // 1024} KB", reason=Reason.EVENT_TOO_LARGE)


def _malformed(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=Reason.MALFORMED_ROW)
