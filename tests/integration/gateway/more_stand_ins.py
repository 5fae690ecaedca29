"""The other four services as the gateway knows them: they remember by tenant, and refuse."""

from collections import defaultdict
from typing import Any

from rapport.evaluation.v1 import evaluation_pb2 as evaluation
from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationServicer
from rapport.feedback.v1 import feedback_pb2 as feedback
from rapport.feedback.v1.feedback_pb2_grpc import FeedbackServicer
from rapport.recommendation.v1 import recommendation_pb2 as recommendation
from rapport.recommendation.v1.recommendation_pb2_grpc import RecommendationServicer
from rapport.segmentation.v1 import segmentation_pb2 as segmentation
from rapport.segmentation.v1.segmentation_pb2_grpc import SegmentationServicer

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from tests.integration.gateway.stand_ins import CASE_ID, stamp, start_of


class Segmentation(SegmentationServicer):
    """Keeps segments by tenant."""

    def __init__(self) -> None:
        self._segments: dict[str, dict[str, segmentation.Segment]] = defaultdict(dict)

    def _get(self, key: str) -> segmentation.Segment:
        if key not in self._segments[context.tenant()]:
            raise NotFound("there is no such segment")
        return self._segments[context.tenant()][key]

    async def CreateSegment(self, request: Any, call: object) -> segmentation.CreateSegmentResponse:
        if request.key in self._segments[context.tenant()]:
            raise Conflict("the segment exists already")
        made = segmentation.Segment(key=request.key, name=request.name, version=1, condition=request.condition, family="custom")
        if request.HasField("use"):
            made.use.CopyFrom(request.use)
        self._segments[context.tenant()][request.key] = made
        return segmentation.CreateSegmentResponse(segment=made)

    async def UpdateSegment(self, request: Any, call: object) -> segmentation.UpdateSegmentResponse:
        segment = self._get(request.key)
        segment.condition.CopyFrom(request.condition)
        if request.HasField("use"):
            segment.use.CopyFrom(request.use)
        segment.version += 1
        return segmentation.UpdateSegmentResponse(segment=segment)

    async def GetSegment(self, request: Any, call: object) -> segmentation.GetSegmentResponse:
        return segmentation.GetSegmentResponse(segment=self._get(request.key))

    async def ListSegments(self, request: Any, call: object) -> segmentation.ListSegmentsResponse:
        return segmentation.ListSegmentsResponse(segments=self._segments[context.tenant()].values())

    async def PreviewSegment(self, request: Any, call: object) -> segmentation.PreviewSegmentResponse:
        return segmentation.PreviewSegmentResponse(member_count=1, profile_count=2, at=stamp())

    async def ListMembers(self, request: Any, call: object) -> segmentation.ListMembersResponse:
        self._get(request.key)
        start_of(request.page_token)
        return segmentation.ListMembersResponse(members=[segmentation.Member(profile_id=CASE_ID, since=stamp())])

    async def ListMemberships(self, request: Any, call: object) -> segmentation.ListMembershipsResponse:
        membership = segmentation.Membership(key="active", name="Active", family="life_cycle", since=stamp())
        return segmentation.ListMembershipsResponse(memberships=[membership])

    async def ExplainMembership(self, request: Any, call: object) -> segmentation.ExplainMembershipResponse:
        self._get(request.key)
        finding = segmentation.Finding(condition="orders_count >= 3", value="3", held=True)
        return segmentation.ExplainMembershipResponse(member=True, findings=[finding], version=1)

    async def RecomputeMemberships(self, request: Any, call: object) -> segmentation.RecomputeMembershipsResponse:
        return segmentation.RecomputeMembershipsResponse(profile_count=2, at=stamp())


