"""The rules of feedback: scales, scores with intervals, which answer stands, and when there is a case."""

from services.feedback.domain.cases import Case, after_answer, after_merge
from services.feedback.domain.projection import Enrolment, Merges, Parting, Step, in_order, last_word
from services.feedback.domain.results import Result, net_promoter_score, result_of
from services.feedback.domain.surveys import (
    Answer,
    Survey,
    SurveyKind,
    check_answer,
    check_survey,
    is_survey_id,
    newest,
)

__all__ = [
    "Answer",
    "Case",
    "Enrolment",
    "Merges",
    "Parting",
    "Result",
    "Step",
    "Survey",
    "SurveyKind",
    "after_answer",
    "after_merge",
    "check_answer",
    "check_survey",
    "in_order",
    "is_survey_id",
    "last_word",
    "net_promoter_score",
    "newest",
    "result_of",
]
