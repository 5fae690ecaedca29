"""What nobody outside the simulator can know: the true score, the true effect, who really left."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from demo.simulator.lives import Life, World, order_days
from demo.simulator.people import Person
from demo.simulator.survey import net_promoter_score


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Whether a customer orders in the window, 1 or 0, without the action and with it."""

    control: int
    treatment: int


class Truth:
    """`start` is day 0, `survey_at` when customers were asked."""

    def __init__(self, people: Sequence[Person], lives: Sequence[Life], start: datetime, survey_at: datetime) -> None:
        self._person_of = {person.user_id: person for person in people}
        self._life_of = {person.user_id: life for person, life in zip(people, lives, strict=True)}
        self._start = start
        self._survey_at = survey_at

    def buyers(self, at: datetime) -> list[str]:
        """Who has ordered before `at`, which is at the decision or before it."""
        day = self._day(at)
        return [user_id for user_id, life in self._life_of.items() if _orders_within(life, World.CONTROL, 0.0, day)]

    @property
    def nps(self) -> float:
        """The net promoter score if everyone who was asked at the shop's `survey_at` had answered."""
        return self.nps_of(self.buyers(self._survey_at))

    def nps_of(self, user_ids: Iterable[str]) -> float:
        """The same of these customers. Raises ZeroDivisionError for nobody."""
        return net_promoter_score(self._person_of[user_id].nature.rating for user_id in user_ids)

    def outcomes(self, user_ids: Iterable[str], *, window_days: int) -> list[Outcomes]:
        """Both potential outcomes in the window from the decision on. Raises KeyError for an unknown customer."""
        return [_outcomes(self._life_of[user_id], window_days) for user_id in user_ids]

    def effect(self, user_ids: Iterable[str], *, window_days: int = 60) -> float:
        """The mean over these customers of (ordered with the action) - (ordered without). Zero for nobody."""
        outcomes = self.outcomes(user_ids, window_days=window_days)
        return sum(pair.treatment - pair.control for pair in outcomes) / max(len(outcomes), 1)

    def churned(self, at: datetime, *, window_days: int = 90) -> dict[str, bool]:
        """For everyone who has ordered before `at`: no order in the window from then on, if nobody acts."""
        day = self._day(at)
        return {
            user_id: not _orders_within(self._life_of[user_id], World.CONTROL, day, day + window_days)
            for user_id in self.buyers(at)
        }

    def alive(self, at: datetime) -> dict[str, bool]:
        """For everyone who has ordered before `at`: not dropped out yet, whether an order follows or not."""
        day = self._day(at)
        return {user_id: self._life_of[user_id].nature.dropout > day for user_id in self.buyers(at)}

    def strength(self, user_id: str) -> float:
        """How strongly the customer answers to the action, 0 to 1."""
        return self._person_of[user_id].nature.strength

    def _day(self, at: datetime) -> float:
        return (at - self._start).total_seconds() / 86_400


def _outcomes(life: Life, window_days: int) -> Outcomes:
    window = (life.decision, life.decision + window_days)
    return Outcomes(*(int(_orders_within(life, world, *window)) for world in (World.CONTROL, World.TREATMENT)))


def _orders_within(life: Life, world: World, first: float, last: float) -> bool:
    return any(first <= day < last for _, day in order_days(life, world))
