"""RFM: quintiles, scores, and the grid of named segments."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain import RFM_SEGMENTS, RfmScores, RfmValue, cuts_of, rfm_scores, rfm_segment, rfm_value_of

AT = datetime(2011, 12, 9, tzinfo=UTC)


def population(count: int) -> list[RfmValue]:
    return [RfmValue(float(number), float(number), float(number)) for number in range(1, count + 1)]


def test_ten_different_customers_fall_two_into_each_fifth() -> None:
    customers = population(10)
    cuts = cuts_of(customers, at=AT)
    scores = [rfm_scores(customer, cuts) for customer in customers]
    assert [score.recency for score in scores if score] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert [score.frequency for score in scores if score] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [score.monetary for score in scores if score] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_negative_balance_after_refunds_is_the_lowest_value() -> None:
    value = rfm_value_of({"days_since_last_order": 3.0, "orders_count": 1.0, "revenue_total": 10.0, "refunds_total": 25.5})
    assert value == RfmValue(3.0, 1.0, -15.5)
    scores = rfm_scores(value, cuts_of(population(10), at=AT)) if value else None
    assert scores == RfmScores(4, 1, 1)


def test_who_never_bought_has_no_scores() -> None:
    assert rfm_value_of({"orders_count": 0.0, "revenue_total": 0.0, "refunds_total": 0.0}) is None


@pytest.mark.parametrize(
    ("count", "note"),
    [
        (0, "not computed: 0 customers with orders at 2011-12-09, at least 5 are needed for quintiles"),
        (1, "not computed: 1 customer with orders at 2011-12-09, at least 5 are needed for quintiles"),
        (49, "quintiles of 49 customers with orders at 2011-12-09; with fewer than 50 the borders are coarse"),
        (4_338, "quintiles of 4,338 customers with orders at 2011-12-09"),
    ],
)
def test_a_small_population_says_so(count: int, note: str) -> None:
    assert cuts_of(population(count), at=AT).note == note


def test_below_five_customers_nobody_is_scored() -> None:
    assert rfm_scores(RfmValue(1, 1, 1), cuts_of(population(4), at=AT)) is None


def test_the_version_counts_up_only_when_the_borders_move() -> None:
    first = cuts_of(population(10), at=AT)
    same = cuts_of(population(10), at=AT + timedelta(days=1), last=first)
    moved = cuts_of(population(11), at=AT + timedelta(days=2), last=same)
    assert [first.version, same.version, moved.version] == [1, 1, 2]
    assert same.at == AT + timedelta(days=1)


def test_the_grid_holds_each_of_the_25_cells_exactly_once() -> None:
    for recency, worth in product(range(1, 6), range(1, 6)):
        scores = RfmScores(recency, worth, worth)
        assert [segment.key for segment in RFM_SEGMENTS if segment.holds(scores)] == [rfm_segment(scores).key]


@pytest.mark.parametrize(
    ("scores", "key"),
    [
        (RfmScores(5, 5, 5), "champions"),
        (RfmScores(5, 4, 3), "champions"),
        (RfmScores(4, 5, 5), "loyal"),
        (RfmScores(5, 2, 2), "potential_loyalists"),
        (RfmScores(5, 1, 1), "recent"),
        (RfmScores(4, 1, 1), "promising"),
        (RfmScores(3, 3, 3), "need_attention"),
        (RfmScores(3, 1, 2), "about_to_sleep"),
        (RfmScores(1, 3, 4), "at_risk"),
        (RfmScores(2, 5, 5), "cannot_lose"),
        (RfmScores(1, 1, 1), "hibernating"),
    ],
)
def test_the_corners_of_the_grid_have_their_well_known_names(scores: RfmScores, key: str) -> None:
    assert rfm_segment(scores).key == key


def test_a_rule_is_told_in_words() -> None:
    rules = {segment.key: segment.rule for segment in RFM_SEGMENTS}
    assert rules["loyal"] == (
        "recency score 3 to 4, mean of frequency and monetary score 4 to 5, of customers with at least one order"
    )
    assert rules["recent"].startswith("recency score 5, mean of frequency and monetary score 1,")


# Few different values, so that ties are common.
values = st.builds(
    RfmValue, st.integers(0, 9).map(float), st.integers(1, 4).map(float), st.integers(-3, 3).map(lambda tens: tens * 10.0)
)


@given(st.lists(values, min_size=5, max_size=60))
def test_equal_customers_are_scored_equally_and_better_ones_never_worse(customers: list[RfmValue]) -> None:
    cuts = cuts_of(customers, at=AT)
    scored = [(customer, scores) for customer in customers if (scores := rfm_scores(customer, cuts))]
    assert len(scored) == len(customers)
    for (one, of_one), (other, of_other) in product(scored, scored):
        if one.recency_days <= other.recency_days:
            assert of_one.recency >= of_other.recency
        if one.frequency >= other.frequency:
            assert of_one.frequency >= of_other.frequency
        if one.monetary >= other.monetary:
            assert of_one.monetary >= of_other.monetary
    assert all(1 <= part <= 5 for _, each in scored for part in (each.recency, each.frequency, each.monetary, each.worth))


@given(st.lists(st.floats(0, 1e6), min_size=50, max_size=200, unique=True))
def test_without_ties_each_fifth_holds_a_fifth(days: list[float]) -> None:
    customers = [RfmValue(each, each, each) for each in days]
    cuts = cuts_of(customers, at=AT)
    sizes = [
        sum((s := rfm_scores(each, cuts)) is not None and s.monetary == fifth for each in customers) for fifth in range(1, 6)
    ]
    assert max(sizes) - min(sizes) <= 1
