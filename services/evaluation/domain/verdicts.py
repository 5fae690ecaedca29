"""What every judgement ends in."""

from enum import Enum


class Verdict(Enum):
    """Of something new against what it is measured by."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no_difference"
    NOT_ENOUGH_DATA = "not_enough_data"


def percent(share: float) -> str:
    """0.0312 -> "3.1 %"."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares: 0.0312 -> "+3.1 points"."""
    return f"{100 * difference:+.1f} points"
