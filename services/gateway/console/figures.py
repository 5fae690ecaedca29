"""Numbers and times as people read them. What is missing is a dash."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.gateway.console.words import Words

DASH: Final = "–"
MINUS: Final = "−"


@dataclass(frozen=True, slots=True)
class Figures:
    """In the manner of one language."""

    words: Words

    def count(self, number: float | None) -> str:
        """12,345."""
        return DASH if number is None else _signs(f"{number:,.0f}")

    def decimal(self, number: float | None, digits: int = 2) -> str:
        """0.83."""
        return DASH if number is None else _signs(f"{number:,.{digits}f}")

    def signed(self, number: float | None, digits: int = 1) -> str:
        """+3.2; nothing has no sign."""
        return DASH if number is None else _signs(f"{number:+,.{digits}f}" if round(number, digits) else f"{0:.{digits}f}")

    def percent(self, share: float | None, digits: int = 0) -> str:
        """0.62 is 62%."""
        return DASH if share is None else _signs(f"{100 * share:.{digits}f}%")

    def points(self, difference: float | None) -> str:
        """A difference of shares: 0.032 is +3.2."""
        return DASH if difference is None else self.signed(100 * difference)

    def money(self, amount: float | None) -> str:
        """1,234.50. The platform does not know the currency of a sum over orders."""
        return self.decimal(amount, 2)

    def seconds(self, seconds: float | None) -> str:
        """142 ms, 1.4 s, 3 min."""
        if seconds is None:
            return DASH
        if seconds < 1:
            return f"{1000 * seconds:.0f} ms"
        return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

    def days(self, days: float | None) -> str:
        """41 days; 0 is today."""
        if days is None:
            return DASH
        whole = int(days)
        return self.words.count("days", whole, days=self.count(whole))

    def moment(self, at: datetime | None) -> str:
        """Day and time of day, UTC."""
        return DASH if at is None else f"{self.day(at)}, {at.astimezone(UTC):%H:%M}"

    def day(self, at: datetime | None) -> str:
        """12 Jun 2025."""
        if at is None:
            return DASH
        day = at.astimezone(UTC)
        return self.words("day", day=day.day, month=self.words(f"month.{day.month}"), year=day.year)

    def value(self, text: str, unit: str) -> str:
        """A value with its unit: "1234.5" in "currency" is 1,234.50. What is no number keeps its text."""
        number = _number(text)
        if unit == "date":
            return self._date(text)
        if not unit:
            return _flat(text)
        if number is None:
            return f"{text} ({unit})"
        if unit == "currency":
            return self.money(number)
        shown, key = self.tidy(text), f"unit.{unit}"
        if f"{key}.one" not in self.words.sentences:
            return f"{shown} ({unit})"
        return self.words.count(key, int(number) if number.is_integer() else 2, number=shown)

    def tidy(self, text: str) -> str:
        """A number with at most one decimal; anything else as it is."""
        number = _number(text)
        if number is None:
            return text
        return self.count(number) if number.is_integer() else self.decimal(number, 1)

    def _date(self, text: str) -> str:
        try:
            return self.day(datetime.fromisoformat(text).replace(tzinfo=UTC))
        except ValueError:
            return text


def _flat(text: str) -> str:
    """A JSON object, such as an address, as its values; anything else as it is."""
    if not text.startswith("{"):
        return text
    try:
        parts = json.loads(text).values()
    except ValueError:
        return text
    return ", ".join(str(part) for part in parts if part and not isinstance(part, dict | list))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _signs(text: str) -> str:
    """With a real minus, and none before a zero."""
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.,%") else MINUS + text[1:]
    return text
