"""Candidates in named stages, and their order."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from services.recommendation.domain.model import History, Model
from services.recommendation.domain.neighbours import KEPT
from services.recommendation.domain.pairs import DAY_US, Bool, Int64, top

# What the most popular item's popularity adds to the strength of the best co-purchase, which is 1.
POPULARITY_WEIGHT: Final = 0.25


class Stage(StrEnum):
    """Where a candidate comes from."""

    REPURCHASE = "repurchase"
    CO_PURCHASE = "co_purchase"
    POPULAR_IN_SEGMENT = "popular_in_segment"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Ranked:
    """`because` is another item's number, where the reason names one; `count` is what the reason counts."""

    item_number: int
    score: float
    stage: Stage
    count: int = 0
    days: int = 0
    because: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What is asked for. `blocked` marks the model's items that may not be shown."""

    limit: int
    include_purchased: bool
    blocked: Bool


def rank(model: Model, history: History, segment: str, wish: Wish) -> list[Ranked]:
    """Personal candidates first, best first; then what is popular in the segment, then what is popular at all.

    A score is the chance of a purchase within the horizon: measured for what was bought before, and for the rest scaled so
    that the strongest candidate is thought as likely as the most popular item is.
    """
    taken = wish.blocked.copy()
    personal = _co_purchases(model, history, taken, wish.limit)
    if wish.include_purchased:
        personal += _repurchases(model, history, taken, wish.limit)
        personal.sort(key=lambda each: (-each.score, each.item_number))
    chosen = personal[: wish.limit]
    taken[history.items] = True
    return chosen + _popular_rest(model, segment, chosen, taken, wish.limit - len(chosen))


def rank_popular(model: Model, history: History, wish: Wish) -> list[Ranked]:
    """Most bought by different customers in the last year: the yardstick."""
    taken = wish.blocked.copy()
    if not wish.include_purchased:
        taken[history.items] = True
    return _from_list(model, model.by_popularity, model.buyers[model.by_popularity], Stage.POPULAR, taken, wish.limit)


def _co_purchases(model: Model, history: History, blocked: Bool, limit: int) -> list[Ranked]:
    if not len(history.items):
        return []
    near = model.neighbours.items[history.items]
    similarity = model.neighbours.similarity[history.items]
    strength = np.bincount(near.ravel(), similarity.ravel(), minlength=model.item_count)
    strength[blocked] = 0.0
    strength[history.items] = 0.0
    if not (most := float(strength.max())):
        return []
    candidates = np.flatnonzero(strength)
    popularity = model.buyers[candidates] / max(1, int(model.buyers.max()))
    mixed = (strength[candidates] / most + POPULARITY_WEIGHT * popularity) / (1 + POPULARITY_WEIGHT)
    best = top(mixed, limit)
    scores = mixed[best] * float(model.chance.max())
    return [
        _co_purchase(model, history, int(candidates[place]), float(score))
        for place, score in zip(best.tolist(), scores.tolist(), strict=True)
    ]


def _co_purchase(model: Model, history: History, item: int, score: float) -> Ranked:
    """The reason is the item bought whose similarity is the greatest."""
    places = np.flatnonzero(model.neighbours.items[history.items] == item)
    strongest = int(places[model.neighbours.similarity[history.items].ravel()[places].argmax()])
    row, column = divmod(strongest, KEPT)
    because = int(history.items[row])
    return Ranked(
        int(model.item_numbers[item]),
        score,
        Stage.CO_PURCHASE,
        count=int(model.neighbours.shared[because, column]),
        because=int(model.item_numbers[because]),
    )


def _repurchases(model: Model, history: History, blocked: Bool, limit: int) -> list[Ranked]:
    ages_us = np.maximum(0, model.at_us - history.last_us)
    chances = model.repurchase.of(history.items, history.orders, ages_us)
    chances[blocked[history.items]] = 0.0
    return [
        Ranked(
            int(model.item_numbers[history.items[place]]),
            float(chances[place]),
            Stage.REPURCHASE,
            count=int(history.orders[place]),
            days=int(ages_us[place] // DAY_US),
        )
        for place in top(chances, limit).tolist()
        if chances[place] > 0
    ]


def _popular_rest(model: Model, segment: str, chosen: list[Ranked], taken: Bool, limit: int) -> list[Ranked]:
    if limit <= 0:
        return []
    positions, _ = model.positions_of(np.array([each.item_number for each in chosen], np.int64))
    taken[positions] = True
    rest: list[Ranked] = []
    if segment in model.by_segment:
        in_segment, buyers = model.by_segment[segment], model.buyers_by_segment[segment]
        rest = _from_list(model, in_segment, buyers, Stage.POPULAR_IN_SEGMENT, taken, limit)
    by_all = model.by_popularity
    return rest + _from_list(model, by_all, model.buyers[by_all], Stage.POPULAR, taken, limit - len(rest))


def _from_list(model: Model, items: Int64, buyers: Int64, stage: Stage, taken: Bool, limit: int) -> list[Ranked]:
    """The first of `items` that are not taken; they are taken then."""
    free = np.flatnonzero(~taken[items])[: max(0, limit)]
    taken[items[free]] = True
    return [
        Ranked(int(model.item_numbers[items[place]]), float(model.chance[items[place]]), stage, count=int(buyers[place]))
        for place in free.tolist()
    ]
