"""From the log to ranked items."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from rapport.recommendation.v1 import recommendation_pb2 as pb

from chassis import context
from chassis.errors import InvalidArgument, NotFound
from tests.integration.recommendation.conftest import Shop, ids

START = datetime(2024, 1, 1, tzinfo=UTC)


def _day(number: float) -> datetime:
    return START + timedelta(days=number)


def _people(count: int) -> list[UUID]:
    return [uuid.uuid4() for _ in range(count)]


async def _tea_shop(shop: Shop) -> list[UUID]:
    """Six buy mug and saucer, eight a lamp, each on a day of their own; returns the six, then the eight."""
    people = _people(14)
    for number, person in enumerate(people):
        shop.order(person, _day(number), *(("mug", "saucer") if number < 6 else ("lamp",)))
    await shop.tell()
    return people


async def test_what_was_bought_together_is_recommended_with_the_reason(shop: Shop) -> None:
    await _tea_shop(shop)
    [newcomer] = _people(1)
    shop.order(newcomer, _day(20), "mug")
    await shop.tell()
    [items] = await shop.shown(newcomer)
    assert ids(items) == ["saucer", "lamp"]
    assert (items[0].stage, items[0].reason) == ("co_purchase", "bought with MUG by 6 customers")
    assert (items[1].stage, items[1].reason, items[1].name) == ("popular", "popular: bought by 8 customers in a year", "LAMP")


async def test_what_was_bought_before_comes_only_when_asked_for(shop: Shop) -> None:
    people = await _tea_shop(shop)
    [without] = await shop.shown(people[0])
    [included] = await shop.shown(people[0], include_purchased=True)
    assert set(ids(without)) == {"lamp"}
    assert {"mug", "saucer"} <= set(ids(included))
    again = next(item for item in included if item.stage == "repurchase")
    assert again.reason.startswith("bought in 1 order, last 13 days ago; ")


async def test_the_yardstick_shows_what_most_customers_bought(shop: Shop) -> None:
    people = await _tea_shop(shop)
    [popular] = await shop.shown(people[0], strategy=pb.STRATEGY_POPULAR, include_purchased=True, limit=2)
    assert ids(popular) == ["lamp", "mug"]
    [popular] = await shop.shown(people[0], strategy=pb.STRATEGY_POPULAR)
    assert ids(popular) == ["lamp"]


async def test_an_item_out_of_the_catalogue_is_gone_at_once_and_comes_back(shop: Shop) -> None:
    await _tea_shop(shop)
    [stranger] = _people(1)
    assert "lamp" in ids((await shop.shown(stranger))[0])
    for in_catalogue, there in ((False, False), (False, False), (True, True)):
        await shop.service.UpdateItem(pb.UpdateItemRequest(item_id="lamp", in_catalogue=in_catalogue))
        [items] = await shop.shown(stranger, rebuild=False)
        assert ("lamp" in ids(items)) is there
    await shop.send()
    assert sorted(message_id for _, message_id in shop.facts.facts) == ["item:1:lamp", "item:2:lamp"]


async def test_the_catalogue_can_be_rebuilt_from_the_log(shop: Shop) -> None:
    await _tea_shop(shop)
    [stranger] = _people(1)
    for version, in_catalogue in ((2, False), (1, True)):  # the older one comes late, and changes nothing
        fact = {"item": "lamp", "inCatalogue": in_catalogue, "version": version}
        shop.fact(stranger, "Catalogue Item Updated", _day(20), **fact)
        await shop.tell()
    assert "lamp" not in ids((await shop.shown(stranger))[0])


async def test_an_unknown_item_cannot_be_taken_out(shop: Shop) -> None:
    with pytest.raises(NotFound):
        await shop.service.UpdateItem(pb.UpdateItemRequest(item_id="nothing", in_catalogue=False))


async def test_at_an_instant_only_what_was_known_before_it_counts(shop: Shop) -> None:
    people = await _tea_shop(shop)
    [late] = _people(1)
    shop.order(late, _day(2), "candle", known=_day(30))  # happened before, heard of after
    await shop.tell()
    request = pb.RecommendRequest(profile_ids=[str(people[9])])
    request.at.FromDatetime(_day(6))
    answer = await shop.service.Recommend(request)
    assert {item.item_id for item in answer.results[0].items} == {"mug", "saucer"}
    request.at.FromDatetime(_day(31))
    answer = await shop.service.Recommend(request)
    assert {item.item_id for item in answer.results[0].items} == {"mug", "saucer", "candle"}, "the lamp is bought"


async def test_the_segments_favourites_come_first_and_follow_the_moves(shop: Shop) -> None:
    people = await _tea_shop(shop)
    [newcomer] = _people(1)
    for person in (*people[:6], newcomer):
        shop.fact(person, "Segment Entered", _day(20), segment="active", version=1)
    await shop.tell()
    [items] = await shop.shown(newcomer)
    assert [(item.item_id, item.stage) for item in items] == [
        ("mug", "popular_in_segment"),
        ("saucer", "popular_in_segment"),
        ("lamp", "popular"),
    ]
    assert items[0].reason == "popular among active customers: bought by 6 of them"
    shop.fact(newcomer, "Segment Exited", _day(21), segment="active", version=1)
    await shop.tell()
    [items] = await shop.shown(newcomer)
    assert {item.stage for item in items} == {"popular"}


async def test_a_merged_profile_takes_its_purchases_along_and_later_ones_find_it(shop: Shop) -> None:
    await _tea_shop(shop)
    visitor, customer = _people(2)
    shop.order(visitor, _day(20), "mug")
    shop.merged(visitor, customer, _day(21))
    await shop.tell()
    assert ids((await shop.shown(customer))[0]) == ["saucer", "lamp"]
    assert ids((await shop.shown(visitor))[0]) == ["saucer", "lamp"], "the old id still leads to the customer"
    shop.order(visitor, _day(22), "saucer")  # the same browser, not signed in
    await shop.tell()
    assert ids((await shop.shown(customer))[0]) == ["lamp"]


async def test_profiles_that_part_have_their_own_purchases_again(shop: Shop) -> None:
    await _tea_shop(shop)
    visitor, customer = _people(2)
    shop.order(visitor, _day(20), "mug")
    shop.merged(visitor, customer, _day(21))
    shop.order(visitor, _day(22), "saucer")
    await shop.tell()
    assert ids((await shop.shown(customer))[0]) == ["lamp"]
    said = {"from": str(customer), "into": str(visitor), "nodes": [str(visitor)], "traits": []}
    shop.fact(visitor, "Profile Unmerged", _day(23), **said)
    await shop.tell()
    assert ids((await shop.shown(visitor))[0]) == ["lamp"]
    assert set(ids((await shop.shown(customer))[0])) >= {"mug", "saucer"}
    shop.order(visitor, _day(24), "lamp")
    await shop.tell()
    assert "lamp" in ids((await shop.shown(customer))[0]), "what comes later is the visitor's alone"
    shop.merged(visitor, customer, _day(25))
    await shop.tell()
    assert ids((await shop.shown(customer))[0]) == []


async def test_reading_the_log_again_changes_nothing(shop: Shop) -> None:
    people = await _tea_shop(shop)
    shop.fact(people[0], "Churn Scored", _day(20), probability=0.5, purpose="serving")
    await shop.tell()
    before = (await shop.shown(people[0], include_purchased=True), await shop.advice(people[0]))
    async with shop.database.connection() as connection:
        await connection.execute("DELETE FROM recommendation.log_cursor")
    await shop.tell()
    assert (await shop.shown(people[0], include_purchased=True), await shop.advice(people[0])) == before


async def test_another_tenant_sees_nothing_of_it(shop: Shop) -> None:
    people = await _tea_shop(shop)
    with context.use(tenant="t" + uuid.uuid4().hex[:8]):
        other = (await shop.shown(*people))[0]
        assert other == []
        with pytest.raises(NotFound):
            await shop.service.UpdateItem(pb.UpdateItemRequest(item_id="lamp", in_catalogue=False))
        advice = await shop.advice(people[0])
        assert not advice.HasField("value_at_stake")


async def test_a_thousand_profiles_are_answered_in_order(shop: Shop) -> None:
    people = await _tea_shop(shop)
    asked = people + _people(986)
    answers = await shop.shown(*asked)
    assert len(answers) == 1000
    assert [set(ids(items)) for items in answers[:6]] == [{"lamp"}] * 6
    assert [set(ids(items)) for items in answers[6:14]] == [{"mug", "saucer"}] * 8
    assert all(len(items) == 3 for items in answers[14:])


async def test_a_model_is_renewed_when_enough_was_bought(shop: Shop) -> None:
    await _tea_shop(shop)
    [stranger] = _people(1)
    await shop.shown(stranger)
    for person in _people(21):
        shop.order(person, _day(15), "clock")
    await shop.tell()
    assert ids((await shop.shown(stranger, rebuild=False))[0])[0] == "lamp"
    assert await shop.models.renew_due() == 0, "the purchases have not come to rest yet"
    for tenant, (count, since) in shop.models._volumes.items():
        shop.models._volumes[tenant] = (count, since - 10)
    assert await shop.models.renew_due() >= 1
    assert ids((await shop.shown(stranger, rebuild=False))[0])[0] == "clock"


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"profile_ids": ["not-a-uuid"]}, "profile_ids"),
        ({"profile_ids": [str(UUID(int=1))] * 1001}, "profile_ids"),
        ({"limit": 101}, "limit"),
        ({"limit": -1}, "limit"),
        ({"strategy": 9}, "strategy"),
        ({"at": {"seconds": 10**15}}, "at"),
        ({"at": {"seconds": -1}}, "at"),
    ],
)
async def test_a_wrong_question_is_refused_with_its_field(shop: Shop, question: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await shop.service.Recommend(pb.RecommendRequest(**question))
    assert caught.value.field == field


async def test_an_item_id_must_be_one(shop: Shop) -> None:
    for item_id in ("", "x" * 257, "a\0b"):
        with pytest.raises(InvalidArgument):
            await shop.service.UpdateItem(pb.UpdateItemRequest(item_id=item_id))
