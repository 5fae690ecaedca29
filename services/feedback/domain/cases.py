"""Cases: a low score is somebody to call, until a date, and until it is closed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from services.feedback.domain.surveys import Answer, SurveyKind

_NAMESPACE: Final = UUID("5a0c6a3e-61fb-4a8e-9d58-0f2a3f6c7f11")


@dataclass(frozen=True, slots=True)
class Case:
    """Opened by one answer; later answers of the same customer to the same survey change its rating, or close it."""

    case_id: UUID
    survey_id: str
    profile_id: UUID
    rating: int
    opened: datetime
    due: datetime
    closed: datetime | None = None

    def is_overdue(self, now: datetime) -> bool:
        """Still open after its due time."""
        return self.closed is None and self.due < now


def after_answer(kind: SurveyKind, answer: Answer, open_case: Case | None, *, time_to_act: timedelta) -> Case | None:
    """The case as it has to be stored after an answer; None where nothing has to be.

    A low score opens one, or changes the rating of the one that is open: its due time stays, since the customer has
    waited from the first complaint. A good score closes it: the customer has changed their mind.
    """
    if kind.is_low(answer.rating):
        if open_case is not None:
            return replace(open_case, rating=answer.rating)
        case_id = uuid5(_NAMESPACE, f"{answer.survey_id}/{answer.profile_id}/{answer.revision}")
        due = answer.answered + time_to_act
        return Case(case_id, answer.survey_id, answer.profile_id, answer.rating, answer.answered, due)
    if open_case is None:
        return None
    return replace(open_case, closed=max(answer.answered, open_case.opened))


def after_merge(kind: SurveyKind, answer: Answer, open_cases: Sequence[Case]) -> list[Case]:
    """The open cases of two customers who turned out to be one, as they are to be stored.

    `answer` is the one that stands. The oldest case stays open with its rating; the others are closed with it, and it
    too where the answer is not low any more.
    """
    oldest, *others = sorted(open_cases, key=lambda case: (case.opened, case.case_id))
    closed_at = max(answer.answered, *(case.opened for case in open_cases), oldest.opened)
    closed = [replace(case, closed=closed_at) for case in others]
    if kind.is_low(answer.rating):
        return [replace(oldest, rating=answer.rating), *closed]
    return [replace(oldest, closed=closed_at), *closed]
