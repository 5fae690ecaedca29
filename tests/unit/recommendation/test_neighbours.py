"""Similar items."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.recommendation.domain import neighbours
from services.recommendation.domain.neighbours import KEPT, LEAST_SHARED, SHRINKAGE, neighbours_of
from tests.unit.recommendation.shops import Lines, coded, pairs_of

BASKETS = st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=25)


def _lines(baskets: list[set[int]]) -> Lines:
    rows = [(customer, item) for customer, basket in enumerate(baskets) for item in sorted(basket)]
    customer, item = np.array(rows).T
    return coded(customer, item, customer, np.arange(len(rows), dtype=np.int64))


def _similarity(baskets: list[set[int]], one: int, other: int) -> float:
    """The formula as it stands in the module's docstring."""
    weights = [1 / len(basket) for basket in baskets]
    both = [weight for basket, weight in zip(baskets, weights, strict=True) if {one, other} <= basket]
    norms = [sum(w for basket, w in zip(baskets, weights, strict=True) if each in basket) ** 0.5 for each in (one, other)]
    return sum(both) / (norms[0] * norms[1]) * len(both) / (len(both) + SHRINKAGE)


@given(BASKETS)
def test_similarities_are_those_of_the_formula_and_come_most_similar_first(baskets: list[set[int]]) -> None:
    items = sorted(set().union(*baskets))
    pairs = pairs_of(_lines(baskets), 1 << 40)
    found = neighbours_of(pairs)
    for place, item in enumerate(items):
        shared = {other: sum({item, other} <= basket for basket in baskets) for other in items if other != item}
        expected = sorted(
            (_similarity(baskets, item, other) for other, count in shared.items() if count >= LEAST_SHARED), reverse=True
        )[:KEPT]
        got = found.similarity[place][found.similarity[place] > 0]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        for column in range(len(got)):
            assert found.shared[place, column] == shared[items[found.items[place, column]]]


def test_a_large_catalogue_is_counted_another_way_with_the_same_result() -> None:
    small = [{0, 1}, {0, 1}, {0, 1, 2}]
    large = [*small, set(range(10, 500))]
    few, many = (neighbours_of(pairs_of(_lines(baskets), 1 << 40)) for baskets in (small, large))
    np.testing.assert_array_equal(few.items[0, :2], many.items[0, :2])
    np.testing.assert_allclose(few.similarity[0], many.similarity[0])


def test_only_the_newest_items_of_a_customer_count_where_there_are_too_many() -> None:
    count = neighbours.MOST_ITEMS + 3
    customer = np.concatenate((np.zeros(count, np.int64), np.ones(count, np.int64)))
    item = np.concatenate((np.arange(count), np.arange(count)))
    lines = coded(customer, item, customer, item.astype(np.int64))
    shared = neighbours_of(pairs_of(lines, 1 << 40)).shared
    assert not shared[:3].any(), "the oldest are left out"
    assert shared[3:].all()


def test_what_only_one_customer_bought_together_is_no_pattern() -> None:
    found = neighbours_of(pairs_of(_lines([{0, 1}, {0}, {1}]), 1 << 40))
    assert not found.similarity.any()
