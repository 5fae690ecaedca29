"""Ranking for many customers at once, and what to do about one."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final
from uuid import UUID

import numpy as np

from services.recommendation.domain.actions import Action, Measure, Spending, compare, only_nothing, value_at_stake
from services.recommendation.domain.model import History, Model
from services.recommendation.domain.pairs import Bool
from services.recommendation.domain.ranking import Ranked, Wish, rank, rank_popular
from services.recommendation.models import Models
from services.recommendation.store.customers import Customer, CustomerStore, Label

# How long the spending of all customers together may be remembered.
_REMEMBERED_S: Final = 60.0


class Strategy(Enum):
    """PERSONAL: what the customer bought decides. POPULAR: the yardstick."""

    PERSONAL = auto()
    POPULAR = auto()


@dataclass(frozen=True, slots=True)
class Question:
    """`at` None: with all that is known now."""

    limit: int
    include_purchased: bool
    strategy: Strategy
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An item as it is answered. `because`: the item that its reason names."""

    ranked: Ranked
    label: Label
    because: Label | None
    segment: str
    horizon_days: int


@dataclass(frozen=True, slots=True)
class Advice:
    """The actions, best first, and the numbers that decided; `missing` says why there are none."""

    actions: list[Action]
    churn_probability: float | None
    value: float | None
    scored: datetime | None
    missing: str


class Recommender:
    """Answers from the models and the customers' own purchases, which are read as they are now."""

    def __init__(self, models: Models, store: CustomerStore, measures: Sequence[Measure]) -> None:
        self._models = models
        self._store = store
        self._measures = tuple(measures)
        self._usual: dict[str, tuple[float, Spending]] = {}

    async def recommend(
        self, tenant_id: str, profile_ids: Sequence[UUID], question: Question
    ) -> tuple[list[list[Shown]], datetime]:
        """For each profile its items, best first; and when the model was built."""
        model = await self._models.get(tenant_id, question.at)
        customers = await self._store.customers(tenant_id, profile_ids, question.at)
        blocked = _mask(model, await self._store.items_out(tenant_id))
        ranked = await asyncio.to_thread(_rank_all, model, customers, question, blocked)
        numbers = {number for each in ranked for item in each for number in (item.item_number, item.because) if number}
        labels = await self._store.labels(tenant_id, numbers)
        horizon_days = max(1, round(model.repurchase.horizon_us / 86_400_000_000))
        shown = [
            [
                Shown(item, labels[item.item_number], labels.get(item.because or 0), customer.segment, horizon_days)
                for item in items
                if item.item_number in labels
            ]
            for items, customer in zip(ranked, customers, strict=True)
        ]
        return shown, model.built

    async def advise(self, tenant_id: str, profile_id: UUID) -> Advice:
        """What to do about one customer."""
        standing = await self._store.standing(tenant_id, profile_id)
        if standing.spending is None:
            missing = "this customer has not bought anything yet, so there is nothing to lose"
            return Advice([only_nothing(missing)], standing.probability, None, standing.scored, missing)
        value = value_at_stake(standing.spending, await self._everybody(tenant_id))
        if standing.probability is None:
            missing = "no churn score has been recorded for this customer"
            return Advice([only_nothing(missing)], None, value, None, missing)
        actions = compare(self._measures, churn_probability=standing.probability, value=value)
        return Advice(actions, standing.probability, value, standing.scored, "")

    async def _everybody(self, tenant_id: str) -> Spending:
        known = self._usual.get(tenant_id)
        if known is None or time.monotonic() - known[0] > _REMEMBERED_S:
            known = self._usual[tenant_id] = (time.monotonic(), await self._store.everybody(tenant_id))
        return known[1]


def _mask(model: Model, numbers: Sequence[int]) -> Bool:
    blocked = np.zeros(model.item_count, np.bool_)
    positions, known = model.positions_of(np.array(numbers, np.int64))
    blocked[positions[known]] = True
    return blocked


def _rank_all(model: Model, customers: Sequence[Customer], question: Question, blocked: Bool) -> list[list[Ranked]]:
    wish = Wish(question.limit, question.include_purchased, blocked)
    found: list[list[Ranked]] = []
    for customer in customers:
        history = _history(model, customer)
        if question.strategy is Strategy.POPULAR:
            found.append(rank_popular(model, history, wish))
        else:
            found.append(rank(model, history, customer.segment, wish))
    return found


def _history(model: Model, customer: Customer) -> History:
    """What the model does not know yet is left out: nothing can be said of it."""
    positions, known = model.positions_of(np.array(customer.items, np.int64))
    return History(
        positions[known].astype(np.int32),
        np.array(customer.orders, np.int32)[known],
        np.array(customer.last_us, np.int64)[known],
    )
