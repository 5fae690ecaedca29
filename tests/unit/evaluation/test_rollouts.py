"""Counters of two versions, and what is made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.telemetry import BUCKETS_S
from services.evaluation.domain.rollouts import Bucket, Traffic, increase, judge, quantile, traffic_of
from services.evaluation.domain.verdicts import Verdict


def traffic(version: str, requests: int, errors: int = 0, seconds: float = 0.02, seed: int = 1) -> Traffic:
    """Durations are exponential with a mean of `seconds`."""
    durations = np.random.default_rng(seed).exponential(seconds, requests)
    bounds = [*BUCKETS_S, math.inf]
    buckets = tuple(Bucket(bound, float((durations <= bound).sum())) for bound in bounds)
    return Traffic(version, requests, errors, buckets)


def verdict(baseline: Traffic, candidate: Traffic) -> Verdict:
    return judge(baseline, candidate).verdict


def test_a_counter_that_was_there_rises_from_where_it_was() -> None:
    assert increase([(0, 100), (5, 104), (10, 110)], start=1) == 10


def test_a_counter_that_is_born_in_the_window_began_at_nothing() -> None:
    assert increase([(5, 4), (10, 6)], start=1) == 6


def test_a_counter_that_began_anew_loses_nothing_that_was_seen() -> None:
    assert increase([(0, 100), (5, 110), (10, 3), (15, 5)], start=1) == 15


def test_a_counter_that_stood_still_or_was_never_seen_did_not_rise() -> None:
    assert increase([], start=1) == 0
    assert increase([(0, 7), (5, 7)], start=1) == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.data())
def test_a_rise_is_the_sum_of_what_was_counted_whatever_was_restarted(steps: list[int], data: st.DataObject) -> None:
    samples: list[tuple[float, float]] = [(0.0, 0.0)]
    value, lost = 0, 0
    for index, step in enumerate(steps, 1):
        if data.draw(st.booleans()):
            # What it counts after the restart is more than before only by bad luck; then the difference is all that is seen.
            lost += min(value, step) if step >= value else 0
            value = 0
        value += step
        samples.append((float(index), float(value)))
    assert increase(samples, start=0.5) == sum(steps) - lost


def test_only_the_servers_own_failures_are_errors() -> None:
    counted = traffic_of("1", {"OK": 90.0, "INVALID_ARGUMENT": 5.0, "CANCELLED": 1.0, "INTERNAL": 2.0, "UNAVAILABLE": 2.0}, {})
    assert (counted.requests, counted.errors) == (100, 4)
    assert counted.p99_s is None


def test_p99_is_linear_inside_its_bucket() -> None:
    buckets = [Bucket(0.1, 50), Bucket(0.2, 98), Bucket(0.4, 100), Bucket(math.inf, 100)]
    assert quantile(buckets, 0.5) == pytest.approx(0.1)
    assert quantile(buckets, 0.99) == pytest.approx(0.3)
    assert quantile([Bucket(0.1, 1), Bucket(math.inf, 100)], 0.99) == pytest.approx(0.1)
    assert quantile([Bucket(0.1, 0), Bucket(math.inf, 0)], 0.99) is None
    assert quantile([], 0.99) is None


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1000), (1000, 0), (99, 99), (5000, 99)])
def test_no_traffic_is_not_enough_data(old: int, new: int) -> None:
    judged = judge(traffic("1", old), traffic("2", new))
    assert judged.verdict is Verdict.NOT_ENOUGH_DATA
    assert "at least 100" in judged.explanation


def test_equal_versions_show_no_difference() -> None:
    assert verdict(traffic("1", 400), traffic("2", 400, seed=2)) is Verdict.NO_DIFFERENCE


def test_planted_errors_are_worse() -> None:
    judged = judge(traffic("1", 300), traffic("2", 300, errors=30))
    assert judged.verdict is Verdict.WORSE
    assert "30 errors in 300 requests (10.0 %)" in judged.explanation


def test_few_errors_more_are_worse_once_they_are_certain() -> None:
    assert verdict(traffic("1", 20_000, 20), traffic("2", 20_000, 120)) is Verdict.WORSE


def test_fewer_errors_are_better() -> None:
    assert verdict(traffic("1", 1000, 100), traffic("2", 1000, 2)) is Verdict.BETTER


def test_a_slow_candidate_is_worse_though_it_never_fails() -> None:
    judged = judge(traffic("1", 500), traffic("2", 500, seconds=0.2))
    assert judged.verdict is Verdict.WORSE
    assert "slower at p99" in judged.explanation


def test_a_fast_candidate_is_better() -> None:
    assert verdict(traffic("1", 500, seconds=0.2), traffic("2", 500)) is Verdict.BETTER


def test_traffic_too_thin_to_exclude_harm_is_not_enough_data() -> None:
    judged = judge(traffic("1", 120), traffic("2", 120))
    assert judged.verdict is Verdict.NOT_ENOUGH_DATA
    assert "more traffic is needed" in judged.explanation


def test_equal_versions_are_rarely_called_worse() -> None:
    wrong = 0
    for seed in range(200):
        chance = np.random.default_rng(10_000 + seed)
        one = traffic("1", 300, int(chance.binomial(300, 0.01)), seed=2 * seed)
        two = traffic("2", 300, int(chance.binomial(300, 0.01)), seed=2 * seed + 1)
        wrong += verdict(one, two) is Verdict.WORSE
    print(f"{wrong / 2:.1f} % of equal rollouts were called worse")
    assert wrong <= 10
