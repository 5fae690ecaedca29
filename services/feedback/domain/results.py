"""Scores and their 95 % intervals, from how many answers there are of each rating."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from services.feedback.domain.surveys import SurveyKind

# Below this there is a value but no spread.
MIN_ANSWERS: Final = 2
# 97.5th percentile of the normal distribution.
Z95: Final = 1.959963984540054
# A whole number stands for an interval of length one, whose variance this is (Sheppard 1898). Without it the interval of
# equal ratings would have no width.
ROUNDING_VARIANCE: Final = 1 / 12
_BISECTIONS: Final = 60

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Result:
    """A score: NPS -100 to 100, CSAT 0 to 100 (per cent), CES 1 to 7. `counts` from the scale's lowest rating.

    Where `missing` says that there is not enough data, there is neither value nor interval.
    """

    answer_count: int
    counts: Sequence[int]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    missing: str = ""


def result_of(kind: SurveyKind, counts: Sequence[int]) -> Result:
    """`counts` holds as many numbers as the scale has ratings, from its lowest."""
    count = sum(counts)
    if count < MIN_ANSWERS:
        said = f"not enough data: {count} answer{'' if count == 1 else 's'}, at least {MIN_ANSWERS} are needed"
        return Result(count, counts, missing=said)
    match kind:
        case SurveyKind.NPS:
            value, (low, high) = net_promoter_score(counts)
        case SurveyKind.CSAT:
            value, (low, high) = _satisfied_percent(counts)
        case SurveyKind.CES:
            value, (low, high) = _mean_effort(counts)
    return Result(count, counts, value, low, high)


def net_promoter_score(counts: Sequence[int]) -> tuple[float, Interval]:
    """% of 9 and 10 minus % of 0 to 6, with the interval of a score test.

    Rocks (2016), Interval Estimation for the Net Promoter Score, The American Statistician 70(4), finds the score interval
    and the adjusted Wald to be the best; the score interval keeps inside -100 to 100 and has a width at the ends. It is
    Tango's (1998, Statistics in Medicine 17), of the difference of two shares of one multinomial sample.
    """
    count, promoters, detractors = sum(counts), sum(counts[9:]), sum(counts[:7])
    low, high = difference_interval(promoters, detractors, count)
    return 100 * (promoters - detractors) / count, (100 * low, 100 * high)


def difference_interval(plus: int, minus: int, count: int) -> Interval:
    """95 % interval of share(plus) - share(minus), both of the same `count` answers: what a score test keeps."""
    difference = (plus - minus) / count

    def distance(supposed: float) -> float:
        """How far the answers are from what a supposed difference lets one expect, in its own standard errors, less Z95."""
        twice = 2 * count
        b = -plus - minus + (twice - plus + minus) * supposed
        c = -minus * supposed * (1 - supposed)
        # Maximum-likelihood estimate of the share of `minus`, given the difference; rounding must not make it negative.
        share = max(0.0, (math.sqrt(max(0.0, b * b - 4 * twice * c)) - b) / (2 * twice))
        variance = max(0.0, count * (2 * share + supposed * (1 - supposed)))
        return abs(plus - minus - count * supposed) - Z95 * math.sqrt(variance)

    return _border(-1.0, difference, distance), _border(1.0, difference, distance)


def _border(outside: float, inside: float, distance: Callable[[float], float]) -> float:
    """Where `distance` changes its sign, by bisection: it is positive outside, and negative inside, of the interval."""
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        if distance(middle) > 0:
            outside = middle
        else:
            inside = middle
    return outside


def _satisfied_percent(counts: Sequence[int]) -> tuple[float, Interval]:
    """% of the two highest ratings, with Wilson's interval (1927)."""
    count, satisfied = sum(counts), sum(counts[-2:])
    share = satisfied / count
    centre = (satisfied + Z95**2 / 2) / (count + Z95**2)
    half = Z95 / (count + Z95**2) * math.sqrt(count * share * (1 - share) + Z95**2 / 4)
    return 100 * share, (100 * max(0.0, centre - half), 100 * min(1.0, centre + half))


def _mean_effort(counts: Sequence[int]) -> tuple[float, Interval]:
    """Mean rating with Student's interval, inside the scale."""
    kind, count = SurveyKind.CES, sum(counts)
    ratings = range(kind.lowest, kind.highest + 1)
    mean = sum(rating * times for rating, times in zip(ratings, counts, strict=True)) / count
    squares = sum(times * (rating - mean) ** 2 for rating, times in zip(ratings, counts, strict=True))
    variance = max(squares / (count - 1), ROUNDING_VARIANCE)
    half = t95(count - 1) * math.sqrt(variance / count)
    return mean, (max(kind.lowest, mean - half), min(kind.highest, mean + half))


@lru_cache(maxsize=4_096)
def t95(freedom: int) -> float:
    """97.5th percentile of Student's distribution, to 1e-6.

    Up to 200 degrees of freedom by bisection of the exact distribution (Abramowitz and Stegun 26.7.3 and 26.7.4), beyond
    by its expansion about the normal percentile (26.7.5).
    """
    if freedom > 200:
        z = Z95
        first = (z**3 + z) / 4
        second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / freedom + second / freedom**2
    low, high = 0.0, 100.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < 0.95 else (low, middle)
    return (low + high) / 2


def _t_within(t: float, freedom: int) -> float:
    """Probability that Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine_squared = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= (step - 1) / step * cosine_squared
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
