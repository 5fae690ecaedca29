"""Surveys, answers, and the cases of those who are unhappy."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field
from rapport.feedback.v1 import feedback_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import People
from services.gateway.api.serving import SeesPersonal, Services
from services.gateway.domain import Scope
from services.gateway.wire import (
    NO_NUL,
    UUID,
    Answer,
    Asked,
    Cursor,
    Limit,
    Moment,
    Name,
    OrNone,
    PeoplePage,
    Ref,
    Slug,
    Whole,
    enum_number,
    set_moment,
)

routes = router("Surveys")

_KIND = feedback_pb2.DESCRIPTOR.enum_types_by_name["SurveyKind"]

Kind = Literal["NPS", "CSAT", "CES"]
SurveyId = Annotated[Slug, Path(alias="surveyId", description="The survey's id.", examples=["nps-2026"])]


class Survey(Answer):
    """A question with a scale: NPS 0 to 10, CSAT 1 to 5, CES 1 to 7."""

    survey_id: str
    kind: Kind
    question: str
    created: datetime | None
    answer_count: int


class Surveys(Answer):
    """All surveys of the tenant."""

    data: list[Survey]


class SurveyDraft(Asked):
    """A survey to make. A repeat with the same content is no error."""

    survey_id: Slug = Field(examples=["nps-2026"])
    kind: Kind
    question: Name = Field(examples=["How likely are you to recommend us?"])


class AnswerDraft(Asked):
    """What a customer said. Another answer of the same customer replaces it."""

    ref: Ref
    rating: Whole = Field(ge=0, le=100, description="On the survey's scale.", examples=[9])
    comment: str = Field("", max_length=4000, pattern=NO_NUL, description="Kept sealed under the customer's key.")
    answered: Moment | None = None


class SurveyAnswer(Answer):
    """One customer's answer. `comment` only for keys with the scope `personal`."""

    survey_id: str
    profile_id: str
    rating: int
    comment: str | None
    answered: datetime | None


class Submitted(Answer):
    """The answer as it is kept, without its comment."""

    answer: SurveyAnswer
    replaced: bool = Field(description="True: an earlier answer was replaced.")
    case_id: Annotated[str | None, OrNone] = Field(description="Set where a case was opened.")


class Result(Answer):
    """A score with its 95 % interval; null below two answers."""

    value: float | None
    low: float | None
    high: float | None
    answer_count: int
    rating_counts: list[int] = Field(description="Answers by rating, from the scale's lowest.")
    missing: str = Field(description="Why there is no value, where there is none.")


class SegmentResult(Answer):
    """The same, of one segment's members."""

    segment: str
    result: Result


class SurveyResults(Answer):
    """Overall and by segment."""

    kind: Kind
    overall: Result
    segments: list[SegmentResult]


class Case(Answer):
    """Somebody who is unhappy, and until when they should be called."""

    case_id: str
    profile_id: str
    survey_id: str
    rating: int
    opened: datetime | None
    due: datetime | None
    closed: datetime | None
    overdue: bool


class CasePage(PeoplePage[Case]):
    """One page of cases."""

    open_count: int


@routes.get("/v1/surveys")
@needs(Scope.READ)
async def list_surveys(services: Services) -> Surveys:
    """All surveys."""
    answer = await services.feedback.ListSurveys(feedback_pb2.ListSurveysRequest())
    return Surveys(data=[Survey.of(each) for each in answer.surveys])


@routes.post("/v1/surveys")
@needs(Scope.DEFINE, creates=True)
async def create_survey(services: Services, draft: SurveyDraft) -> Survey:
    """Makes a survey."""
    request = feedback_pb2.CreateSurveyRequest(survey_id=draft.survey_id, question=draft.question)
    request.kind = enum_number(_KIND, draft.kind)
    return Survey.of((await services.feedback.CreateSurvey(request)).survey)


@routes.get("/v1/surveys/{surveyId}")
@needs(Scope.READ)
async def get_survey(services: Services, survey_id: SurveyId) -> Survey:
    """One survey."""
    return Survey.of((await services.feedback.GetSurvey(feedback_pb2.GetSurveyRequest(survey_id=survey_id))).survey)


@routes.get("/v1/surveys/{surveyId}/results")
@needs(Scope.READ)
async def get_survey_results(services: Services, survey_id: SurveyId) -> SurveyResults:
    """The score with its interval, overall and by segment."""
    answer = await services.feedback.GetSurveyResults(feedback_pb2.GetSurveyResultsRequest(survey_id=survey_id))
    segments = [SegmentResult(segment=each.segment_key, result=Result.of(each.result)) for each in answer.segments]
    return SurveyResults.of(answer, segments=segments)


@routes.get("/v1/surveys/{surveyId}/answers")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_answers(
    services: Services,
    sees_personal: SeesPersonal,
    survey_id: SurveyId,
    limit: Limit = 100,
    cursor: Cursor = "",
    ref: Annotated[Ref | None, Query(description="Only this customer's.")] = None,
) -> PeoplePage[SurveyAnswer]:
    """What customers said. Comments only for keys with the scope `personal`."""
    profile_id = await services.profile_id_of(ref) if ref else ""
    request = feedback_pb2.ListAnswersRequest(survey_id=survey_id, page_size=limit, page_token=cursor, profile_id=profile_id)
    answer = await services.feedback.ListAnswers(request)
    hidden = {} if sees_personal else {"comment": None}
    return PeoplePage[SurveyAnswer].of_items(
        [SurveyAnswer.of(each, **hidden) for each in answer.answers], answer.next_page_token
    )


@routes.post("/v1/surveys/{surveyId}/answers")
@needs(Scope.ANSWERS, creates=True)
async def submit_answer(services: Services, survey_id: SurveyId, draft: AnswerDraft) -> Submitted:
    """Keeps a customer's answer. A low rating opens a case."""
    profile_id = await services.profile_id_of(draft.ref)
    request = feedback_pb2.SubmitAnswerRequest(
        survey_id=survey_id, profile_id=profile_id, rating=draft.rating, comment=draft.comment
    )
    set_moment(request, "answered", draft.answered)
    answer = await services.feedback.SubmitAnswer(request)
    # No comment: this may be kept for a repeat under an Idempotency-Key, and personal text is kept sealed only.
    return Submitted.of(answer, answer=SurveyAnswer.of(answer.answer, comment=None))


@routes.get("/v1/cases")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_cases(
    services: Services,
    limit: Limit = 100,
    cursor: Cursor = "",
    open_only: Annotated[bool, Query(alias="open", description="Only those that nobody has closed.")] = False,
) -> CasePage:
    """Customers to call back."""
    request = feedback_pb2.ListCasesRequest(open_only=open_only, page_size=limit, page_token=cursor)
    answer = await services.feedback.ListCases(request)
    cases = [Case.of(each) for each in answer.cases]
    return CasePage.of_items(cases, answer.next_page_token, open_count=answer.open_count)


@routes.post("/v1/cases/{caseId}:close")
@needs(Scope.OPERATE)
async def close_case(services: Services, case_id: Annotated[str, Path(alias="caseId", pattern=UUID)]) -> Case:
    """Somebody took care of it. Closing it again changes nothing."""
    return Case.of((await services.feedback.CloseCase(feedback_pb2.CloseCaseRequest(case_id=case_id))).case)
