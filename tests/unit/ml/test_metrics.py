import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ml import metrics

SEEDS = range(200)
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


def sample(chance: np.random.Generator, ones: int, zeros: int, distance: float) -> Rows:
    """Normal scores, those of the ones shifted by `distance`: the true AUC is Phi(distance / sqrt 2)."""
    labels = np.concatenate([np.ones(ones), np.zeros(zeros)])
    return labels, chance.normal(size=ones + zeros) + distance * labels


def true_auc(distance: float) -> float:
    return (1 + math.erf(distance / 2)) / 2


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [1, 2], 1.0),
        ([1, 0], [1, 2], 0.0),
        ([0, 1], [5, 5], 0.5),
        ([0, 0, 1, 1], [1, 3, 2, 4], 0.75),
        ([0, 1, 1], [1, 1, 2], 0.75),
    ],
)
def test_auc_is_the_share_of_pairs_in_order_with_ties_as_halves(
    labels: list[int], scores: list[float], expected: float
) -> None:
    assert metrics.auc(np.array(labels), np.array(scores)) == expected


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0, 0]])
def test_auc_of_one_class_is_not_a_number(labels: list[int]) -> None:
    assert math.isnan(metrics.auc(np.array(labels), np.arange(float(len(labels)))))
    interval = metrics.bootstrap_auc(np.array(labels), np.arange(float(len(labels))), chance=np.random.default_rng(0))
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_auc_agrees_with_counting_every_pair() -> None:
    chance = np.random.default_rng(3)
    labels, scores = chance.integers(0, 2, 80), chance.integers(0, 10, 80)
    wins = [(a > b) + (a == b) / 2 for a in scores[labels == 1] for b in scores[labels == 0]]
    assert metrics.auc(labels, scores) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize(("ones", "zeros", "distance"), [(15, 15, 0.5), (20, 30, 0.7), (30, 60, 1.5), (60, 60, 1.0)])
def test_intervals_of_auc_cover_the_truth(ones: int, zeros: int, distance: float) -> None:
    covered = 0
    for seed in SEEDS:
        chance = np.random.default_rng(seed)
        labels, scores = sample(chance, ones, zeros, distance)
        found = metrics.bootstrap_auc(labels, scores, chance=chance, resamples=500)
        covered += found.low <= true_auc(distance) <= found.high
    print(f"AUC {true_auc(distance):.3f} of {ones} and {zeros} rows: {covered / len(SEEDS):.1%} covered")
    assert 0.90 <= covered / len(SEEDS) <= 0.99


def test_intervals_of_a_paired_difference_cover_the_truth() -> None:
    covered = 0
    for seed in SEEDS:
        chance = np.random.default_rng(seed)
        labels, signal = sample(chance, 40, 40, 1.0)
        blurred = signal + chance.normal(size=80)
        truth = true_auc(1.0) - true_auc(1 / math.sqrt(2))
        found = metrics.paired_auc_difference(labels, signal, blurred, chance=chance, resamples=400)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / len(SEEDS) <= 0.99


def test_a_score_is_no_better_than_itself() -> None:
    labels, scores = sample(np.random.default_rng(1), 30, 30, 1.0)
    found = metrics.paired_auc_difference(labels, scores, 2 * scores, chance=np.random.default_rng(2))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_same_chance_gives_the_same_interval() -> None:
    labels, scores = sample(np.random.default_rng(1), 30, 30, 1.0)
    one, other = (metrics.bootstrap_auc(labels, scores, chance=np.random.default_rng(7)) for _ in range(2))
    assert one == other


def test_calibration_error_weighs_bins_of_equal_count() -> None:
    labels = np.array([0, 0, 0, 1] * 5)
    assert metrics.expected_calibration_error(labels, np.full(20, 0.25), bins=5) == pytest.approx(0)
    assert metrics.expected_calibration_error(labels, np.full(20, 0.75), bins=5) == pytest.approx(0.5)
    assert math.isnan(metrics.expected_calibration_error(np.array([]), np.array([])))


def test_bins_are_in_order_and_hold_every_row() -> None:
    chance = np.random.default_rng(0)
    probabilities = chance.random(103)
    bins = metrics.calibration_bins(chance.random(103) < probabilities, probabilities)
    assert [each.row_count for each in bins] == [11] * 3 + [10] * 7
    assert [each.mean_probability for each in bins] == sorted(each.mean_probability for each in bins)
    assert len(metrics.calibration_bins(np.array([1, 0]), np.array([0.2, 0.1]))) == 2
