"""Scores: one, many, the last, and how all are spread."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query, Request
from pydantic import Field, ValidationError
from rapport.scoring.v1 import scoring_pb2
from starlette.responses import Response

from chassis.errors import Reason as Refusal
from services.gateway.api.admission import HotRoute, needs, router
from services.gateway.api.bound import DenialsOf, People, in_order
from services.gateway.api.document import body_of, in_path
from services.gateway.api.problems import of_fields
from services.gateway.api.serving import Services, ref_of
from services.gateway.clients import unknown_profile
from services.gateway.domain import Scope
from services.gateway.gathering import Question, Scores
from services.gateway.wire import Answer, Asked, Moment, PathRef, Ref, Refs, Word, moment_of, set_moment

hot = router("Scores", HotRoute)
routes = router("Scores")

_UNKNOWN: Final = "UNKNOWN_PROFILE"
_encode: Final = msgspec.json.Encoder().encode

Model = Annotated[Word, Field(description="A kind of model.", examples=["churn"])]
Version = Annotated[
    str,
    Field(
        max_length=64,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="A registered version, to judge a challenger; empty: the champion.",
    ),
]


class Reason(Answer):
    """What moved the score, in words and in log-odds; positive raises the risk."""

    feature: str
    text: str
    contribution: float
    value: float | None


class Score(Answer):
    """Never a bare number."""

    model: str
    version: str
    probability: float = Field(description="Calibrated, in [0, 1].")
    percentile: float = Field(description="Share of the reference customers with a lower probability, in [0, 100].")
    reasons: list[Reason] = Field(description="Strongest first, at most five.")
    as_of: datetime | None = Field(description="The instant that the features were read at.")
    scored: datetime | None
    newest_event: datetime | None = Field(description="The newest event behind the features.")
    feature_digest: str
    logistic_probability: float = Field(description="What a logistic regression on the same rows says; for comparison only.")
    features: dict[str, float] = Field(description="As the model saw them; absent where there was no value.")


class NotScored(Answer):
    """Why there is no score: an answer, not an error."""

    reason: str = Field(examples=["NEVER_BOUGHT"])
    message: str


class ScoreResult(Answer):
    """A score, or why there is none."""

    ref: str
    profile_id: str | None
    score: Score | None
    not_scored: NotScored | None


class ScoreResults(Answer):
    """In the order of `refs`."""

    results: list[ScoreResult]


class ScoreQuestion(Asked):
    """How to score; nothing of it is needed."""

    model: Model = "churn"
    at: Moment | None = None
    version: Version = ""


class ScoresQuestion(ScoreQuestion):
    """Whom to score, at most 1,000."""

    refs: Refs


class Distribution(Answer):
    """The last recorded scores of all profiles, in ten bins of equal width over [0, 1]."""

    bin_counts: list[int]
    profile_count: int
    mean_probability: float
    newest: datetime | None


_AS_USUAL: Final = ScoreQuestion()


@hot.post(
    "/v1/profiles/{ref}/score",
    responses={200: {"model": ScoreResult}},
    openapi_extra=body_of(ScoreQuestion, required=False) | in_path("ref", Ref),
)
@needs(Scope.SCORE)
async def score_profile(request: Request) -> Response:
    """Scores one profile now, and records it. Concurrent requests travel together."""
    body: bytes = request.state.body
    asked = _question_of(body) if body else _AS_USUAL
    question = Question(ref_of(request), asked.model, asked.at, asked.version)
    scores: Scores = request.app.state.scores
    result = await scores.ask(question)
    if result.not_scored.reason == _UNKNOWN:
        raise unknown_profile()
    return Response(_encode(written(result)), media_type="application/json")


def _question_of(body: bytes) -> ScoreQuestion:
    try:
        return ScoreQuestion.model_validate_json(body)
    except ValidationError as error:
        raise of_fields(error.errors(include_input=False, include_url=False)) from None


def written(result: scoring_pb2.ScoreResult) -> dict[str, Any]:
    """A ScoreResult as it is written. By hand: this is asked thousands of times a second."""
    refused = result.HasField("not_scored")
    return {
        "ref": result.ref,
        "profileId": result.profile_id or None,
        "score": written_score(result.score) if result.HasField("score") else None,
        "notScored": {"reason": result.not_scored.reason, "message": result.not_scored.message} if refused else None,
    }


def written_score(score: scoring_pb2.Score) -> dict[str, Any]:
    """A Score as it is written."""
    return {
        "model": score.model,
        "version": score.version,
        "probability": score.probability,
        "percentile": score.percentile,
        "reasons": [
            {
                "feature": each.feature,
                "text": each.text,
                "contribution": each.contribution,
                "value": each.value if each.HasField("value") else None,
            }
            for each in score.reasons
        ],
        "asOf": moment_of(score, "as_of"),
        "scored": moment_of(score, "scored"),
        "newestEvent": moment_of(score, "newest_event"),
        "featureDigest": score.feature_digest,
        "logisticProbability": score.logistic_probability,
        "features": dict(score.features),
    }


@routes.get("/v1/profiles/{ref}/score", responses={200: {"model": ScoreResult}}, response_model=None)
@needs(Scope.READ)
async def get_latest_score(services: Services, ref: PathRef, model: Annotated[Model, Query()] = "churn") -> Response:
    """The last recorded score of a profile."""
    profile_id = await services.profile_id_of(ref)
    answer = await services.scoring.GetLatestScore(scoring_pb2.GetLatestScoreRequest(model=model, profile_id=profile_id))
    result = scoring_pb2.ScoreResult(ref=ref, profile_id=profile_id, score=answer.score)
    return Response(_encode(written(result)), media_type="application/json")


@routes.post("/v1/scores:batch", responses={200: {"model": ScoreResults}}, response_model=None)
@needs(Scope.SCORE, people=People.IN_BODY)
async def batch_score_profiles(services: Services, denials: DenialsOf, question: ScoresQuestion) -> Response:
    """Scores up to 1,000 profiles; each is answered, with a score or with why there is none."""
    denied = await denials.of(services, question.refs)
    allowed = [ref for ref in question.refs if ref not in denied]
    request = scoring_pb2.ScoreProfilesRequest(model=question.model, refs=allowed, version=question.version)
    set_moment(request, "at", question.at)
    answer = await services.scoring.ScoreProfiles(request, timeout=60.0) if allowed else scoring_pb2.ScoreProfilesResponse()
    results = in_order(question.refs, denied, answer.results, _denied)
    return Response(_encode({"results": [written(each) for each in results]}), media_type="application/json")


def _denied(ref: str, profile_id: str) -> scoring_pb2.ScoreResult:
    why = scoring_pb2.NotScored(reason=Refusal.CONSENT_DENIED.name, message=Refusal.CONSENT_DENIED.value)
    return scoring_pb2.ScoreResult(ref=ref, profile_id=profile_id, not_scored=why)


@routes.get("/v1/scores/distribution")
@needs(Scope.READ)
async def get_score_distribution(services: Services, model: Annotated[Model, Query()] = "churn") -> Distribution:
    """How the last recorded scores are spread."""
    return Distribution.of(await services.scoring.GetScoreDistribution(scoring_pb2.GetScoreDistributionRequest(model=model)))
