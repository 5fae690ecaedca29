"""JSON objects as bytes, whole numbers of any size included."""

from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode
loads: Final = msgspec.json.Decoder(dict[str, Any]).decode
"""The object. Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError."""


def dumps(value: Any) -> bytes:
    """UTF-8, without blanks."""
    try:
        return _encode(value)
    except OverflowError:
        return _encode(_spelled(value))


def _spelled(value: Any) -> Any:
    """msgspec writes whole numbers of 64 bits only: larger ones are replaced by their digits."""
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.Raw(str(value).encode())
    return value
