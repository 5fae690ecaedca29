"""How good predictions are: pure numpy, chance as an argument.

`labels` are 0 or 1, one a row; `scores` and `probabilities` are of the same length, higher for the more likely 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
Column = NDArray[Any]

RESAMPLES = 1000
# Resamples that are held in memory at a time.
_CHUNK = 50


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval; all NaN where the labels are all alike."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    mean_probability: float
    observed_rate: float
    row_count: int


def auc(labels: Column, scores: Column) -> float:
    """Probability that a random 1 scores above a random 0, a tie counting half. NaN where the labels are all alike."""
    return float(_Ranked.of(labels, scores).auc(np.ones((1, len(labels)), np.int64))[0])


def bootstrap_auc(
    labels: Column,
    scores: Column,
    *,
    chance: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """Rows are drawn again within each class, as many as there are; the interval is the expanded percentile one."""
    ranked = _Ranked.of(labels, scores)
    drawn = [ranked.auc(counts) for counts in _draws(labels, resamples, chance)]
    return _interval(auc(labels, scores), drawn, _smaller_class(labels))


def paired_auc_difference(
    labels: Column,
    scores: Column,
    baseline: Column,
    *,
    chance: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """AUC of `scores` minus that of `baseline`, both on the same drawn rows each time."""
    ours, theirs = _Ranked.of(labels, scores), _Ranked.of(labels, baseline)
    drawn = [ours.auc(counts) - theirs.auc(counts) for counts in _draws(labels, resamples, chance)]
    return _interval(auc(labels, scores) - auc(labels, baseline), drawn, _smaller_class(labels))


def expected_calibration_error(labels: Column, probabilities: Column, *, bins: int = 10) -> float:
    """Mean over the rows of |mean probability - observed rate| of the row's bin. NaN where there are no rows."""
    if len(labels) == 0:
        return float("nan")
    made = calibration_bins(labels, probabilities, bins=bins)
    return sum(b.row_count * abs(b.mean_probability - b.observed_rate) for b in made) / len(labels)


def calibration_bins(labels: Column, probabilities: Column, *, bins: int = 10) -> list[CalibrationBin]:
    """Bins of equal count along the probability, lowest first; fewer than asked for where there are fewer rows."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, len(order))) if len(order) else []
    return [CalibrationBin(float(np.mean(probabilities[part])), float(np.mean(labels[part])), len(part)) for part in parts]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows sorted by score. `starts` are where a new score begins, so that ties are counted together."""

    order: Counts
    starts: Counts
    positive: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: Column, scores: Column) -> "_Ranked":
        order = np.argsort(scores, kind="stable")
        values = scores[order]
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else order
        return cls(order, starts, labels[order] == 1)

    def auc(self, counts: Counts) -> Numbers:
        """`counts` [resamples, rows]: how often each row was drawn. One AUC for each resample."""
        drawn = counts[:, self.order]
        ones = np.add.reduceat(drawn * self.positive, self.starts, axis=1) if len(self.order) else drawn
        zeros = np.add.reduceat(drawn * ~self.positive, self.starts, axis=1) if len(self.order) else drawn
        below = np.cumsum(zeros, axis=1) - zeros
        wins = np.sum(ones * (below + zeros / 2), axis=1)
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        return np.divide(wins, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)


def _draws(labels: Column, resamples: int, chance: np.random.Generator) -> Iterator[Counts]:
    ones, zeros = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        counts = np.zeros((size, len(labels)), np.int64)
        for rows in (ones, zeros):
            if len(rows):
                counts[:, rows] = chance.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size)
        yield counts


def _smaller_class(labels: Column) -> int:
    ones = int(np.sum(labels == 1))
    return min(ones, len(labels) - ones)


def _interval(value: float, drawn: list[Numbers], count: int) -> Interval:
    tail = _tail_percent(count)
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def _tail_percent(count: int) -> float:
    """What to cut off on each side: 2.5 for many rows, less for few, whose resamples vary too little.

    Hesterberg (2015), "What teachers should know about the bootstrap", section 4.4; Student's quantile by the first two
    terms of its Cornish-Fisher expansion.
    """
    z, freedom = 1.959964, max(count - 1, 1)
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return 100 * NormalDist().cdf(-student * math.sqrt((freedom + 1) / freedom))
