"""The simulated shop as a source."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Literal

import numpy as np

from demo.simulator.calls import Diary, Moment, call_of, draw_chances
from demo.simulator.catalogue import stock
from demo.simulator.lives import World, draw_life
from demo.simulator.people import draw_person
from demo.simulator.survey import Answer, draw_answer
from demo.simulator.truth import Truth
from demo.source import Call, Tally

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
CUSTOMERS: Final = 2000
MONTHS: Final = 18
# The last months are what comes after the decision.
FUTURE_MONTHS: Final = 3
# The survey goes out so long before the decision, and its answers are in by then.
SURVEY_DAYS_BEFORE: Final = 14


class Shop:
    """A shop whose truth is known; see demo.source.Source. The same arguments give the same bytes.

    Its history goes up to `decision_at`, when customers may get a retention action; `future` is what follows.
    """

    def __init__(self, seed: int = 1, customers: int = CUSTOMERS, start: datetime = START, months: int = MONTHS) -> None:
        if start.tzinfo is None or start != start.replace(hour=0, minute=0, second=0, microsecond=0):
            raise ValueError("start is a midnight with a time zone")
        if months <= FUTURE_MONTHS or customers < 1 or seed < 0:
            raise ValueError(f"months is over {FUTURE_MONTHS}, customers at least 1, seed at least 0")
        self._seed = seed
        self.start = start
        self.decision_at = _months_after(start, months - FUTURE_MONTHS)
        self.end = _months_after(start, months)
        self.survey_at = self.decision_at - timedelta(days=SURVEY_DAYS_BEFORE)
        decision, end = float((self.decision_at - start).days), float((self.end - start).days)
        self.catalogue = stock(np.random.default_rng(seed))
        self.people = [draw_person(index, self._rng(index, 0), self.catalogue, decision) for index in range(customers)]
        self._lives = [
            draw_life(person.nature, self._rng(index, 1), decision=decision, end=end)
            for index, person in enumerate(self.people)
        ]
        self.truth = Truth(self.people, self._lives, start, self.survey_at)
        self._tally = Tally()

    @property
    def name(self) -> str:
        return "simulated shop"

    @property
    def kind(self) -> str:
        return "simulator"

    @property
    def clock(self) -> Literal["events"]:
        return "events"

    @property
    def call_count(self) -> int:
        return len(self._history)

    @property
    def tally(self) -> Tally:
        return self._tally

    def calls(self) -> Iterator[Call]:
        """The history: all events before the decision."""
        return self.events()

    def events(self, until: datetime | None = None) -> Iterator[Call]:
        """Events before `until` in time order; unset: before the decision, and no later time is allowed."""
        until = until or self.decision_at
        if until > self.decision_at:
            raise ValueError("what follows the decision depends on it; see future")
        last = _ms(until)
        for moment in self._history:
            if moment.ms >= last:
                return
            yield self._counted(moment, "")

    def future(self, treated: Mapping[str, bool]) -> Iterator[Call]:
        """Events from the decision on, in time order. `treated` says of user ids whether they get the action.

        Whoever gets it gets it at the decision, and reacts; all others live on as they would. Raises ValueError for an
        unknown user id, and for anything but a boolean (a variant's name would always be true).
        """
        unknown = treated.keys() - {person.user_id for person in self.people}
        if unknown or not all(isinstance(value, bool) for value in treated.values()):
            raise ValueError(f"no such customers: {sorted(unknown)[:3]}" if unknown else "treated or not is a boolean")
        first, last = _ms(self.decision_at), _ms(self.end)
        worlds = [World.TREATMENT if treated.get(person.user_id) else World.CONTROL for person in self.people]
        moments = [
            moment
            for diary, world in zip(self._diaries, worlds, strict=True)
            for moment in diary.moments(world)
            if first <= moment.ms < last
        ]
        for moment in sorted(moments):
            # Another world's event is another message, should both ever be fed.
            yield self._counted(moment, "t" if worlds[moment.person] is World.TREATMENT else "")

    def answers(self, survey_at: datetime | None = None) -> list[Answer]:
        """The answers of those who answer, by time, of all who have ordered before `survey_at` (unset: the shop's own)."""
        survey_at = survey_at or self.survey_at
        buyers = set(self.truth.buyers(survey_at))
        drawn = [
            draw_answer(person, self._rng(index, 3), survey_at)
            for index, person in enumerate(self.people)
            if person.user_id in buyers
        ]
        return sorted((answer for answer in drawn if answer), key=lambda answer: (answer.answered, answer.user_id))

    @cached_property
    def _diaries(self) -> list[Diary]:
        start_ms = _ms(self.start)
        return [
            Diary(index, person, life, draw_chances(life, self._rng(index, 2)), self.catalogue, start_ms)
            for index, (person, life) in enumerate(zip(self.people, self._lives, strict=True))
        ]

    @cached_property
    def _history(self) -> list[Moment]:
        last = _ms(self.decision_at)
        return sorted(moment for diary in self._diaries for moment in diary.moments(World.CONTROL) if moment.ms < last)

    def _counted(self, moment: Moment, world: str) -> Call:
        call = call_of(moment, self.people[moment.person], self.catalogue, f"sim{self._seed}{world}")
        self._tally.count_call(call)
        return call

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        """A customer's own chance, so that more customers, or more draws of one, change nobody else."""
        return np.random.default_rng((self._seed, index + 1, stream))


def _months_after(start: datetime, months: int) -> datetime:
    years, month = divmod(start.month - 1 + months, 12)
    return start.replace(year=start.year + years, month=month + 1)


def _ms(at: datetime) -> int:
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1000
