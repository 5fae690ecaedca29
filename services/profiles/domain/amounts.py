"""Numbers as the timeline keeps them: decimals that fit numeric(38, 9), written one way only, so that engines agree."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

# 29 digits before the point, 9 behind it.
_LIMIT: Final = 10**29
_STEP: Final = Decimal("1e-9")
_CONTEXT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)


def canonical(value: float) -> str | None:
    """A finite JSON number without exponent, trailing zeros or more than nine decimals; None where it does not fit.

    12.0 -> "12", 0.1 -> "0.1", 1e-7 -> "0.0000001", True -> "1". A double is read as the shortest decimal that names it,
    which is what the client wrote, up to 15 digits.
    """
    if isinstance(value, int):
        return str(int(value)) if -_LIMIT < value < _LIMIT else None
    if value.is_integer():
        return str(int(value)) if -_LIMIT < value < _LIMIT else None
    text = repr(value)
    if "e" in text or len(text) - text.find(".") > 10:
        text = _rounded(text)
    return text


def _rounded(text: str) -> str:
    rounded = f"{Decimal(text).quantize(_STEP, context=_CONTEXT):f}".rstrip("0").rstrip(".")
    return "0" if rounded in ("-0", "") else rounded
