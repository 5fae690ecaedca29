"""Our words as messages."""

from datetime import datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.evaluation.v1 import evaluation_pb2 as pb

from services.evaluation.domain.experiments import Results, Tally
from services.evaluation.domain.models import ModelEvaluation
from services.evaluation.domain.promotions import ModelVersion, Promotion
from services.evaluation.domain.rollouts import RolloutJudgement, Traffic
from services.evaluation.domain.verdicts import Verdict
from services.evaluation.store.experiments import Assignment, Listed

_VERDICTS: Final = MappingProxyType(
    {
        Verdict.BETTER: pb.VERDICT_BETTER,
        Verdict.WORSE: pb.VERDICT_WORSE,
        Verdict.NO_DIFFERENCE: pb.VERDICT_NO_DIFFERENCE,
        Verdict.NOT_ENOUGH_DATA: pb.VERDICT_NOT_ENOUGH_DATA,
    }
)


def timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def experiment(listed: Listed) -> pb.Experiment:
    its = listed.experiment
    return pb.Experiment(
        experiment_id=its.experiment_id,
        hypothesis=its.hypothesis,
        variants=[pb.Variant(key=variant.key, share=variant.share) for variant in its.variants],
        outcome_event=its.outcome_event,
        outcome_window_days=its.outcome_window_days,
        margin=its.margin,
        created=timestamp(listed.created),
        assigned_count=listed.assigned_count,
    )


def assignment(assigned: Assignment) -> pb.Assignment:
    return pb.Assignment(profile_id=str(assigned.profile_id), variant=assigned.variant, assigned=timestamp(assigned.assigned))


def results(experiment_id: str, judged: Results, *, at: datetime) -> pb.GetExperimentResultsResponse:
    effect = judged.effect
    return pb.GetExperimentResultsResponse(
        experiment_id=experiment_id,
        variants=[_tally(tally) for tally in judged.tallies],
        effect=effect.value if effect else None,
        low=effect.interval.low if effect else None,
        high=effect.interval.high if effect else None,
        verdict=_VERDICTS[judged.verdict],
        explanation=judged.explanation,
        sample_ratio_p=judged.sample_ratio_p,
        at=timestamp(at),
    )


def _tally(tally: Tally) -> pb.VariantResult:
    return pb.VariantResult(
        key=tally.variant.key,
        assigned_count=tally.assigned,
        exposed_count=tally.exposed,
        judged_count=tally.judged,
        converted_count=tally.converted,
    )


def evaluation(judged: ModelEvaluation) -> pb.ModelEvaluation:
    everyone, recent, auc, lift = judged.everyone, judged.recent, judged.auc, judged.lift
    return pb.ModelEvaluation(
        model=judged.model,
        version=judged.version,
        as_of=timestamp(judged.as_of),
        horizon_days=judged.horizon_days,
        row_count=everyone.row_count,
        recent_count=recent.row_count,
        rate=everyone.rate,
        auc=everyone.auc,
        auc_low=auc.low if auc else None,
        auc_high=auc.high if auc else None,
        ece=everyone.ece,
        auc_recent=recent.auc,
        ece_recent=recent.ece,
        recency_auc=everyone.recency_auc,
        recency_auc_recent=recent.recency_auc,
        logistic_auc=everyone.logistic_auc,
        logistic_auc_recent=recent.logistic_auc,
        verdict=_VERDICTS[judged.verdict],
        explanation=judged.explanation,
        evaluated=timestamp(judged.evaluated),
        lift=lift.value if lift else None,
        lift_low=lift.low if lift else None,
        lift_high=lift.high if lift else None,
        bins=[
            pb.CalibrationBin(
                mean_probability=each.mean_probability, observed_rate=each.observed_rate, row_count=each.row_count
            )
            for each in judged.bins
        ],
    )


def model_version(version: ModelVersion) -> pb.ModelVersion:
    return pb.ModelVersion(
        registered_name=version.registered_name,
        version=version.version,
        aliases=version.aliases,
        digest=version.digest,
        feature_digest=version.feature_digest,
        created=timestamp(version.created),
        run_id=version.run_id,
    )


def promotion(record: Promotion) -> pb.Promotion:
    return pb.Promotion(
        model=record.model,
        from_version=record.from_version,
        to_version=record.to_version,
        kind=record.kind.value,
        actor=record.actor,
        reason=record.reason,
        digest=record.digest,
        promoted=timestamp(record.promoted),
        registered_name=record.registered_name,
    )


def rollout(judgement: RolloutJudgement, baseline: Traffic, candidate: Traffic) -> pb.JudgeRolloutResponse:
    return pb.JudgeRolloutResponse(
        verdict=_VERDICTS[judgement.verdict],
        explanation=judgement.explanation,
        baseline=_traffic(baseline),
        candidate=_traffic(candidate),
    )


def _traffic(traffic: Traffic) -> pb.VersionTraffic:
    return pb.VersionTraffic(
        version=traffic.version, request_count=traffic.requests, error_count=traffic.errors, p99_s=traffic.p99_s
    )
