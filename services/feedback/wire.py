"""Between messages and feedback."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.feedback.v1 import feedback_pb2 as pb

from chassis.errors import InvalidArgument, NotFound, Reason
from services.feedback.domain import Answer, Case, Result, Survey, SurveyKind, is_survey_id

_KINDS: Final = MappingProxyType(
    {
        pb.SURVEY_KIND_NPS: SurveyKind.NPS,
        pb.SURVEY_KIND_CSAT: SurveyKind.CSAT,
        pb.SURVEY_KIND_CES: SurveyKind.CES,
    }
)
KIND_NUMBERS: Final = MappingProxyType({kind: number for number, kind in _KINDS.items()})
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def kind_from_proto(number: int) -> SurveyKind:
    """Raises InvalidArgument."""
    kind = {int(each): kind for each, kind in _KINDS.items()}.get(number)
    if kind is None:
        raise InvalidArgument("a survey is of kind NPS, CSAT or CES", reason=Reason.MISSING_FIELD, field="kind")
    return kind


def survey_to_proto(survey: Survey, answer_count: int) -> pb.Survey:
    """With how many answers it has."""
    message = pb.Survey(
        survey_id=survey.survey_id, kind=KIND_NUMBERS[survey.kind], question=survey.question, answer_count=answer_count
    )
    message.created.FromDatetime(survey.created)
    return message


def answer_to_proto(answer: Answer, comment: str) -> pb.Answer:
    """With its comment, unsealed for this answer only."""
    message = pb.Answer(survey_id=answer.survey_id, profile_id=str(answer.profile_id), rating=answer.rating, comment=comment)
    message.answered.FromDatetime(answer.answered)
    return message


def case_to_proto(case: Case, now: datetime) -> pb.Case:
    """`now`: the tenant's clock."""
    message = pb.Case(
        case_id=str(case.case_id),
        profile_id=str(case.profile_id),
        survey_id=case.survey_id,
        rating=case.rating,
        overdue=case.is_overdue(now),
    )
    message.opened.FromDatetime(case.opened)
    message.due.FromDatetime(case.due)
    if case.closed is not None:
        message.closed.FromDatetime(case.closed)
    return message


def result_to_proto(result: Result) -> pb.Result:
    """Without value and interval where there is not enough data."""
    return pb.Result(
        value=result.value,
        low=result.low,
        high=result.high,
        answer_count=result.answer_count,
        rating_counts=result.counts,
        missing=result.missing,
    )


def moment_of(message: Timestamp, field: str) -> datetime:
    """Raises InvalidArgument outside the years 1 to 9999."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "this is no time of the years 1 to 9999", reason=Reason.TIMESTAMP_OUT_OF_BOUNDS, field=field
        ) from None


def uuid_of(text: str, field: str) -> UUID:
    """Raises InvalidArgument; the message does not repeat the text."""
    try:
        return UUID(text) if len(text) == 36 else UUID("")
    except ValueError:
        raise InvalidArgument("this is no UUID of 36 characters", field=field) from None


def survey_id_of(text: str) -> str:
    """An id that some survey may have. Raises NotFound for any other."""
    if not is_survey_id(text):
        raise NotFound("there is no such survey", field="survey_id")
    return text


def page_size_of(given: int) -> int:
    """100 where none is given. Raises InvalidArgument."""
    if not 0 <= given <= MAX_PAGE:
        raise InvalidArgument(f"a page has 1 to {MAX_PAGE} entries", field="page_size")
    return given or DEFAULT_PAGE


def token_of(time: datetime, last: UUID) -> str:
    """An opaque token for the page after an entry."""
    us = (time - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(us.to_bytes(8, "big", signed=True) + last.bytes).decode()


def after_token(token: str) -> tuple[datetime, UUID] | None:
    """The inverse of `token_of`; None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        us = int.from_bytes(raw[:8], "big", signed=True)
        return _EPOCH + timedelta(microseconds=us), UUID(bytes=raw[8:])
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidArgument("the cursor is not one of ours", reason=Reason.INVALID_CURSOR, field="page_token") from None


def next_token(keys: Sequence[tuple[datetime, UUID]], size: int) -> str:
    """`keys` of one entry more than the page has, where there is one; else there is no next page."""
    return token_of(*keys[size - 1]) if len(keys) > size else ""
