from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from demo.simulator import Shop

ENGLISH_OR_NONE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(seed=7, customers=400)


@pytest.fixture(scope="module")
def history(shop: Shop) -> list[dict[str, Any]]:
    return list(shop.events())


def buyers_between(calls: list[dict[str, Any]], first: datetime, last: datetime) -> set[str]:
    return {
        call["userId"]
        for call in calls
        if call.get("event") == "Order Completed" and first <= datetime.fromisoformat(call["timestamp"]) < last
    }


def test_the_same_seed_gives_the_same_bytes(history: list[dict[str, Any]]) -> None:
    again = list(Shop(seed=7, customers=400).events())
    assert msgspec.json.encode(again) == msgspec.json.encode(history)
    assert msgspec.json.encode(list(Shop(seed=8, customers=400).events())) != msgspec.json.encode(history)


def test_more_customers_change_nothing_for_the_others(history: list[dict[str, Any]]) -> None:
    few = {call["messageId"]: call for call in Shop(seed=7, customers=40).events()}
    assert few == {call["messageId"]: call for call in history if int(call["messageId"].split("-")[1]) <= 40}


def test_events_come_in_time_order_with_ids_of_their_own(shop: Shop, history: list[dict[str, Any]]) -> None:
    times = [call["timestamp"] for call in history]
    assert times == sorted(times)
    assert datetime.fromisoformat(times[-1]) < shop.decision_at == datetime(2025, 4, 1, tzinfo=UTC)
    assert len({call["messageId"] for call in history}) == len(history) == shop.call_count


def test_an_earlier_end_gives_the_beginning_of_the_same_history(shop: Shop, history: list[dict[str, Any]]) -> None:
    until = shop.decision_at - timedelta(days=100)
    early = list(shop.events(until))
    assert early == history[: len(early)]
    assert datetime.fromisoformat(history[len(early)]["timestamp"]) >= until
    with pytest.raises(ValueError, match="see future"):
        next(shop.events(shop.decision_at + timedelta(days=1)))


def test_customers_are_strangers_first_and_merge_when_they_say_who_they_are(shop: Shop, history: list[dict[str, Any]]) -> None:
    devices: dict[str, set[str]] = defaultdict(set)
    for call in history:
        if call["type"] == "identify":
            devices[call["userId"]].add(call["anonymousId"])
        else:
            assert ("userId" in call) != ("anonymousId" in call)
    assert len(devices) > 300
    assert any(len(ids) == 2 for ids in devices.values())
    known = {device for ids in devices.values() for device in ids}
    anonymous = {call["anonymousId"] for call in history if "userId" not in call}
    assert known <= anonymous
    assert len(anonymous - known) >= 10  # those who never say
    people = {person.user_id: person for person in shop.people}
    assert all(ids <= set(people[user].anonymous_ids) for user, ids in devices.items())


def test_every_customer_tells_personal_and_public_traits(history: list[dict[str, Any]]) -> None:
    traits = [call["traits"] for call in history if call["type"] == "identify"]
    assert all({"email", "firstName", "lastName", "phone", "address", "plan", "interests"} <= set(each) for each in traits)


def test_money_is_exact_to_the_cent(shop: Shop, history: list[dict[str, Any]]) -> None:
    total = Decimal(0)
    for call in history:
        if call.get("event") not in ("Order Completed", "Order Refunded"):
            continue
        properties = call["properties"]
        lines = sum(Decimal(repr(product["price"])) * product["quantity"] for product in properties["products"])
        assert Decimal(repr(properties["total"])) == lines
        total += lines if call["event"] == "Order Completed" else -lines
    sums = shop.tally.sums({call["messageId"] for call in history})
    assert sums.money_profiles == total
    assert sums.money_anonymous == 0
    assert sums.hold


def test_no_refund_before_its_order(history: list[dict[str, Any]]) -> None:
    ordered: set[str] = set()
    for call in history:
        if call.get("event") == "Order Completed":
            ordered.add(call["properties"]["order_id"])
        elif call.get("event") == "Order Refunded":
            assert call["properties"]["order_id"] in ordered


def test_the_true_score_is_that_of_everyone_asked(shop: Shop) -> None:
    people = {person.user_id: person for person in shop.people}
    ratings = [people[user].nature.rating for user in shop.truth.buyers(shop.survey_at)]
    promoters, detractors = sum(rating > 8 for rating in ratings), sum(rating < 7 for rating in ratings)
    assert shop.truth.nps == pytest.approx(100 * (promoters - detractors) / len(ratings))
    assert set(ratings) <= set(range(11))


