"""Intervals against published figures, against SciPy, and against the truth over many seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.evaluation.domain.intervals import Interval, Proportion, chi_square_p, chi_square_tail, newcombe, wilson


# Newcombe (1998), table II, the rows of method 10.
@pytest.mark.parametrize(
    ("treated", "control", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    treated: tuple[int, int], control: tuple[int, int], low: float, high: float
) -> None:
    interval = newcombe(Proportion(*treated), Proportion(*control))
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (1, 7), (15, 148), (148, 148), (263, 1000)])
def test_the_interval_of_a_proportion_is_scipys(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    interval = wilson(Proportion(hits, count))
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_no_observations_exclude_nothing() -> None:
    assert wilson(Proportion(0, 0)) == Interval(0.0, 1.0)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_an_interval_holds_its_estimate_and_turns_with_the_sides(n: int, m: int, data: st.DataObject) -> None:
    treated = Proportion(data.draw(st.integers(0, n)), n)
    control = Proportion(data.draw(st.integers(0, m)), m)
    interval, turned = newcombe(treated, control), newcombe(control, treated)
    assert -1 <= interval.low <= treated.share - control.share <= interval.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low))


@pytest.mark.parametrize(
    ("p", "q", "n", "m"), [(0.12, 0.07, 60, 80), (0.5, 0.35, 40, 40), (0.03, 0.03, 150, 100), (0.9, 0.8, 30, 90)]
)
def test_over_two_hundred_small_samples_the_interval_covers_the_truth_about_as_often_as_it_says(
    p: float, q: float, n: int, m: int
) -> None:
    covered = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        interval = newcombe(Proportion(int(chance.binomial(n, p)), n), Proportion(int(chance.binomial(m, q)), m))
        covered += interval.low <= p - q <= interval.high
    print(f"p={p} q={q} n={n} m={m}: {covered / 2:.1f} % of 200 intervals cover the true difference")
    assert 180 <= covered <= 198


@pytest.mark.parametrize("degrees", range(1, 10))
@pytest.mark.parametrize("statistic", [0.0, 0.1, 1.0, 3.84, 12.0, 60.0])
def test_the_tail_of_chi_square_is_scipys(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-10)


def test_the_sample_ratio_test_is_pearsons() -> None:
    expected = stats.chisquare([520, 480, 130], [452.0, 452.0, 226.0]).pvalue
    assert chi_square_p([520, 480, 130], [0.4, 0.4, 0.2]) == pytest.approx(expected)


def test_counts_too_small_for_chi_square_have_no_p_value() -> None:
    assert chi_square_p([4, 4], [0.5, 0.5]) is None
    assert chi_square_p([0, 0], [0.5, 0.5]) is None
    assert chi_square_p([5, 5], [0.5, 0.5]) == pytest.approx(1.0)


def test_a_fair_assignment_is_called_broken_about_once_in_a_thousand() -> None:
    chance = np.random.default_rng(7)
    draws = chance.binomial(1000, 0.5, 20_000)
    broken = sum((chi_square_p([int(d), 1000 - int(d)], [0.5, 0.5]) or 1) < 0.001 for d in draws)
    assert broken <= 40
