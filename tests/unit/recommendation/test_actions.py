"""The next best action."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommendation.domain.actions import Measure, Spending, compare, only_nothing, value_at_stake

OFFER, CALL = Measure("offer", 5.0, 0.05), Measure("call", 20.0, 0.10)
EVERYBODY = Spending(100_000.0, 100_000.0)


@pytest.mark.parametrize(
    ("churn", "value", "best"),
    [(0.5, 100.0, "nothing"), (0.5, 400.0, "offer"), (0.5, 1000.0, "call"), (0.0, 10_000.0, "nothing"), (1.0, 0.0, "nothing")],
)
def test_the_best_action_depends_on_risk_and_value(churn: float, value: float, best: str) -> None:
    actions = compare([OFFER, CALL], churn_probability=churn, value=value)
    assert actions[0].name == best
    assert sorted(each.name for each in actions) == ["call", "nothing", "offer"]


def test_the_sum_is_told_in_words() -> None:
    actions = compare([Measure("offer", 15.0, 0.10)], churn_probability=0.62, value=480.0)
    by_name = {each.name: each for each in actions}
    assert by_name["offer"].explanation == "0.62 x 0.10 x 480.00 - 15.00 = 14.76"
    assert "assumed, not measured" in by_name["offer"].basis
    assert by_name["nothing"].explanation.endswith("expected loss 0.62 x 480.00 = 297.60")


def test_of_equal_actions_the_cheaper_is_first() -> None:
    actions = compare([Measure("offer", 10.0, 0.1)], churn_probability=0.5, value=200.0)
    assert [each.name for each in actions] == ["nothing", "offer"]


def test_without_a_score_only_nothing_is_left_and_says_why() -> None:
    action = only_nothing("no churn score")
    assert (action.name, action.expected_value, action.cost) == ("nothing", 0.0, 0.0)
    assert "no churn score" in action.explanation


def test_a_long_history_speaks_for_itself_and_a_short_one_borrows() -> None:
    # Everybody spends 1.00 a day.
    assert value_at_stake(Spending(0.0, 0.0), EVERYBODY) == pytest.approx(365.0)
    assert value_at_stake(Spending(20_000.0, 10_000.0), EVERYBODY) == pytest.approx(2 * 365, rel=0.01)
    assert value_at_stake(Spending(0.0, 90.0), EVERYBODY) == pytest.approx(365 / 2)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e4))
def test_a_value_is_never_below_zero(revenue: float, days: float) -> None:
    assert value_at_stake(Spending(revenue, days), Spending(-5.0, 0.0)) >= 0