def test_answers_are_true_and_come_from_a_random_part(shop: Shop) -> None:
    answers = shop.answers()
    asked = shop.truth.buyers(shop.survey_at)
    people = {person.user_id: person for person in shop.people}
    assert 0.25 < len(answers) / len(asked) < 0.5
    assert all(answer.rating == people[answer.user_id].nature.rating for answer in answers)
    assert all(shop.survey_at <= answer.answered < shop.decision_at for answer in answers)
    assert len({answer.user_id for answer in answers}) == len(answers)
    assert any(answer.comment and not set(answer.comment) <= set(ENGLISH_OR_NONE) for answer in answers)
    assert any(not answer.comment for answer in answers)


def test_the_interval_of_the_answers_covers_the_true_score_in_most_shops() -> None:
    covered = 0
    for seed in range(12):
        shop = Shop(seed=seed, customers=250)
        scores = [(answer.rating > 8) - (answer.rating < 7) for answer in shop.answers()]
        mean = sum(scores) / len(scores)
        variance = sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
        covered += abs(100 * mean - shop.truth.nps) <= 196 * (variance / len(scores)) ** 0.5
    assert covered >= 10


def test_the_unhappy_leave_sooner(shop: Shop) -> None:
    people = {person.user_id: person.nature for person in shop.people}
    alive = shop.truth.alive(shop.decision_at)
    happy = [alive[user] for user in alive if people[user].satisfaction > 0]
    unhappy = [alive[user] for user in alive if people[user].satisfaction < 0]
    assert sum(happy) / len(happy) > sum(unhappy) / len(unhappy) + 0.15


def test_true_churn_is_what_the_future_shows(shop: Shop) -> None:
    orders = buyers_between(list(shop.future({})), shop.decision_at, shop.decision_at + timedelta(days=90))
    churned = shop.truth.churned(shop.decision_at)
    assert {user for user, gone in churned.items() if not gone} == orders & set(churned)
    assert 0.3 < sum(churned.values()) / len(churned) < 0.7


def test_both_outcomes_are_what_the_futures_show(shop: Shop) -> None:
    users = shop.truth.buyers(shop.decision_at)
    window = (shop.decision_at, shop.decision_at + timedelta(days=60))
    without = buyers_between(list(shop.future({})), *window)
    with_action = buyers_between(list(shop.future(dict.fromkeys(users, True))), *window)
    outcomes = shop.truth.outcomes(users, window_days=60)
    assert [pair.control for pair in outcomes] == [int(user in without) for user in users]
    assert [pair.treatment for pair in outcomes] == [int(user in with_action) for user in users]
    assert shop.truth.effect(users) == pytest.approx((len(with_action) - len(without)) / len(users), abs=0.01)


def test_the_action_helps_and_never_harms(shop: Shop) -> None:
    outcomes = shop.truth.outcomes(shop.truth.buyers(shop.decision_at), window_days=60)
    assert all(pair.treatment >= pair.control for pair in outcomes)
    assert 0.05 < sum(pair.treatment - pair.control for pair in outcomes) / len(outcomes) < 0.25


def test_the_action_changes_only_those_who_get_it(shop: Shop, history: list[dict[str, Any]]) -> None:
    treated = shop.truth.buyers(shop.decision_at)[::2]
    others = {person.user_id for person in shop.people} - set(treated)
    with_action = list(shop.future(dict.fromkeys(treated, True)))
    without = list(shop.future(dict.fromkeys(treated, False)))
    assert [call for call in with_action if call.get("userId") in others] == [
        call for call in without if call.get("userId") in others
    ]
    assert with_action != without
    first, *_, last = with_action
    assert shop.decision_at <= datetime.fromisoformat(first["timestamp"])
    assert datetime.fromisoformat(last["timestamp"]) < shop.end
    assert not {call["messageId"] for call in with_action} & {call["messageId"] for call in history}


@pytest.mark.parametrize("treated", [{"customer-99999": True}, {"customer-00001": "treatment"}])
def test_a_future_for_the_wrong_people_is_refused(shop: Shop, treated: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"customers|boolean"):
        list(shop.future(treated))


def test_a_shop_of_the_usual_size_has_the_usual_number_of_events() -> None:
    assert 65_000 < Shop(seed=1).call_count < 120_000
