"""Figures beside numpy's and scipy's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.profiles.domain.figures import FEWEST, SHARES, correlate, describe, pearson, ranks

_NUMBERS = st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda number: round(number, 3))


@given(st.lists(_NUMBERS, min_size=1, max_size=60))
def test_numbers_are_described_as_numpy_does(numbers: list[float]) -> None:
    found = describe([*numbers, None])
    assert (found.count, found.missing_count) == (len(numbers), 1)
    scale = max(map(abs, numbers)) or 1.0
    assert found.mean == pytest.approx(np.mean(numbers), rel=1e-9, abs=1e-9 * scale)
    assert found.quantiles == pytest.approx(np.quantile(numbers, SHARES).tolist(), rel=1e-9, abs=1e-9 * scale)
    if len(numbers) > 1:
        assert found.variance == pytest.approx(np.var(numbers, ddof=1), rel=1e-6, abs=1e-9 * scale**2)
    else:
        assert found.variance is None


def test_texts_are_counted_and_nothing_is_described_as_nothing() -> None:
    texts = describe(["b", "a", None, "b"])
    assert (texts.count, texts.missing_count, texts.categories, texts.category_count) == (3, 1, [("b", 2), ("a", 1)], 2)
    assert texts.mean is None
    assert (describe([None]).count, describe([]).missing_count) == (0, 0)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=80))
def test_coefficients_are_scipys(pairs: list[tuple[int, int]]) -> None:
    left, right = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    assert ranks(left) == stats.rankdata(left).tolist()
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert pearson(left, right) == pytest.approx(stats.pearsonr(left, right)[0], abs=1e-9)
        assert pearson(ranks(left), ranks(right)) == pytest.approx(stats.spearmanr(left, right)[0], abs=1e-9)
    else:
        assert pearson(left, right) is None


def test_only_rows_with_both_values_are_correlated_and_too_few_make_no_coefficient() -> None:
    left: list[float | None] = [float(number) for number in range(FEWEST)]
    right: list[float | None] = [2 * number for number in left if number is not None]
    [pearsons, spearmans] = correlate({"a": [*left, None, 1.0], "b": [*right, 5.0, None]})
    assert (pearsons.n, pearsons.coefficient, spearmans.coefficient) == (FEWEST, pytest.approx(1.0), pytest.approx(1.0))
    assert [each.absent for each in correlate({"a": left[1:], "b": right[1:]})] == ["NOT_ENOUGH_DATA"] * 2
    assert [each.absent for each in correlate({"a": left, "b": [1.0] * FEWEST})] == ["CONSTANT"] * 2


def test_large_values_do_not_overflow() -> None:
    assert pearson([1e300, -1e300, 0.0], [1.0, -1.0, 0.0]) == pytest.approx(1.0)
    assert not math.isnan(pearson([1e-300, 2e-300, 3e-300], [1.0, 2.0, 3.0]) or 0.0)
