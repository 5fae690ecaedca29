"""Candidates and their order."""

from dataclasses import replace

import numpy as np
import pytest

from services.recommendation.domain.model import History, Model, SegmentBuyers, build_model
from services.recommendation.domain.pairs import DAY_US
from services.recommendation.domain.ranking import Stage, Wish, rank, rank_popular
from tests.unit.recommendation.shops import BUILT, NO_SEGMENTS, Lines, coded, pairs_of

# Item: 0 mug, 1 saucer, 2 candle, 3 lamp, 4 clock. Mugs and saucers go together; lamps are most popular.
MUG, SAUCER, CANDLE, LAMP, CLOCK = range(5)
BASKETS = [{MUG, SAUCER}] * 6 + [{LAMP}] * 9 + [{CANDLE, LAMP}] * 3 + [{CLOCK}] * 2
NOBODY = History(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))


def _lines() -> Lines:
    rows = [(customer, item) for customer, basket in enumerate(BASKETS) for item in sorted(basket)]
    customer, item = np.array(rows).T
    return coded(customer, item, customer, customer.astype(np.int64) * DAY_US)


@pytest.fixture(scope="module")
def model() -> Model:
    return build_model(pairs_of(_lines(), 20 * DAY_US), NO_SEGMENTS, built=BUILT)


def _bought(*items: int, orders: int = 1, days_ago: int = 5) -> History:
    count = len(items)
    ago = np.full(count, (20 - days_ago) * DAY_US, np.int64)
    return History(np.array(items, np.int32), np.full(count, orders, np.int32), ago)


def _wish(limit: int = 10, *, include_purchased: bool = False, out: tuple[int, ...] = ()) -> Wish:
    blocked = np.zeros(5, np.bool_)
    blocked[list(out)] = True
    return Wish(limit, include_purchased, blocked)


def test_what_goes_with_a_purchase_comes_first_and_names_it(model: Model) -> None:
    first, *rest = rank(model, _bought(MUG), "", _wish())
    assert (first.item_number, first.stage, first.because, first.count) == (SAUCER, Stage.CO_PURCHASE, MUG, 6)
    assert [each.item_number for each in rest] == [LAMP, CANDLE, CLOCK]
    assert {each.stage for each in rest} == {Stage.POPULAR}


def test_what_was_bought_is_not_shown_again_unless_asked_for(model: Model) -> None:
    assert MUG not in [each.item_number for each in rank(model, _bought(MUG), "", _wish())]
    again = rank(model, _bought(MUG, orders=3), "", _wish(include_purchased=True))
    [mug] = [each for each in again if each.item_number == MUG]
    assert (mug.stage, mug.count, mug.days) == (Stage.REPURCHASE, 3, 5)


def test_what_is_out_of_the_catalogue_is_not_shown_in_any_stage(model: Model) -> None:
    for include in (False, True):
        for history in (NOBODY, _bought(MUG), _bought(SAUCER, LAMP)):
            wish = _wish(include_purchased=include, out=(SAUCER, LAMP))
            shown = {each.item_number for each in rank(model, history, "", wish) + rank_popular(model, history, wish)}
            assert not shown & {SAUCER, LAMP}


def test_a_stranger_gets_what_is_popular(model: Model) -> None:
    assert [each.item_number for each in rank(model, NOBODY, "", _wish(2))] == [LAMP, MUG]
    assert [each.item_number for each in rank_popular(model, NOBODY, _wish(2))] == [LAMP, MUG]


def test_the_segments_favourites_come_before_everybodys() -> None:
    mine = SegmentBuyers(["active", "active"], np.array([CLOCK, CANDLE]), np.array([2, 1]))
    model = build_model(pairs_of(_lines(), 20 * DAY_US), mine, built=BUILT)
    shown = rank(model, NOBODY, "active", _wish(3))
    assert [(each.item_number, each.stage) for each in shown] == [
        (CLOCK, Stage.POPULAR_IN_SEGMENT),
        (CANDLE, Stage.POPULAR_IN_SEGMENT),
        (LAMP, Stage.POPULAR),
    ]
    assert rank(model, NOBODY, "lost", _wish(1))[0].stage is Stage.POPULAR


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_no_item_comes_twice_and_never_more_than_asked_for(model: Model, limit: int, include: bool) -> None:
    for history in (NOBODY, _bought(MUG), _bought(MUG, SAUCER, CANDLE, LAMP, CLOCK)):
        shown = [each.item_number for each in rank(model, history, "", _wish(limit, include_purchased=include))]
        assert len(shown) == len(set(shown)) <= limit


def test_a_tenant_without_purchases_is_answered_with_nothing() -> None:
    lines = _lines()
    empty = replace(
        pairs_of(lines, 20 * DAY_US),
        item_numbers=np.zeros(0, np.int64),
        customer=np.zeros(0, np.int32),
        item=np.zeros(0, np.int32),
        orders=np.zeros(0, np.int32),
        last_us=np.zeros(0, np.int64),
        early_orders=np.zeros(0, np.int32),
        early_last_us=np.zeros(0, np.int64),
        again=np.zeros(0, np.bool_),
    )
    model = build_model(empty, NO_SEGMENTS, built=BUILT)
    wish = Wish(10, True, np.zeros(0, np.bool_))
    assert rank(model, NOBODY, "active", wish) == rank_popular(model, NOBODY, wish) == []


def test_what_is_bought_often_and_lately_is_likelier_bought_again() -> None:
    # Twelve customers who come every day for the same item, twelve who bought another one once, all still active.
    rows = [(customer, 0, day) for customer in range(12) for day in range(30)]
    rows += [(customer, 1, 2) for customer in range(12)]
    customer, item, day = np.array(rows).T
    lines = coded(customer, item, customer * 100 + day, day.astype(np.int64) * DAY_US)
    model = build_model(pairs_of(lines, 30 * DAY_US), NO_SEGMENTS, built=BUILT)
    often, once = model.repurchase.of(
        np.array([0, 1], np.int32), np.array([30, 1], np.int32), np.array([1, 28]) * DAY_US
    ).tolist()
    assert 0.5 < often <= 1
    assert once < 0.5
