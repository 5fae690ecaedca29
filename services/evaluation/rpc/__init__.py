"""The contract rapport.evaluation.v1: decode, load, decide, save, encode."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from prometheus_client import Counter
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationServicer

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason, Unavailable
from services.evaluation.clients import facts
from services.evaluation.clients.metrics import Metrics
from services.evaluation.clients.profiles import ProfilesClient
from services.evaluation.clients.registry import Registry
from services.evaluation.domain import experiments, models, promotions, rollouts
from services.evaluation.domain.promotions import Kind, Promotion
from services.evaluation.domain.rollouts import RolloutJudgement, Traffic
from services.evaluation.domain.verdicts import Verdict
from services.evaluation.rpc import checks, wire
from services.evaluation.store.experiments import ExperimentStore
from services.evaluation.store.models import EvaluationStore, PromotionStore
from services.evaluation.store.projection import ProjectionStore
from services.evaluation.usecases import Aligner, judge_scores

VERDICTS: Final = Counter("rapport_evaluation_verdicts_total", "Judgements given.", ["subject", "verdict"])
PROMOTIONS: Final = Counter("rapport_evaluation_promotions_total", "Champions named.", ["kind"])

# How long results wait for what the log holds already, and how long a promotion waits for the registry's aliases.
CATCH_UP_S: Final = 3.0
ALIGN_S: Final = 2.0


class EvaluationRpc(EvaluationServicer):
    """`metrics` is None where the platform runs without a metrics source."""

    def __init__(
        self,
        *,
        experiment_store: ExperimentStore,
        evaluation_store: EvaluationStore,
        promotion_store: PromotionStore,
        projection: ProjectionStore,
        profiles: ProfilesClient,
        registry: Registry,
        aligner: Aligner,
        metrics: Metrics | None,
    ) -> None:
        self._experiments = experiment_store
        self._evaluations = evaluation_store
        self._promotions = promotion_store
        self._projection = projection
        self._profiles = profiles
        self._registry = registry
        self._aligner = aligner
        self._metrics = metrics

    async def CreateExperiment(self, request: pb.CreateExperimentRequest, call: object) -> pb.CreateExperimentResponse:
        tenant = context.tenant()
        experiment = checks.experiment(request)
        created = await self._profiles.now()
        listed = await self._experiments.create(tenant, experiment, created=created)
        return pb.CreateExperimentResponse(experiment=wire.experiment(listed))

    async def ListExperiments(self, request: pb.ListExperimentsRequest, call: object) -> pb.ListExperimentsResponse:
        listed = await self._experiments.all(context.tenant())
        return pb.ListExperimentsResponse(experiments=[wire.experiment(each) for each in listed])

    async def AssignVariants(self, request: pb.AssignVariantsRequest, call: object) -> pb.AssignVariantsResponse:
        tenant = context.tenant()
        experiment_id = checks.key(request.experiment_id, "experiment_id")
        asked = checks.profile_ids(request.profile_ids)
        experiment = (await self._experiments.get(tenant, experiment_id)).experiment
        profile_ids, at = await asyncio.gather(self._known(asked), self._profiles.now())
        # The tenant is the salt: after a loss of these tables the same customers get the same variants.
        variants = [(each, experiments.variant_of(experiment, str(each), salt=tenant)) for each in profile_ids]
        assigned = await self._experiments.assign(
            tenant,
            experiment_id,
            variants,
            at=at,
            fact_of=lambda profile_id, variant: facts.assigned(experiment_id, profile_id, variant, at=at),
        )
        return pb.AssignVariantsResponse(assignments=[wire.assignment(assigned[each]) for each in profile_ids])

    async def RecordExposures(self, request: pb.RecordExposuresRequest, call: object) -> pb.RecordExposuresResponse:
        """Counts those who are exposed now, whether by this call or before; who was never assigned is left out."""
        tenant = context.tenant()
        experiment_id = checks.key(request.experiment_id, "experiment_id")
        asked = checks.profile_ids(request.profile_ids)
        await self._experiments.get(tenant, experiment_id)
        profile_ids, at = await asyncio.gather(self._known(asked), self._profiles.now())
        count = await self._experiments.expose(
            tenant,
            experiment_id,
            profile_ids,
            at=at,
            fact_of=lambda profile_id, variant: facts.viewed(experiment_id, profile_id, variant, at=at),
        )
        return pb.RecordExposuresResponse(recorded_count=count)

    async def _known(self, profile_ids: Sequence[UUID]) -> list[UUID]:
        """What they have become, in order. Raises NotFound where the tenant does not know one of them."""
        resolved = await self._profiles.resolve(profile_ids)
        unknown = [index for index, found in enumerate(resolved) if found is None]
        if unknown:
            raise NotFound(
                f"{len(unknown)} of the profiles are not known, the first is number {unknown[0] + 1}",
                reason=Reason.UNKNOWN_PROFILE,
                field=f"profile_ids[{unknown[0]}]",
            )
        return [found for found in resolved if found is not None]

    async def GetExperimentResults(
        self, request: pb.GetExperimentResultsRequest, call: object
    ) -> pb.GetExperimentResultsResponse:
        tenant = context.tenant()
        experiment_id = checks.key(request.experiment_id, "experiment_id")
        experiment = (await self._experiments.get(tenant, experiment_id)).experiment
        at = await self._profiles.now()
        is_complete = await self._projection.catch_up(timeout_s=CATCH_UP_S)
        tallies = await self._experiments.tallies(tenant, experiment, at=at)
        judged = experiments.judge(experiment, tallies, at=at)
        VERDICTS.labels("experiment", judged.verdict.value).inc()
        response = wire.results(experiment_id, judged, at=at)
        if not is_complete:
            response.explanation += " Some of the newest events are not counted yet."
        return response

    async def EvaluateModel(self, request: pb.EvaluateModelRequest, call: object) -> pb.EvaluateModelResponse:
        tenant = context.tenant()
        target = models.target_of(checks.key(request.model, "model"))
        version = checks.version(request.version, "version")
        as_of = checks.moment(request.as_of, "as_of", is_set=request.HasField("as_of"))
        models.require_outcomes(target, as_of=as_of, now=await self._profiles.now())
        if not await self._projection.catch_up(timeout_s=CATCH_UP_S):
            raise Unavailable("some events are not counted yet: ask again", retry_after_s=5.0)
        scores = await self._evaluations.judged_scores(tenant, request.model, version, as_of=as_of, target=target)
        judged = await asyncio.to_thread(
            judge_scores, request.model, version, target, scores, as_of=as_of, evaluated=datetime.now(UTC)
        )
        if scores:  # else nobody scored with it, and it may not even exist
            await self._evaluations.save(tenant, judged)
        VERDICTS.labels("model", judged.verdict.value).inc()
        return pb.EvaluateModelResponse(evaluation=wire.evaluation(judged))

    async def ListModelEvaluations(
        self, request: pb.ListModelEvaluationsRequest, call: object
    ) -> pb.ListModelEvaluationsResponse:
        models.target_of(request.model)
        judged = await self._evaluations.all(context.tenant(), request.model)
        return pb.ListModelEvaluationsResponse(evaluations=[wire.evaluation(each) for each in judged])

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, call: object) -> pb.ListModelVersionsResponse:
        models.target_of(request.model)
        versions = await self._registry.versions(_registered_name(context.tenant(), request.model))
        return pb.ListModelVersionsResponse(versions=[wire.model_version(each) for each in versions])

    async def PromoteModel(self, request: pb.PromoteModelRequest, call: object) -> pb.PromoteModelResponse:
        """To promote the present champion changes nothing, and is answered with the record that stands."""
        tenant = context.tenant()
        models.target_of(request.model)
        version = checks.version(request.version, "version")
        reason = checks.text(request.reason, "reason", longest=checks.MAX_REASON)
        history = await self._promotions.history(tenant, request.model)
        if history and history[-1].to_version == version:
            return pb.PromoteModelResponse(promotion=wire.promotion(history[-1]))
        candidate, served_digest = await asyncio.gather(
            self._registry.get(_registered_name(tenant, request.model), version), self._profiles.served_feature_digest()
        )
        evaluation = await self._evaluations.find_conclusive(tenant, request.model, version, since=candidate.learnt_until)
        promotions.require_promotable(candidate, evaluation, served_digest=served_digest)

        def promoted(history: Sequence[Promotion]) -> Promotion:
            present = history[-1].to_version if history else ""
            if present == version:
                raise Conflict("somebody else has just promoted that version", reason=Reason.ALREADY_EXISTS)
            return Promotion(
                model=request.model,
                registered_name=candidate.registered_name,
                from_version=present,
                to_version=version,
                kind=Kind.PROMOTION,
                actor=context.current().actor,
                reason=reason,
                digest=candidate.digest,
                feature_digest=candidate.feature_digest,
                promoted=datetime.now(UTC),
            )

        record = await self._promotions.record(tenant, request.model, promoted, facts.promoted)
        await self._align(record)
        return pb.PromoteModelResponse(promotion=wire.promotion(record))

    async def RollbackModel(self, request: pb.RollbackModelRequest, call: object) -> pb.RollbackModelResponse:
        """Needs no registry: the record has all that scoring must know of the earlier champion."""
        tenant = context.tenant()
        models.target_of(request.model)
        reason = checks.text(request.reason, "reason", longest=checks.MAX_REASON)
        served_digest = await self._profiles.served_feature_digest()
        actor, now = context.current().actor, datetime.now(UTC)

        def rolled_back(history: Sequence[Promotion]) -> Promotion:
            record = promotions.rollback(history, actor=actor, reason=reason, now=now)
            promotions.require_served_features(record.to_version, record.feature_digest, served_digest=served_digest)
            return record

        record = await self._promotions.record(tenant, request.model, rolled_back, facts.promoted)
        await self._align(record)
        return pb.RollbackModelResponse(promotion=wire.promotion(record))

    async def _align(self, record: Promotion) -> None:
        """At once where it works; the background task goes on where it does not."""
        PROMOTIONS.labels(record.kind.value).inc()
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(ALIGN_S):
                await self._aligner.align()

    async def ListPromotions(self, request: pb.ListPromotionsRequest, call: object) -> pb.ListPromotionsResponse:
        models.target_of(request.model)
        history = await self._promotions.history(context.tenant(), request.model)
        return pb.ListPromotionsResponse(promotions=[wire.promotion(each) for each in reversed(history)])

    async def JudgeRollout(self, request: pb.JudgeRolloutRequest, call: object) -> pb.JudgeRolloutResponse:
        service, window_s = checks.service(request.service), checks.window_s(request.window_s)
        old = checks.version(request.baseline_version, "baseline_version")
        new = checks.version(request.candidate_version, "candidate_version")
        if old == new:
            raise InvalidArgument("a version cannot be compared with itself", field="candidate_version")
        baseline, candidate = Traffic(old, 0, 0, ()), Traffic(new, 0, 0, ())
        if self._metrics is None:
            judgement = RolloutJudgement(
                Verdict.NOT_ENOUGH_DATA, "There is no metrics source: the platform runs without Prometheus."
            )
        else:
            baseline = await self._metrics.traffic(service, old, window_s=window_s)
            candidate = await self._metrics.traffic(service, new, window_s=window_s)
            judgement = rollouts.judge(baseline, candidate)
        VERDICTS.labels("rollout", judgement.verdict.value).inc()
        return wire.rollout(judgement, baseline, candidate)


def _registered_name(tenant: str, model: str) -> str:
    return f"{tenant}.{model}"
