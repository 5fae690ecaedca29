"""Taking an answer: one that stands, its case, and what is told of both."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import Counter

from chassis import context
from chassis.errors import Unavailable
from services.feedback.clients import ProfilesClient, answered_fact, opened_fact
from services.feedback.domain import Answer, Case, Survey, after_answer, check_answer, newest
from services.feedback.store import AnswerStore, Overtaken, Standing

ANSWERS: Final = Counter("rapport_feedback_answers_total", "Answers that were taken.", ["kind"])
CASES: Final = Counter("rapport_feedback_opened_cases_total", "Cases that were opened.", ["kind"])
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as a customer gives it. `answered` None: now, by the tenant's clock."""

    profile_id: str
    rating: int
    comment: str
    answered: datetime | None


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer that stands. `is_given`: it is the one that was given. `was_replaced`: an earlier one stands no more.

    `open_case`: the customer's, of this survey.
    """

    answer: Answer
    is_given: bool
    was_replaced: bool
    open_case: Case | None


class Answers:
    """Takes answers for the tenant of the present call."""

    def __init__(
        self,
        store: AnswerStore,
        profiles: ProfilesClient,
        *,
        time_to_act: timedelta,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._time_to_act = time_to_act
        self._wall = wall

    async def take(self, survey: Survey, given: Given) -> Taken:
        """Raises InvalidArgument, and NotFound for an unknown profile.

        An answer older than the one that stands changes nothing; the same again changes nothing but its comment.
        """
        check_answer(survey, given.rating, given.comment, given.answered, wall=self._wall())
        profile_id = await self._profiles.resolve(given.profile_id)
        answered = given.answered or await self._profiles.now()
        sealed = await self._profiles.seal(profile_id, given.comment)
        tenant = context.tenant()
        for _ in range(ATTEMPTS):
            standing = await self._store.standing(tenant, survey.survey_id, profile_id)
            answer = Answer(survey.survey_id, standing.profile_id, given.rating, answered, sealed)
            try:
                return await self._save(tenant, survey, standing, answer)
            except Overtaken:
                continue
        raise Unavailable("the customer's answer is being written by others", retry_after_s=1.0)

    async def _save(self, tenant: str, survey: Survey, standing: Standing, answer: Answer) -> Taken:
        before, open_case = standing.answer, standing.open_case
        if before is not None and newest(before, answer) is before:
            return Taken(before, is_given=False, was_replaced=False, open_case=open_case)
        answer = replace(answer, revision=before.revision + 1 if before else 1)
        if before is not None and (before.answered, before.rating) == (answer.answered, answer.rating):
            await self._store.save(tenant, answer, None, [])
            return Taken(answer, is_given=True, was_replaced=False, open_case=open_case)
        case = after_answer(survey.kind, answer, open_case, time_to_act=self._time_to_act)
        facts = [answered_fact(survey.kind, answer)]
        if case is not None and open_case is None:
            facts.append(opened_fact(case))
        await self._store.save(tenant, answer, case, facts)
        ANSWERS.labels(survey.kind.name).inc()
        CASES.labels(survey.kind.name).inc(len(facts) - 1)
        still_open = case if case is not None and case.closed is None else None
        return Taken(answer, is_given=True, was_replaced=before is not None, open_case=still_open)
