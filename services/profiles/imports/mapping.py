"""Which column of a file is which field of a call, and what its values are."""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.classify import is_public_text

MAX_MAPPING_BYTES: Final = 16 * 1024
MAX_COLUMNS: Final = 1_000
PARTS: Final = frozenset({"properties", "traits", "context"})
FIELDS: Final = frozenset(
    {
        "type", "messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name", "category", "channel",
        "timestamp", "originalTimestamp", "sentAt",
    }
)  # fmt: skip

Convert: TypeAlias = Callable[[Any], Any]
FieldPath: TypeAlias = tuple[str, ...]

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE: Final = re.compile(r"[+-]?\d+")
_MAX_DIGITS: Final = 64
# Types of Parquet's (and text) whose values go into JSON without a look at them.
_AS_IT_IS: Final = frozenset({"text", "integer", "boolean", "json"})
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}


class _Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a column goes, and what its values are."""

    field: str
    type: str = ""


class ColumnMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As it is sent. A column that is not named goes by its own name; null leaves one out."""

    columns: dict[str, str | _Target | None] = {}
    constants: dict[str, Any] = {}


_decode: Final = msgspec.json.Decoder(ColumnMapping).decode


@dataclass(frozen=True, slots=True)
class Column:
    """Column `index` of the file. `convert` None: the value is what it is."""

    index: int
    path: FieldPath
    convert: Convert | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a row becomes."""

    columns: Sequence[Column]
    constants: Sequence[tuple[FieldPath, Any]]


def read_mapping(text: bytes) -> ColumnMapping:
    """Raises InvalidArgument, so that a wrong mapping is told before the file is sent."""
    if not text:
        return ColumnMapping()
    if len(text) > MAX_MAPPING_BYTES:
        raise _wrong(f"a mapping is at most {MAX_MAPPING_BYTES // 1024} KB")
    try:
        mapping = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = 'a mapping is JSON like {"columns": {"Total": {"field": "properties.total", "type": "number"}, "Junk": null}, '
        raise _wrong(said + '"constants": {"type": "track"}}') from None
    targets = [_target(each) for each in mapping.columns.values() if each is not None]
    for target in targets:
        if target.type and target.type not in CONVERTERS:
            raise _wrong(f"a column's type is one of {', '.join(CONVERTERS)}")
    _check_paths([path_of(target.field) for target in targets] + [path_of(field) for field in mapping.constants])
    return mapping


def layout_of(mapping: ColumnMapping, names: Sequence[str], kinds: Sequence[str]) -> Layout:
    """For a file with these columns, whose values are of these types where the mapping says nothing. Raises InvalidArgument."""
    if len(names) > MAX_COLUMNS:
        raise _no_file(f"the file has over {MAX_COLUMNS:,} columns")
    if len(set(names)) < len(names):
        raise _no_file(f"the file has the column {_shown(next(name for name in names if names.count(name) > 1))} twice")
    if missing := [name for name in mapping.columns if name not in names]:
        raise _no_file(f"the file has no column {_shown(missing[0])}, which the mapping names")
    columns: list[Column] = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        target = mapping.columns.get(name, name)
        if target is None:
            continue
        target = _target(target)
        if not _is_field(target.field):
            raise _no_file(
                f"the column {_shown(name)} is no field of a call: map it to one, as properties.x, or to null to leave it out"
            )
        if not kind and not target.type:
            raise _no_file(
                f"the column {_shown(name)} holds what a call cannot: give it a type in the mapping, or map it to null"
            )
        convert = None if not target.type and kind in _AS_IT_IS else CONVERTERS[target.type or kind]
        columns.append(Column(index, path_of(target.field), convert))
    constants = [(path_of(field), value) for field, value in mapping.constants.items()]
    paths = [column.path for column in columns] + [path for path, _ in constants]
    _check_paths(paths)
    for needed, said in (({"type"}, "type"), ({"userId", "anonymousId"}, "userId or anonymousId")):
        if not needed & {path[0] for path in paths}:
            raise _no_file(f"the file has no column {said}, and the mapping gives none", Reason.MISSING_FIELD)
    return Layout(columns, constants)


def path_of(field: str) -> FieldPath:
    """ "properties.total" is ("properties", "total"). Raises InvalidArgument where a call has no such field."""
    if not _is_field(field):
        raise _wrong(
            f"a call has no field {_shown(field)}: there are {', '.join(sorted(FIELDS))}, properties.*, traits.*, context.*"
        )
    return tuple(field.split("."))


def _is_field(field: str) -> bool:
    first, *rest = field.split(".")
    return all(rest) and (first in PARTS if rest or first in PARTS else first in FIELDS)


def _target(given: str | _Target) -> _Target:
    return _Target(given) if isinstance(given, str) else given


def _check_paths(paths: Sequence[FieldPath]) -> None:
    """No two values for one place, and none inside of another."""
    taken = set(paths)
    for path in paths:
        if paths.count(path) > 1 or any(path[:length] in taken for length in range(1, len(path))):
            raise _wrong(f"two columns or constants go to {_shown('.'.join(path))}")


def _short(text: str) -> str:
    """Python takes long to read a number of thousands of digits, and nobody sends one."""
    return text.strip() if len(text) <= _MAX_DIGITS else ""


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else str(value)


def _number(value: Any) -> Any:
    if isinstance(value, str):
        text = _short(value)
        if not _NUMBER.fullmatch(text):
            raise ValueError("a number, like 12.5")
        value = int(text) if _WHOLE.fullmatch(text) else float(text)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or _is_endless(value):
        raise ValueError("a number, like 12.5")
    return value


def _is_endless(value: float | Decimal) -> bool:
    return not isinstance(value, int) and not math.isfinite(value)


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(_short(value)):
        return int(value)
    if isinstance(value, float | Decimal) and value == value // 1:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a whole number, like 12")


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if (found := _TRUTH.get(str(value).strip().lower())) is None:
        raise ValueError("true, false, 1 or 0")
    return found


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ValueError("JSON") from None


def _moment(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else _text(value)


# "time" is what a Parquet file's own times are; in a CSV it is the text.
CONVERTERS: Final[Mapping[str, Convert | None]] = {
    "text": _text,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "json": _json,
    "time": _moment,
}


def _shown(name: str) -> str:
    """A column's name where it may stand in an answer."""
    return repr(name) if name and is_public_text(name) and name.isprintable() else "(not shown: it looks personal)"


def _wrong(message: str) -> InvalidArgument:
    return InvalidArgument(message, field="mapping")


def _no_file(message: str, reason: Reason = Reason.MALFORMED_FILE) -> InvalidArgument:
    return InvalidArgument(message, reason=reason)
