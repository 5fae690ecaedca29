"""Real shops: does the ranking meet what customers bought later more often than the most popular items do?"""

from datetime import UTC, datetime

import numpy as np
import pytest

from services.recommendation.domain.model import History, Model
from services.recommendation.domain.ranking import Ranked, Wish, rank, rank_popular
from tests.unit.recommendation.shops import Lines, Trial, complete_journey, online_retail


def _personal(model: Model, history: History, wish: Wish) -> list[Ranked]:
    return rank(model, history, "", wish)


def _measure(name: str, lines: Lines, at_us: int) -> dict[str, float]:
    trial = Trial(lines, at_us)
    found = {
        "all": trial.hit_rate(_personal, new_only=False),
        "popular_all": trial.hit_rate(rank_popular, new_only=False),
        "new": trial.hit_rate(_personal, new_only=True),
        "popular_new": trial.hit_rate(rank_popular, new_only=True),
    }
    print(name, {key: round(value, 4) for key, value in found.items()})
    return found


@pytest.mark.timeout(120)
def test_customers_of_a_gift_shop_buy_more_of_what_is_recommended_than_of_what_is_popular() -> None:
    lines = online_retail()
    at = datetime(2011, 9, 10, tzinfo=UTC)
    found = _measure("Online Retail at 2011-09-10", lines, int(at.timestamp() * 1e6))
    assert found["all"] > found["popular_all"] + 0.2
    assert found["new"] > found["popular_new"] + 0.1


@pytest.mark.timeout(120)
def test_where_popularity_is_nearly_all_there_is_the_ranking_does_not_fall_behind_it() -> None:
    lines = complete_journey()
    found = _measure("Complete Journey at 75 %", lines, int(np.quantile(lines.ts_us, 0.75)))
    assert found["all"] > found["popular_all"]
    assert found["new"] > found["popular_new"] - 0.02