class Recommendation(RecommendationServicer):
    """The same mug for everybody."""

    async def Recommend(self, request: Any, call: object) -> recommendation.RecommendResponse:
        item = recommendation.RankedItem(item_id="85123A", name="WHITE MUG", score=0.9, reason="popular", stage="popular")
        results = [recommendation.Recommendations(profile_id=each, items=[item]) for each in request.profile_ids]
        return recommendation.RecommendResponse(results=results, model_built=stamp())

    async def GetNextBestAction(self, request: Any, call: object) -> recommendation.GetNextBestActionResponse:
        nothing = recommendation.Action(name="nothing", explanation="0")
        return recommendation.GetNextBestActionResponse(profile_id=request.profile_id, actions=[nothing], missing="no score")

    async def RebuildModel(self, request: Any, call: object) -> recommendation.RebuildModelResponse:
        return recommendation.RebuildModelResponse(item_count=1, customer_count=2, at=stamp())

    async def UpdateItem(self, request: Any, call: object) -> recommendation.UpdateItemResponse:
        return recommendation.UpdateItemResponse()


class Feedback(FeedbackServicer):
    """Keeps surveys by tenant; `answers` counts what was submitted."""

    def __init__(self) -> None:
        self._surveys: dict[str, dict[str, feedback.Survey]] = defaultdict(dict)
        self.answers = 0

    def _get(self, survey_id: str) -> feedback.Survey:
        if survey_id not in self._surveys[context.tenant()]:
            raise NotFound("there is no such survey")
        return self._surveys[context.tenant()][survey_id]

    async def CreateSurvey(self, request: Any, call: object) -> feedback.CreateSurveyResponse:
        survey = feedback.Survey(survey_id=request.survey_id, kind=request.kind, question=request.question, created=stamp())
        self._surveys[context.tenant()][request.survey_id] = survey
        return feedback.CreateSurveyResponse(survey=survey)

    async def GetSurvey(self, request: Any, call: object) -> feedback.GetSurveyResponse:
        return feedback.GetSurveyResponse(survey=self._get(request.survey_id))

    async def ListSurveys(self, request: Any, call: object) -> feedback.ListSurveysResponse:
        return feedback.ListSurveysResponse(surveys=self._surveys[context.tenant()].values())

    async def SubmitAnswer(self, request: Any, call: object) -> feedback.SubmitAnswerResponse:
        self._get(request.survey_id)
        if request.rating > 10:
            raise InvalidArgument("a rating is 0 to 10", reason=Reason.RATING_OUT_OF_SCALE, field="rating")
        self.answers += 1
        answer = feedback.Answer(
            survey_id=request.survey_id, profile_id=request.profile_id, rating=request.rating, comment=request.comment
        )
        return feedback.SubmitAnswerResponse(answer=answer, case_id=CASE_ID if request.rating < 7 else "")

    async def ListAnswers(self, request: Any, call: object) -> feedback.ListAnswersResponse:
        self._get(request.survey_id)
        start_of(request.page_token)
        answer = feedback.Answer(survey_id=request.survey_id, profile_id=CASE_ID, rating=3, comment="too slow")
        return feedback.ListAnswersResponse(answers=[answer])

    async def GetSurveyResults(self, request: Any, call: object) -> feedback.GetSurveyResultsResponse:
        result = feedback.Result(answer_count=1, rating_counts=[0] * 11, missing="not enough data")
        segment = feedback.SegmentResult(segment_key="active", result=result)
        kind = self._get(request.survey_id).kind
        return feedback.GetSurveyResultsResponse(kind=kind, overall=result, segments=[segment])

    async def ListCases(self, request: Any, call: object) -> feedback.ListCasesResponse:
        start_of(request.page_token)
        return feedback.ListCasesResponse(cases=[feedback.Case(case_id=CASE_ID, profile_id=CASE_ID, rating=3)], open_count=1)

    async def CloseCase(self, request: Any, call: object) -> feedback.CloseCaseResponse:
        if request.case_id != CASE_ID:
            raise NotFound("there is no such case")
        return feedback.CloseCaseResponse(case=feedback.Case(case_id=CASE_ID, profile_id=CASE_ID, closed=stamp()))


