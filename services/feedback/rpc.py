"""The Feedback service on the wire."""

from typing import Any

from rapport.feedback.v1 import feedback_pb2 as pb
from rapport.feedback.v1 import feedback_pb2_grpc

from chassis import context
from chassis.errors import Conflict, NotFound
from services.feedback import wire
from services.feedback.clients import ProfilesClient
from services.feedback.domain import Survey, check_survey, result_of
from services.feedback.store import AnswerStore, CaseStore, SurveyStore
from services.feedback.usecases import Answers, Given


class FeedbackRpc(feedback_pb2_grpc.FeedbackServicer):
    """Decode, load, decide, save, encode."""

    def __init__(
        self, surveys: SurveyStore, answers: AnswerStore, cases: CaseStore, taking: Answers, profiles: ProfilesClient
    ) -> None:
        self._surveys = surveys
        self._answers = answers
        self._cases = cases
        self._taking = taking
        self._profiles = profiles

    async def CreateSurvey(self, request: pb.CreateSurveyRequest, call: Any) -> pb.CreateSurveyResponse:
        kind = wire.kind_from_proto(request.kind)
        check_survey(request.survey_id, request.question)
        survey = await self._surveys.add(context.tenant(), request.survey_id, kind, request.question)
        if (survey.kind, survey.question) != (kind, request.question):
            raise Conflict("there is another survey of this id", field="survey_id")
        return pb.CreateSurveyResponse(survey=await self._with_count(request.survey_id))

    async def GetSurvey(self, request: pb.GetSurveyRequest, call: Any) -> pb.GetSurveyResponse:
        return pb.GetSurveyResponse(survey=await self._with_count(wire.survey_id_of(request.survey_id)))

    async def _with_count(self, survey_id: str) -> pb.Survey:
        found = await self._surveys.list(context.tenant(), survey_id)
        if not found:
            raise NotFound("there is no such survey", field="survey_id")
        return wire.survey_to_proto(*found[0])

    async def ListSurveys(self, request: pb.ListSurveysRequest, call: Any) -> pb.ListSurveysResponse:
        found = await self._surveys.list(context.tenant())
        return pb.ListSurveysResponse(surveys=[wire.survey_to_proto(*each) for each in found])

    async def _survey(self, survey_id: str) -> Survey:
        return await self._surveys.get(context.tenant(), wire.survey_id_of(survey_id))

    async def SubmitAnswer(self, request: pb.SubmitAnswerRequest, call: Any) -> pb.SubmitAnswerResponse:
        wire.uuid_of(request.profile_id, "profile_id")
        answered = wire.moment_of(request.answered, "answered") if request.HasField("answered") else None
        given = Given(request.profile_id, request.rating, request.comment, answered)
        taken = await self._taking.take(await self._survey(request.survey_id), given)
        # The comment of an answer that stood before is not for whoever gives a new one.
        comment = given.comment if taken.is_given else ""
        return pb.SubmitAnswerResponse(
            answer=wire.answer_to_proto(taken.answer, comment),
            replaced=taken.was_replaced,
            case_id=str(taken.open_case.case_id) if taken.open_case else "",
        )

    async def ListAnswers(self, request: pb.ListAnswersRequest, call: Any) -> pb.ListAnswersResponse:
        size, after = wire.page_size_of(request.page_size), wire.after_token(request.page_token)
        profile_id = wire.uuid_of(request.profile_id, "profile_id") if request.profile_id else None
        survey = await self._survey(request.survey_id)
        found = await self._answers.list(context.tenant(), survey.survey_id, profile_id=profile_id, after=after, limit=size + 1)
        page = found[:size]
        comments = await self._profiles.unseal({answer.profile_id: answer.sealed for answer in page})
        return pb.ListAnswersResponse(
            answers=[wire.answer_to_proto(answer, comments.get(answer.profile_id, "")) for answer in page],
            next_page_token=wire.next_token([(answer.answered, answer.profile_id) for answer in found], size),
        )

    async def GetSurveyResults(self, request: pb.GetSurveyResultsRequest, call: Any) -> pb.GetSurveyResultsResponse:
        survey = await self._survey(request.survey_id)
        overall, segments = await self._surveys.ratings(context.tenant(), survey)
        return pb.GetSurveyResultsResponse(
            kind=wire.KIND_NUMBERS[survey.kind],
            overall=wire.result_to_proto(result_of(survey.kind, overall)),
            segments=[
                pb.SegmentResult(segment_key=key, result=wire.result_to_proto(result_of(survey.kind, counts)))
                for key, counts in segments.items()
            ],
        )

    async def ListCases(self, request: pb.ListCasesRequest, call: Any) -> pb.ListCasesResponse:
        size, after = wire.page_size_of(request.page_size), wire.after_token(request.page_token)
        found, open_count = await self._cases.list(context.tenant(), open_only=request.open_only, after=after, limit=size + 1)
        now = await self._profiles.now() if found else None
        return pb.ListCasesResponse(
            cases=[wire.case_to_proto(case, now) for case in found[:size]] if now else [],
            next_page_token=wire.next_token([(case.due, case.case_id) for case in found], size),
            open_count=open_count,
        )

    async def CloseCase(self, request: pb.CloseCaseRequest, call: Any) -> pb.CloseCaseResponse:
        case_id = wire.uuid_of(request.case_id, "case_id")
        now = await self._profiles.now()
        case = await self._cases.close(context.tenant(), case_id, now, by=context.current().actor)
        return pb.CloseCaseResponse(case=wire.case_to_proto(case, now))
