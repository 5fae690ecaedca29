"""Where numbers lie on a drawn line: in percent of its width, which an SVG takes without a script."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` at the left to `high` at the right."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """0 to 100; what lies outside is drawn at the border."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def between(self, low: float, high: float) -> float:
        """The width of an interval."""
        return round(self.at(high) - self.at(low), 2)


def around(values: Iterable[float | None], *, always: Iterable[float] = (), step: float) -> Scale:
    """A scale with some air that holds all values, `always` among them, with borders at multiples of `step`."""
    known = [*(value for value in values if value is not None), *always]
    if not known:
        return Scale(0.0, step)
    air = 0.06 * (max(known) - min(known)) or step / 2
    low, high = (min(known) - air) // step * step, -((-max(known) - air) // step) * step
    return Scale(round(low, 9), round(high if high > low else low + step, 9))
