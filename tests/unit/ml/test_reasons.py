import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.features import catalogue
from ml.reasons import describe, reasons

NOTHING = math.nan
CUSTOMER = {
    "orders_count": 4,
    "orders_90d": 0,
    "revenue_total": 1234.5,
    "revenue_90d": 0,
    "refunds_total": 12.5,
    "days_since_last_order": 143.2,
    "days_since_first_order": 400.9,
    "mean_order_interval_days": 31.2,
    "active_days_90d": 1,
    "tickets_90d": 2,
}


@pytest.mark.parametrize(
    ("name", "changes", "phrase"),
    [
        ("orders_count", {}, "4 orders so far"),
        ("orders_count", {"orders_count": 1}, "1 order so far"),
        ("orders_90d", {}, "no order in the last 90 days"),
        ("revenue_total", {}, "1,234.50 spent so far"),
        ("revenue_90d", {}, "nothing spent in the last 90 days"),
        ("revenue_90d", {"revenue_90d": 9}, "9.00 spent in the last 90 days"),
        ("refunds_total", {}, "12.50 refunded so far"),
        ("refunds_total", {"refunds_total": 0}, "never had a refund"),
        ("days_since_last_order", {}, "last order 143 days ago, usually every 31"),
        ("days_since_last_order", {"mean_order_interval_days": NOTHING}, "last order 143 days ago"),
        ("days_since_last_order", {"days_since_last_order": 0.4}, "last order less than a day ago, usually every 31"),
        ("days_since_last_order", {"days_since_last_order": NOTHING}, "no order yet"),
        ("days_since_first_order", {}, "first order 400 days ago"),
        ("days_since_first_order", {"days_since_first_order": 1.9}, "first order 1 day ago"),
        ("mean_order_interval_days", {}, "usually orders every 31 days"),
        ("mean_order_interval_days", {"mean_order_interval_days": 0.3}, "usually orders every day"),
        ("mean_order_interval_days", {"mean_order_interval_days": NOTHING}, "has ordered on one day only"),
        ("active_days_90d", {}, "active on 1 day of the last 90"),
        ("tickets_90d", {}, "2 tickets opened in the last 90 days"),
    ],
)
def test_a_feature_is_told_in_words(name: str, changes: dict[str, float], phrase: str) -> None:
    assert describe(name, CUSTOMER | changes) == phrase


def test_every_feature_of_the_catalogue_has_a_phrase_of_its_own() -> None:
    phrases = {describe(name, CUSTOMER) for name in catalogue.NAMES}
    assert len(phrases) == len(catalogue.NAMES)
    assert not any("_" in phrase for phrase in phrases)


def test_a_feature_that_nobody_foresaw_is_told_plainly() -> None:
    assert describe("pages_7d", {"pages_7d": 3.0}) == "pages 7d 3"
    assert describe("pages_7d", {"pages_7d": NOTHING}) == "pages 7d unknown"


def test_the_strongest_come_first_and_the_bias_is_none() -> None:
    strength = [0.1, -0.9, 0.0, 0.3, 0.001, 0.8, -0.2, 0.05, 0.04, 0.03]
    found = reasons(catalogue.NAMES, list(CUSTOMER.values()), [*strength, -2.5])
    assert [reason.feature for reason in found] == [
        "orders_90d",
        "days_since_last_order",
        "revenue_90d",
        "days_since_first_order",
        "orders_count",
    ]
    assert found[0].contribution == -0.9
    assert found[0].value == 0


def test_what_hardly_matters_is_no_reason() -> None:
    assert reasons(catalogue.NAMES, list(CUSTOMER.values()), [0.001] * 11) == []


@given(st.lists(st.one_of(st.just(NOTHING), st.floats(0, 1e9)), min_size=10, max_size=10))
def test_any_values_can_be_told(values: list[float]) -> None:
    found = reasons(catalogue.NAMES, values, [1.0] * 11)
    assert len(found) == 5
    for reason in found:
        assert reason.text
        assert "nan" not in reason.text
        assert (reason.value is None) == math.isnan(values[catalogue.NAMES.index(reason.feature)])
