"""decode -> load -> decide -> save -> encode."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.scoring.v1 import scoring_pb2 as pb
from rapport.scoring.v1 import scoring_pb2_grpc

from chassis import context
from chassis.errors import InvalidArgument, NotFound, Reason
from services.scoring.domain import CHURN, Answer, Score
from services.scoring.models import Models
from services.scoring.store import ScoreStore
from services.scoring.usecases import Scorer

MOST_REFS: Final = 1000
LONGEST_REF: Final = 512
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")


class ScoringRpc(scoring_pb2_grpc.ScoringServicer):
    """The service's methods; the tenant is the call's."""

    def __init__(self, scorer: Scorer, models: Models, store: ScoreStore) -> None:
        self._scorer = scorer
        self._models = models
        self._store = store

    async def ScoreProfiles(self, request: pb.ScoreProfilesRequest, call: Any) -> pb.ScoreProfilesResponse:
        tenant = context.tenant()
        name, refs, version = _model(request.model), _refs(request.refs), _version(request.version)
        answers = await self._scorer.score(tenant, name, refs, at=_moment(request, "at"), version=version)
        return pb.ScoreProfilesResponse(results=map(_result, answers))

    async def GetLatestScore(self, request: pb.GetLatestScoreRequest, call: Any) -> pb.GetLatestScoreResponse:
        tenant = context.tenant()
        score = await self._store.latest(tenant, _model(request.model), _profile_id(request.profile_id))
        return pb.GetLatestScoreResponse(score=_encoded(score))

    async def GetScoreDistribution(self, request: pb.GetScoreDistributionRequest, call: Any) -> pb.GetScoreDistributionResponse:
        found = await self._store.distribution(context.tenant(), _model(request.model))
        return pb.GetScoreDistributionResponse(
            bin_counts=found.bin_counts,
            profile_count=found.profile_count,
            mean_probability=found.mean_probability,
            newest=_stamp(found.newest),
        )

    async def GetServingModel(self, request: pb.GetServingModelRequest, call: Any) -> pb.GetServingModelResponse:
        name = _model(request.model)
        serving = await self._models.champion(context.tenant(), name)
        if serving is None:
            raise NotFound("no model has been promoted yet", reason=Reason.NO_MODEL, field="model")
        return pb.GetServingModelResponse(
            model=name,
            registered_name=serving.champion.registered_name,
            version=serving.model.version,
            alias="champion",
            digest=serving.model.digest,
            feature_digest=serving.model.bundle.feature_digest,
            promoted=_stamp(serving.champion.promoted),
        )


def _model(name: str) -> str:
    if name != CHURN:
        raise InvalidArgument(f"the model is {CHURN}", field="model")
    return name


def _version(version: str) -> str:
    if version and not _VERSION.fullmatch(version):
        raise InvalidArgument("a version is a number, as the registry counts them", field="version")
    return version


def _refs(refs: Sequence[str]) -> Sequence[str]:
    if len(refs) > MOST_REFS:
        raise InvalidArgument(f"at most {MOST_REFS} references a call", field="refs")
    if any(not 0 < len(ref) <= LONGEST_REF or "\0" in ref for ref in refs):
        raise InvalidArgument(f"a reference has 1 to {LONGEST_REF} characters, none of them NUL", field="refs")
    return refs


def _profile_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument("a profile id is a UUID", field="profile_id") from None


def _moment(request: Any, field: str) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        moment = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not 1970 <= moment.year <= 9000:
        raise InvalidArgument("the time is not one of the years 1970 to 9000", field=field) from None
    return moment


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    # Timestamp.FromDatetime takes ten times as long, and a score has three of them.
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def _result(answer: Answer) -> pb.ScoreResult:
    profile_id = str(answer.profile_id) if answer.profile_id else ""
    if answer.score:
        return pb.ScoreResult(ref=answer.ref, profile_id=profile_id, score=_encoded(answer.score))
    refused = pb.NotScored(reason=answer.refusal.name, message=answer.refusal.value) if answer.refusal else None
    return pb.ScoreResult(ref=answer.ref, profile_id=profile_id, not_scored=refused)


def _encoded(score: Score) -> pb.Score:
    return pb.Score(
        model=score.model,
        version=score.version,
        probability=score.probability,
        percentile=score.percentile,
        reasons=[
            pb.Reason(feature=each.feature, text=each.text, contribution=each.contribution, value=each.value)
            for each in score.reasons
        ],
        as_of=_stamp(score.as_of),
        scored=_stamp(score.scored),
        newest_event=_stamp(score.newest_event),
        feature_digest=score.feature_digest,
        logistic_probability=score.logistic_probability,
        features=score.features,
    )
