"""Surveys and answers: which there may be, and which of two stands."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from chassis.errors import InvalidArgument, Reason

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_QUESTION: Final = 1_000
MAX_COMMENT: Final = 4_000
# As for events: zero stands for "no time" in too many clients, and a client's clock may be ahead.
EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
AHEAD: Final = timedelta(days=1)


class SurveyKind(Enum):
    """(lowest rating, highest rating, highest rating that is a case)."""

    NPS = (0, 10, 6)
    CSAT = (1, 5, 2)
    CES = (1, 7, 2)

    @property
    def lowest(self) -> int:
        """The scale's lower end."""
        return self.value[0]

    @property
    def highest(self) -> int:
        """The scale's upper end."""
        return self.value[1]

    def is_low(self, rating: int) -> bool:
        """Whether somebody should call."""
        return rating <= self.value[2]


@dataclass(frozen=True, slots=True)
class Survey:
    """One question."""

    survey_id: str
    kind: SurveyKind
    question: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one customer to one survey. `sealed` is the comment, readable only with the person's key; empty for none."""

    survey_id: str
    profile_id: UUID
    rating: int
    answered: datetime
    sealed: bytes = b""
    # Counts writes of this customer's answer.
    revision: int = 0


def newest(standing: Answer | None, given: Answer) -> Answer:
    """Which of the two stands: the one that was given later; of the same time the one that came later."""
    return standing if standing is not None and standing.answered > given.answered else given


def is_survey_id(text: str) -> bool:
    """Whether a survey may have this id."""
    return _ID.fullmatch(text) is not None


def check_survey(survey_id: str, question: str) -> None:
    """Raises InvalidArgument where a new survey has no proper id or question."""
    if not is_survey_id(survey_id):
        raise InvalidArgument(
            "a survey's id has 1 to 64 lower-case letters, digits, - and _, and starts with a letter or digit",
            field="survey_id",
        )
    if not question.strip():
        raise InvalidArgument("a survey needs a question", reason=Reason.MISSING_FIELD, field="question")
    _check_text(question, "question", MAX_QUESTION)


def check_answer(survey: Survey, rating: int, comment: str, answered: datetime | None, *, wall: datetime) -> None:
    """Raises InvalidArgument where an answer does not fit its survey. `wall`: the time now, by the wall's clock."""
    kind = survey.kind
    if not kind.lowest <= rating <= kind.highest:
        raise InvalidArgument(
            f"the scale of {kind.name} goes from {kind.lowest} to {kind.highest}",
            reason=Reason.RATING_OUT_OF_SCALE,
            field="rating",
        )
    _check_text(comment, "comment", MAX_COMMENT)
    if answered is not None and not EARLIEST <= answered <= wall + AHEAD:
        raise InvalidArgument(
            "an answer is not given before 1970-01-02, nor more than a day from now",
            reason=Reason.TIMESTAMP_OUT_OF_BOUNDS,
            field="answered",
        )


def _check_text(text: str, field: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidArgument(f"a {field} has at most {limit:,} characters", reason=Reason.TEXT_TOO_LONG, field=field)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(
            f"a {field} may hold no NUL and no half of a surrogate pair", reason=Reason.MALFORMED_TEXT, field=field
        )