class Evaluation(EvaluationServicer):
    """Keeps experiments by tenant; `promotions` remembers who promoted."""

    def __init__(self) -> None:
        self._experiments: dict[str, dict[str, evaluation.Experiment]] = defaultdict(dict)
        self.promotions: list[evaluation.Promotion] = []

    def _get(self, experiment_id: str) -> evaluation.Experiment:
        if experiment_id not in self._experiments[context.tenant()]:
            raise NotFound("there is no such experiment")
        return self._experiments[context.tenant()][experiment_id]

    async def CreateExperiment(self, request: Any, call: object) -> evaluation.CreateExperimentResponse:
        made = evaluation.Experiment(
            experiment_id=request.experiment_id, variants=request.variants, outcome_event=request.outcome_event
        )
        self._experiments[context.tenant()][request.experiment_id] = made
        return evaluation.CreateExperimentResponse(experiment=made)

    async def ListExperiments(self, request: Any, call: object) -> evaluation.ListExperimentsResponse:
        return evaluation.ListExperimentsResponse(experiments=self._experiments[context.tenant()].values())

    async def AssignVariants(self, request: Any, call: object) -> evaluation.AssignVariantsResponse:
        variant = self._get(request.experiment_id).variants[0].key
        given = [evaluation.Assignment(profile_id=each, variant=variant, assigned=stamp()) for each in request.profile_ids]
        return evaluation.AssignVariantsResponse(assignments=given)

    async def RecordExposures(self, request: Any, call: object) -> evaluation.RecordExposuresResponse:
        self._get(request.experiment_id)
        return evaluation.RecordExposuresResponse(recorded_count=len(request.profile_ids))

    async def GetExperimentResults(self, request: Any, call: object) -> evaluation.GetExperimentResultsResponse:
        variants = [evaluation.VariantResult(key=each.key) for each in self._get(request.experiment_id).variants]
        verdict = evaluation.VERDICT_NOT_ENOUGH_DATA
        return evaluation.GetExperimentResultsResponse(
            experiment_id=request.experiment_id, variants=variants, verdict=verdict, explanation="nobody yet", at=stamp()
        )

    async def EvaluateModel(self, request: Any, call: object) -> evaluation.EvaluateModelResponse:
        return evaluation.EvaluateModelResponse(evaluation=judged(request.model, request.version))

    async def ListModelEvaluations(self, request: Any, call: object) -> evaluation.ListModelEvaluationsResponse:
        return evaluation.ListModelEvaluationsResponse(evaluations=[judged(request.model, "7")])

    async def ListModelVersions(self, request: Any, call: object) -> evaluation.ListModelVersionsResponse:
        return evaluation.ListModelVersionsResponse(versions=[evaluation.ModelVersion(version="7", aliases=["champion"])])

    async def PromoteModel(self, request: Any, call: object) -> evaluation.PromoteModelResponse:
        promotion = evaluation.Promotion(
            model=request.model, to_version=request.version, kind="promotion", actor=context.current().actor, promoted=stamp()
        )
        self.promotions.append(promotion)
        return evaluation.PromoteModelResponse(promotion=promotion)

    async def RollbackModel(self, request: Any, call: object) -> evaluation.RollbackModelResponse:
        if not self.promotions:
            raise Conflict("there is no earlier champion", reason=Reason.NO_PREVIOUS_MODEL)
        return evaluation.RollbackModelResponse(promotion=evaluation.Promotion(model=request.model, kind="rollback"))

    async def ListPromotions(self, request: Any, call: object) -> evaluation.ListPromotionsResponse:
        return evaluation.ListPromotionsResponse(promotions=self.promotions)

    async def JudgeRollout(self, request: Any, call: object) -> evaluation.JudgeRolloutResponse:
        verdict = evaluation.VERDICT_NOT_ENOUGH_DATA
        traffic = evaluation.VersionTraffic(version=request.baseline_version)
        return evaluation.JudgeRolloutResponse(verdict=verdict, explanation="no traffic", baseline=traffic)


def judged(model: str, version: str) -> evaluation.ModelEvaluation:
    bins = [evaluation.CalibrationBin(mean_probability=0.1, row_count=5)]
    return evaluation.ModelEvaluation(
        model=model, version=version, as_of=stamp(), row_count=10, auc=0.78, verdict=evaluation.VERDICT_BETTER, bins=bins
    )
