"""How values are spread, and how two of them go together."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import mul
from typing import Final

SHARES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
# Profiles with both values, below which a coefficient says nothing.
FEWEST: Final = 30
MOST_CATEGORIES: Final = 10


@dataclass(frozen=True, slots=True)
class Description:
    """Of numbers `mean` and what follows, of texts `categories`; `quantiles` in the order of SHARES."""

    count: int
    missing_count: int
    mean: float | None = None
    variance: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: Sequence[float] = ()
    categories: Sequence[tuple[str, int]] = ()
    category_count: int = 0


@dataclass(frozen=True, slots=True)
class Correlation:
    """`absent`: why there is no coefficient, NOT_ENOUGH_DATA or CONSTANT."""

    left: str
    right: str
    method: str
    n: int
    coefficient: float | None = None
    absent: str = ""


def describe(values: Sequence[float | str | None]) -> Description:
    """One column; None is missing."""
    present = [value for value in values if value is not None]
    missing = len(values) - len(present)
    texts = Counter(value for value in present if isinstance(value, str))
    if texts:
        common = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES]
        return Description(texts.total(), missing, categories=common, category_count=len(texts))
    numbers = sorted(float(value) for value in present)
    if not numbers:
        return Description(0, missing)
    mean = math.fsum(numbers) / len(numbers)
    steps = len(numbers) - 1
    variance = math.fsum((number - mean) ** 2 for number in numbers) / steps if steps else None
    quantiles = [quantile(numbers, share) for share in SHARES]
    return Description(len(numbers), missing, mean, variance, numbers[0], numbers[-1], quantiles)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Between neighbours in proportion, as numpy's default and PostgreSQL's percentile_cont have it."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def correlate(columns: Mapping[str, Sequence[float | None]]) -> list[Correlation]:
    """Pearson's and Spearman's coefficient of each two columns, over the rows where both have a value."""
    found: list[Correlation] = []
    for left, right in combinations(columns, 2):
        pairs = [(a, b) for a, b in zip(columns[left], columns[right], strict=True) if a is not None and b is not None]
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        for method in ("PEARSON", "SPEARMAN"):
            if len(pairs) < FEWEST:
                found.append(Correlation(left, right, method, len(pairs), absent="NOT_ENOUGH_DATA"))
                continue
            ranked = method == "SPEARMAN"
            value = pearson(ranks(first), ranks(second)) if ranked else pearson(first, second)
            found.append(Correlation(left, right, method, len(pairs), value, "" if value is not None else "CONSTANT"))
    return found


def pearson(left: Sequence[float], right: Sequence[float]) -> float | None:
    """In [-1, 1]; None where one of both does not vary."""
    if min(left) == max(left) or min(right) == max(right):
        return None
    first, second = _centred(left), _centred(right)
    spread = math.sqrt(math.fsum(map(mul, first, first))) * math.sqrt(math.fsum(map(mul, second, second)))
    if not spread or not math.isfinite(spread):
        return None
    return max(-1.0, min(1.0, math.fsum(map(mul, first, second)) / spread))


def _centred(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    # Scaled, so that no square overflows.
    scale = max(abs(value - mean) for value in values) or 1.0
    return [(value - mean) / scale for value in values]


def ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            ranked[order[place]] = (start + end) / 2 + 1
        start = end + 1
    return ranked
