"""Models: which there are, how good they are, which answers, and who decided that."""

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import Field
from rapport.evaluation.v1 import evaluation_pb2
from rapport.scoring.v1 import scoring_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.experiments import Verdict
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Moment, OrNone, Text, Whole, Word

routes = router("Models")

Model = Annotated[Word, Path(description="A kind of model.", examples=["churn"])]
Version = Annotated[Word, Field(description="A registered version.", examples=["1"])]
Why = Annotated[Text, Field(min_length=1, description="For the record.", examples=["better on recent customers"])]


class ModelVersion(Answer):
    """A registered version."""

    registered_name: str
    version: str
    aliases: list[str]
    digest: str
    feature_digest: str
    created: datetime | None
    run_id: str


class ModelVersions(Answer):
    """All versions that are registered."""

    data: list[ModelVersion]


class ServingModel(Answer):
    """The version that answers now, from the last promotion."""

    model: str
    registered_name: str
    version: str
    alias: str
    digest: str = Field(description="SHA-256 of the model's files.")
    feature_digest: str
    promoted: datetime | None


class CalibrationBin(Answer):
    """Customers of like probability, and the share that did churn."""

    mean_probability: float
    observed_rate: float
    row_count: int


class ModelEvaluation(Answer):
    """Scores of one version at one instant against what happened since. Intervals are 95 % bootstrap intervals."""

    model: str
    version: str
    as_of: datetime | None
    horizon_days: int
    row_count: int
    recent_count: int = Field(description="Of them, who bought in the last 90 days.")
    rate: float | None = Field(description="Share that churned.")
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    ece: float | None = Field(description="Expected calibration error, ten bins of equal count.")
    auc_recent: float | None
    ece_recent: float | None
    recency_auc: float | None = Field(description="Of the rule that only looks at the last order.")
    recency_auc_recent: float | None
    logistic_auc: float | None
    logistic_auc_recent: float | None
    lift: float | None = Field(description="AUC minus the recency rule's.")
    lift_low: float | None
    lift_high: float | None
    verdict: Verdict
    explanation: str
    evaluated: datetime | None
    bins: list[CalibrationBin]


class ModelEvaluations(Answer):
    """All evaluations of a model."""

    data: list[ModelEvaluation]


class EvaluationDraft(Asked):
    """What to judge. Its scores at `asOf` must have been recorded (`/v1/scores:batch` with a version)."""

    version: Version
    as_of: Moment


class PromotionDraft(Asked):
    """Which version is to answer, and why."""

    version: Version
    reason: Why


class RollbackDraft(Asked):
    """Why the version before is to answer again."""

    reason: Why


class Promotion(Answer):
    """Who changed the model that answers, when, why, from which version to which."""

    model: str
    registered_name: str
    from_version: Annotated[str | None, OrNone]
    to_version: str
    kind: str = Field(examples=["promotion"])
    actor: str = Field(description="Key id of who did it.")
    reason: str
    digest: str
    promoted: datetime | None


class Promotions(Answer):
    """Newest first."""

    data: list[Promotion]


class RolloutQuestion(Asked):
    """Two versions of a service that answer side by side."""

    service: Word = Field(examples=["scoring"])
    baseline_version: Word = Field(description="As the process was told in its settings.", examples=["0.1.0"])
    candidate_version: Word = Field(examples=["0.2.0"])
    window_s: Whole = Field(300, alias="windowSeconds", ge=10, le=86_400, description="Only the last so many seconds.")


class VersionTraffic(Answer):
    """What one version answered."""

    version: str
    request_count: int
    error_count: int
    p99_s: float | None = Field(alias="p99Seconds")


class RolloutVerdict(Answer):
    """Whether the candidate does as well as the baseline."""

    verdict: Verdict
    explanation: str
    baseline: VersionTraffic | None
    candidate: VersionTraffic | None


@routes.get("/v1/models/{model}/versions")
@needs(Scope.READ)
async def list_model_versions(services: Services, model: Model) -> ModelVersions:
    """The versions in the registry."""
    answer = await services.evaluation.ListModelVersions(evaluation_pb2.ListModelVersionsRequest(model=model))
    return ModelVersions(data=[ModelVersion.of(each) for each in answer.versions])


@routes.get("/v1/models/{model}/serving")
@needs(Scope.READ)
async def get_serving_model(services: Services, model: Model) -> ServingModel:
    """The version that answers now."""
    return ServingModel.of(await services.scoring.GetServingModel(scoring_pb2.GetServingModelRequest(model=model)))


@routes.get("/v1/models/{model}/evaluations")
@needs(Scope.READ)
async def list_model_evaluations(services: Services, model: Model) -> ModelEvaluations:
    """How good the versions were."""
    answer = await services.evaluation.ListModelEvaluations(evaluation_pb2.ListModelEvaluationsRequest(model=model))
    return ModelEvaluations(data=[ModelEvaluation.of(each) for each in answer.evaluations])


@routes.post("/v1/models/{model}/evaluations")
@needs(Scope.MODELS, creates=True)
async def evaluate_model(services: Services, model: Model, draft: EvaluationDraft) -> ModelEvaluation:
    """Judges the recorded scores of a version at an instant."""
    request = evaluation_pb2.EvaluateModelRequest(model=model, version=draft.version)
    request.as_of.FromDatetime(draft.as_of)
    return ModelEvaluation.of((await services.evaluation.EvaluateModel(request, timeout=LONG_S)).evaluation)


@routes.post("/v1/models/{model}:promote")
@needs(Scope.MODELS, creates=True)
async def promote_model(services: Services, model: Model, draft: PromotionDraft) -> Promotion:
    """Lets a version answer. Refused where it was not evaluated, or loses to the recency rule."""
    request = evaluation_pb2.PromoteModelRequest(model=model, version=draft.version, reason=draft.reason)
    return Promotion.of((await services.evaluation.PromoteModel(request, timeout=60.0)).promotion)


@routes.post("/v1/models/{model}:rollback")
@needs(Scope.MODELS, creates=True)
async def rollback_model(services: Services, model: Model, draft: RollbackDraft) -> Promotion:
    """Lets the version before answer again."""
    request = evaluation_pb2.RollbackModelRequest(model=model, reason=draft.reason)
    return Promotion.of((await services.evaluation.RollbackModel(request, timeout=60.0)).promotion)


@routes.get("/v1/models/{model}/promotions")
@needs(Scope.READ)
async def list_promotions(services: Services, model: Model) -> Promotions:
    """Who changed the model that answers, newest first."""
    answer = await services.evaluation.ListPromotions(evaluation_pb2.ListPromotionsRequest(model=model))
    return Promotions(data=[Promotion.of(each) for each in answer.promotions])


@routes.post("/v1/rollouts:judge")
@needs(Scope.READ)
async def judge_rollout(services: Services, question: RolloutQuestion) -> RolloutVerdict:
    """Compares two versions of a service by errors and latency, from the metrics."""
    request = evaluation_pb2.JudgeRolloutRequest(
        service=question.service,
        baseline_version=question.baseline_version,
        candidate_version=question.candidate_version,
        window_s=question.window_s,
    )
    return RolloutVerdict.of(await services.evaluation.JudgeRollout(request))
