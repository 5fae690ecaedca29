"""Offer, call or nothing."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.recommendation.conftest import Shop

START = datetime(2024, 1, 1, tzinfo=UTC)


def _day(number: float) -> datetime:
    return START + timedelta(days=number)


async def test_a_valuable_customer_at_risk_is_worth_an_action_and_the_sum_is_told(shop: Shop) -> None:
    customer = uuid.uuid4()
    for number in range(0, 361, 30):
        shop.order(customer, _day(number), "mug", revenue=100.0)
    shop.event(customer, "Order Refunded", _day(200), {"order_id": "1", "total": 300.0})
    shop.fact(customer, "Churn Scored", _day(360), probability=0.8, purpose="serving")
    await shop.tell()
    advice = await shop.advice(customer)
    # Twelve orders after the first, less the refund: 900 in 360 days; everybody is this one customer.
    assert advice.value_at_stake == pytest.approx(365 * 900 / 360)
    assert advice.churn_probability == 0.8
    assert advice.scored.ToDatetime(UTC) == _day(360)
    assert {action.name for action in advice.actions} == {"offer", "call", "nothing"}
    values = [action.expected_value for action in advice.actions]
    assert values == sorted(values, reverse=True)
    assert advice.actions[0].name == "call"
    assert "assumed, not measured" in advice.actions[0].basis
    assert not advice.missing


async def test_for_a_small_loss_nothing_is_best(shop: Shop) -> None:
    customer = uuid.uuid4()
    for number in (0, 100):
        shop.order(customer, _day(number), "mug", revenue=2.0)
    shop.fact(customer, "Churn Scored", _day(200), probability=0.3, purpose="serving")
    await shop.tell()
    best = (await shop.advice(customer)).actions[0]
    assert (best.name, best.expected_value, best.cost) == ("nothing", 0, 0)
    assert "expected loss" in best.explanation


async def test_without_a_score_it_says_so(shop: Shop) -> None:
    customer = uuid.uuid4()
    shop.order(customer, _day(0), "mug")
    await shop.tell()
    advice = await shop.advice(customer)
    assert [action.name for action in advice.actions] == ["nothing"]
    assert "no churn score" in advice.missing
    assert not advice.HasField("churn_probability")
    assert advice.HasField("value_at_stake")


async def test_who_never_bought_has_nothing_to_lose(shop: Shop) -> None:
    advice = await shop.advice(uuid.uuid4())
    assert [action.name for action in advice.actions] == ["nothing"]
    assert "not bought anything" in advice.missing
    assert not advice.HasField("value_at_stake")


async def test_the_newest_score_counts_and_scores_for_evaluation_do_not(shop: Shop) -> None:
    customer = uuid.uuid4()
    shop.order(customer, _day(0), "mug")
    for day, probability, purpose in ((5, 0.5, "serving"), (3, 0.1, "serving"), (9, 0.9, "evaluation")):
        shop.fact(customer, "Churn Scored", _day(day), probability=probability, purpose=purpose)
        await shop.tell()
    assert (await shop.advice(customer)).churn_probability == 0.5


async def test_a_merge_takes_spending_and_the_newest_score_along(shop: Shop) -> None:
    visitor, customer = uuid.uuid4(), uuid.uuid4()
    shop.order(visitor, _day(0), "mug")
    shop.order(customer, _day(100), "mug", revenue=50.0)
    shop.fact(visitor, "Churn Scored", _day(101), probability=0.7, purpose="serving")
    shop.fact(customer, "Churn Scored", _day(100), probability=0.2, purpose="serving")
    await shop.tell()
    shop.merged(visitor, customer, _day(102))
    await shop.tell()
    for asked in (visitor, customer):
        advice = await shop.advice(asked)
        assert advice.churn_probability == 0.7
        assert advice.value_at_stake == pytest.approx(365 * 50 / 101, rel=0.02)
