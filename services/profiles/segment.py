"""Segment's calls as clients send them: JSON in, checked structures out.

Known fields must be of the right type; what is no field of Segment's is ignored and not stored, as Segment does. A body is
taken apart into its events first, so that a bad one spoils nothing but itself.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.validate import BODY_TYPES, MAX_BATCH, MAX_BODY_BYTES, MAX_EVENT_BYTES, TYPES


class Call(msgspec.Struct, rename="camel", gc=False):
    """One call. Null is the same as absent."""

    type: str | None = None
    message_id: str | int | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    previous_id: str | int | None = None
    group_id: str | int | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    channel: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None


class Body(msgspec.Struct, rename="camel"):
    """A batch, or an import."""

    batch: list[msgspec.Raw]
    context: dict[str, Any] | None = None
    sent_at: str | None = None


class _Named(msgspec.Struct, rename="camel"):
    """What a receipt and a rejection say of an event that cannot be read."""

    message_id: Any = ""
    type: Any = ""


_decode_call: Final = msgspec.json.Decoder(Call).decode
_decode_body: Final = msgspec.json.Decoder(Body).decode
_decode_named: Final = msgspec.json.Decoder(_Named).decode
_TYPE_ERROR: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([A-Za-z.]*).*`)?")
_WANTED: Final = (("object", "an object"), ("array", "a list"), ("str", "a text"))
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")
# An escape that may be half of a surrogate pair, in any case of its digits.
_MAYBE_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def decode_body(type_: str, body: bytes) -> tuple[Sequence[bytes | None], Body | None]:
    """(the events as bytes, None for one whose texts are malformed; what the batch says of all of them).

    `type_` is the call whose body it is. Raises InvalidArgument where the whole body cannot be read.
    """
    if type_ in TYPES:
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        return [body], None
    if type_ not in BODY_TYPES:
        raise InvalidArgument("there is no such call", reason=Reason.UNKNOWN_EVENT_TYPE, field="type")
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        batch = _decode_body(body)
        events: Sequence[bytes | None] = [bytes(raw) for raw in batch.batch]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if not _MAYBE_HALF.search(body):
            _refuse(error)
        batch, events = _without_half_pairs(body)
    if len(events) > MAX_BATCH:
        raise InvalidArgument(f"a batch holds at most {MAX_BATCH} events", reason=Reason.BODY_TOO_LARGE, field="batch")
    return events, batch


def _too_large() -> InvalidArgument:
    return InvalidArgument(f"a body is at most {MAX_BODY_BYTES // 1024} KB", reason=Reason.BODY_TOO_LARGE)


def decode_call(raw: bytes) -> Call:
    """One event. Raises InvalidArgument."""
    if len(raw) > MAX_EVENT_BYTES:
        raise InvalidArgument(f"an event is at most {MAX_EVENT_BYTES // 1024} KB", reason=Reason.EVENT_TOO_LARGE)
    try:
        return _decode_call(raw)
    except UnicodeDecodeError:
        raise malformed_text() from None
    except (msgspec.MsgspecError, RecursionError) as error:
        if _MAYBE_HALF.search(raw) and not isinstance(error, msgspec.ValidationError | RecursionError):
            _tell_half_pair(raw)
        _refuse(error)


def name_of(raw: bytes) -> tuple[str, str]:
    """(message id, type) of an event that was refused, each "" where it cannot be told."""
    try:
        named = _decode_named(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", ""
    is_id = isinstance(named.message_id, str | int) and not isinstance(named.message_id, bool)
    is_type = isinstance(named.type, str) and named.type in TYPES
    return str(named.message_id) if is_id else "", named.type if is_type else ""


def malformed_text() -> InvalidArgument:
    """Half of a surrogate pair, or bytes that are no UTF-8."""
    return InvalidArgument("a text is not UTF-8, or holds half of a surrogate pair", reason=Reason.MALFORMED_TEXT)


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, RecursionError):
        raise InvalidArgument("the JSON is nested too deep", reason=Reason.TOO_MANY_PROPERTIES) from None
    if not isinstance(error, msgspec.ValidationError):
        raise InvalidArgument("that is not JSON", reason=Reason.MALFORMED_JSON) from None
    found = _TYPE_ERROR.match(str(error))
    if found is None:
        field = "batch" if "missing required field `batch`" in str(error) else _field_of(str(error))
        reason = Reason.MISSING_FIELD if field == "batch" else Reason.INVALID_FIELD
        sentence = "a batch needs the field batch" if field == "batch" else "a number is out of range"
        raise InvalidArgument(sentence, reason=reason, field=field) from None
    wanted, got, field = found[1], found[2], (found[3] or "").rstrip(".")
    if not field:
        raise InvalidArgument("a call must be a JSON object", reason=Reason.MALFORMED_JSON) from None
    words = next((words for word, words in _WANTED if word in wanted), "of another type")
    raise InvalidArgument(f"{field} must be {words}, not {got}", field=field) from None


def _field_of(message: str) -> str:
    found = re.search(r"\$\.([A-Za-z]+)", message)
    return found[1] if found else ""


def _tell_half_pair(raw: bytes) -> None:
    """Raises InvalidArgument where the JSON is right but for half of a pair; msgspec does not tell this from broken JSON."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if _has_half_pair(value):
        raise malformed_text() from None


def _without_half_pairs(body: bytes) -> tuple[Body, Sequence[bytes | None]]:
    """The body taken apart by the standard library, which reads half pairs. Slow, and only for bodies that hold one."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError as error:
        _refuse(error)
    except ValueError:
        raise InvalidArgument("that is not JSON", reason=Reason.MALFORMED_JSON) from None
    if not isinstance(value, dict) or not isinstance(value.get("batch"), list):
        raise InvalidArgument("a batch needs the field batch, a list", reason=Reason.MISSING_FIELD, field="batch")
    if _has_half_pair({key: item for key, item in value.items() if key != "batch"}):
        raise malformed_text()
    events = [None if _has_half_pair(item) else json.dumps(item).encode() for item in value["batch"]]
    try:
        return msgspec.convert({**value, "batch": []}, Body), events
    except msgspec.ValidationError as error:
        _refuse(error)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _has_half_pair(value: object) -> bool:
    return _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)) is not None
