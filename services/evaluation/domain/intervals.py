"""Intervals for proportions and their differences, and the chi-square test of counts against shares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """`hits` out of `count`, 0 <= hits <= count."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """In [0, 1]; count must not be 0."""
        return self.hits / self.count


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval."""

    low: float
    high: float

    def lies_within(self, margin: float) -> bool:
        """Whether all of it is in [-margin, margin]."""
        return -margin <= self.low and self.high <= margin


def wilson(proportion: Proportion, confidence: float = CONFIDENCE) -> Interval:
    """The score interval of one proportion (Wilson 1927, without continuity correction); (0, 1) for no observations."""
    n = proportion.count
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = proportion.share
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and at n the formula meets the edge up to rounding.
    low = 0.0 if proportion.hits == 0 else max(0.0, middle - half)
    high = 1.0 if proportion.hits == n else min(1.0, middle + half)
    return Interval(low, high)


def newcombe(treated: Proportion, control: Proportion, confidence: float = CONFIDENCE) -> Interval:
    """The interval of `treated - control`: hybrid score, without continuity correction.

    Method 10 of R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in
    Medicine 17 (1998) 873-890. Neither count may be 0.
    """
    one, two = wilson(treated, confidence), wilson(control, confidence)
    p, q = treated.share, control.share
    low = (p - q) - math.hypot(p - one.low, two.high - q)
    high = (p - q) + math.hypot(one.high - p, q - two.low)
    return Interval(low, high)


def chi_square_p(counts: Sequence[int], shares: Sequence[float]) -> float | None:
    """p-value of Pearson's test that `counts` were drawn with `shares` (which add to 1).

    None where a count is expected below 5: the distribution is not near chi-square there (Cochran's rule).
    """
    total = sum(counts)
    expected = [total * share for share in shares]
    if not expected or min(expected) < 5:
        return None
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in zip(counts, expected, strict=True))
    return chi_square_tail(statistic, len(counts) - 1)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(X > statistic) for X chi-square with whole degrees of freedom, at least 1.

    By the finite sums of Abramowitz and Stegun 26.4.4 and 26.4.5.
    """
    half = statistic / 2
    odd = degrees % 2
    tail = math.erfc(math.sqrt(half)) if odd else 0.0
    term = math.exp(-half) * (math.sqrt(half / math.pi) * 2 if odd else 1.0)
    for step in range(degrees // 2):
        tail += term
        term *= half / (step + (1.5 if odd else 1.0))
    return min(1.0, tail)
