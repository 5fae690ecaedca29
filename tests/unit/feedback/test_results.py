"""Scores and intervals: known values, edges, and honest coverage."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from services.feedback.domain import Result, SurveyKind, net_promoter_score, result_of
from services.feedback.domain.results import Z95, difference_interval, t95


def nps_counts(detractors: int, passives: int, promoters: int) -> list[int]:
    return [detractors, 0, 0, 0, 0, 0, 0, passives, 0, 0, promoters]


def csat_counts(others: int, satisfied: int) -> list[int]:
    return [0, others, 0, satisfied, 0]


@pytest.mark.parametrize(
    ("ratings", "value"),
    [
        ([9, 10], 100.0),
        ([0, 6], -100.0),
        ([7, 8], 0.0),
        ([10, 9, 8, 7, 6, 0], 0.0),
        ([10, 10, 9, 8, 3], 40.0),
    ],
)
def test_nps_is_promoters_minus_detractors(ratings: list[int], value: float) -> None:
    counts = [ratings.count(rating) for rating in range(11)]
    assert net_promoter_score(counts)[0] == pytest.approx(value)


def test_the_score_interval_is_the_published_one() -> None:
    """Airway reactivity of 21 children, 1 against 7 discordant: Fagerland, Lydersen and Laake (2014), table VI."""
    low, high = difference_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


def score_test_keeps(supposed: float, plus: int, minus: int, count: int) -> bool:
    """The test itself, with the nuisance share found numerically, to hold the closed form against."""

    def misfit(share: float) -> float:
        parts = ((plus, share + supposed), (minus, share), (count - plus - minus, 1 - 2 * share - supposed))
        return -sum(times * math.log(part) for times, part in parts if times)

    low, high = max(0.0, -supposed) + 1e-12, (1 - supposed) / 2 - 1e-12
    found: Any = optimize.minimize_scalar(misfit, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    share = found.x
    variance = count * (2 * share + supposed * (1 - supposed))
    return abs(plus - minus - count * supposed) <= Z95 * math.sqrt(variance)


@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 15))
def test_the_interval_holds_exactly_what_the_score_test_keeps(plus: int, minus: int, passive: int) -> None:
    count = plus + minus + passive
    low, high = difference_interval(plus, minus, count)
    for supposed, kept in ((low + 1e-4, True), (high - 1e-4, True), (low - 1e-4, False), (high + 1e-4, False)):
        if abs(supposed) < 1 - 1e-6:
            assert score_test_keeps(supposed, plus, minus, count) is kept


@pytest.mark.parametrize("count", [2, 3, 20, 1000])
def test_even_unanimous_answers_leave_room_for_doubt(count: int) -> None:
    for counts, value in ((nps_counts(0, 0, count), 100), (nps_counts(count, 0, 0), -100), (nps_counts(0, count, 0), 0)):
        result = result_of(SurveyKind.NPS, counts)
        assert result.value == value
        assert result.low is not None
        assert result.high is not None
        assert -100 <= result.low <= value <= result.high <= 100
        assert result.high - result.low > 0.3


counts_of_nps = st.lists(st.integers(0, 40), min_size=11, max_size=11).filter(lambda counts: sum(counts) >= 2)


@given(counts_of_nps)
def test_an_nps_interval_holds_its_value_and_stays_on_the_scale(counts: list[int]) -> None:
    value, (low, high) = net_promoter_score(counts)
    assert -100 - 1e-9 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 100 + 1e-9
    assert high - low > 0


@given(counts_of_nps)
def test_turning_the_scale_round_turns_the_interval_round(counts: list[int]) -> None:
    detractors, passives, promoters = sum(counts[:7]), sum(counts[7:9]), sum(counts[9:])
    low, high = difference_interval(promoters, detractors, detractors + passives + promoters)
    turned_low, turned_high = difference_interval(detractors, promoters, detractors + passives + promoters)
    assert (turned_low, turned_high) == (pytest.approx(-high, abs=1e-9), pytest.approx(-low, abs=1e-9))


@given(counts_of_nps, st.integers(2, 9))
def test_more_of_the_same_answers_narrow_the_interval(counts: list[int], times: int) -> None:
    _, (low, high) = net_promoter_score(counts)
    _, (many_low, many_high) = net_promoter_score([count * times for count in counts])
    assert many_high - many_low < high - low


def draw(shares: tuple[float, ...], count: int, random_: random.Random) -> list[int]:
    drawn = random_.choices(range(len(shares)), shares, k=count)
    return [drawn.count(rating) for rating in range(len(shares))]


NPS_SHARES = {
    "usual": (0.05, 0.02, 0.02, 0.03, 0.04, 0.06, 0.08, 0.15, 0.2, 0.2, 0.15),
    "loved": (0.01, 0, 0, 0, 0, 0.01, 0.02, 0.05, 0.08, 0.33, 0.5),
    "hated": (0.5, 0.2, 0.1, 0.05, 0.05, 0, 0, 0.05, 0.02, 0.02, 0.01),
    "split": (0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5),
    "lukewarm": (0, 0, 0, 0, 0, 0, 0.05, 0.5, 0.4, 0.05, 0),
}


@pytest.mark.parametrize("name", NPS_SHARES)
def test_95_percent_intervals_of_small_nps_samples_cover_the_truth_in_90_to_99_percent(name: str) -> None:
    shares = NPS_SHARES[name]
    truth = 100 * (sum(shares[9:]) - sum(shares[:7])) / sum(shares)
    covered = 0
    for seed in range(200):
        random_ = random.Random(seed)
        _, (low, high) = net_promoter_score(draw(shares, random_.randint(20, 60), random_))
        covered += low <= truth <= high
    assert 180 <= covered <= 198


@pytest.mark.parametrize("satisfied", [0.15, 0.5, 0.8])
def test_intervals_of_small_csat_samples_cover_the_truth(satisfied: float) -> None:
    covered = 0
    for seed in range(200):
        random_ = random.Random(seed)
        shares = (1 - satisfied, 0.0, 0.0, satisfied / 2, satisfied / 2)
        result = result_of(SurveyKind.CSAT, draw(shares, random_.randint(20, 60), random_))
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 100 * satisfied <= result.high
    assert 180 <= covered <= 198


def test_intervals_of_small_ces_samples_cover_the_truth() -> None:
    shares = (0.05, 0.1, 0.15, 0.2, 0.25, 0.15, 0.1)
    truth = sum(rating * share for rating, share in zip(range(1, 8), shares, strict=True))
    covered = 0
    for seed in range(200):
        random_ = random.Random(seed)
        result = result_of(SurveyKind.CES, draw(shares, random_.randint(20, 60), random_))
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= truth <= result.high
    assert 180 <= covered <= 198


def test_csat_has_wilsons_interval() -> None:
    result = result_of(SurveyKind.CSAT, csat_counts(20, 80))
    expected = stats.binomtest(80, 100).proportion_ci(0.95, method="wilson")
    assert result.value == 80
    assert (result.low, result.high) == (pytest.approx(100 * expected.low), pytest.approx(100 * expected.high))


def test_ces_has_students_interval_inside_the_scale() -> None:
    ratings = [1, 2, 2, 5, 7, 7, 4]
    result = result_of(SurveyKind.CES, [ratings.count(rating) for rating in range(1, 8)])
    low, high = stats.t.interval(0.95, 6, loc=4, scale=stats.sem(ratings))
    assert result.value == 4
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    wide = result_of(SurveyKind.CES, [1, 0, 0, 0, 0, 0, 1])
    assert (wide.value, wide.low, wide.high) == (4, 1, 7)


def test_equal_efforts_still_have_a_width() -> None:
    result = result_of(SurveyKind.CES, [0, 0, 0, 0, 10, 0, 0])
    assert result.value == 5
    assert result.low is not None
    assert 4.7 < result.low < 5


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 30, 59, 200, 201, 1000, 100_000])
def test_students_percentile_is_exact_to_six_digits(freedom: int) -> None:
    assert t95(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), abs=1e-6)


@pytest.mark.parametrize("kind", SurveyKind)
def test_below_two_answers_there_is_not_enough_data(kind: SurveyKind) -> None:
    none = [0] * (kind.highest - kind.lowest + 1)
    one = [*none[:-1], 1]
    assert result_of(kind, none) == Result(0, none, missing="not enough data: 0 answers, at least 2 are needed")
    assert result_of(kind, one) == Result(1, one, missing="not enough data: 1 answer, at least 2 are needed")
    assert result_of(kind, [*none[:-1], 2]).missing == ""
