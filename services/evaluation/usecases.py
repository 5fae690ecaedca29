"""Judging a model by its recorded scores, and making the registry's aliases follow the record of promotions."""

import asyncio
import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from chassis import telemetry
from chassis.errors import Unavailable
from ml import metrics
from services.evaluation.clients.registry import CHAMPION, PREVIOUS, Registry
from services.evaluation.domain.models import (
    RECENT_DAYS,
    Bin,
    Estimate,
    Group,
    ModelEvaluation,
    Target,
    verdict_of,
)
from services.evaluation.store.models import JudgedScore, Pending, PromotionStore

PENDING_ALIASES: Final = Gauge(
    "rapport_evaluation_pending_aliases_models", "Models whose aliases in the registry do not follow the promotions yet."
)

# Of 5,000 rows 500 resamples take about a second; of more rows fewer are needed, since the interval is narrower.
_DRAWN_ROWS: Final = 2_500_000
_MIN_RESAMPLES: Final = 200
_MAX_RESAMPLES: Final = 1_000

_LONGEST_PAUSE_S: Final = 60.0

_Column = NDArray[np.float64]


def judge_scores(
    model: str, version: str, target: Target, scores: Sequence[JudgedScore], *, as_of: datetime, evaluated: datetime
) -> ModelEvaluation:
    """Takes seconds of processor time for many rows: not for the event loop. The same rows give the same answer."""
    labels = np.array([score.churned for score in scores], dtype=np.float64)
    probability = np.array([score.probability for score in scores], dtype=np.float64)
    recency = np.array([score.recency_days for score in scores], dtype=np.float64)
    logistic = np.array([_or_nan(score.logistic_probability) for score in scores], dtype=np.float64)
    recent = recency <= RECENT_DAYS
    everyone = _group(labels, probability, recency, logistic)
    auc = lift = None
    if everyone.auc is not None:
        chance = np.random.default_rng(_seed(model, version, as_of))
        resamples = max(_MIN_RESAMPLES, min(_MAX_RESAMPLES, _DRAWN_ROWS // len(scores)))
        auc = _estimate(metrics.bootstrap_auc(labels, probability, chance=chance, resamples=resamples))
        lift = _estimate(metrics.paired_auc_difference(labels, probability, recency, chance=chance, resamples=resamples))
    verdict, explanation = verdict_of(everyone, auc, lift)
    return ModelEvaluation(
        model=model,
        version=version,
        as_of=as_of,
        horizon_days=target.horizon_days,
        everyone=everyone,
        recent=_group(labels[recent], probability[recent], recency[recent], logistic[recent]),
        auc=auc,
        lift=lift,
        verdict=verdict,
        explanation=explanation,
        evaluated=evaluated,
        bins=tuple(
            Bin(each.mean_probability, each.observed_rate, each.row_count)
            for each in metrics.calibration_bins(labels, probability)
        ),
    )


def _group(labels: _Column, probability: _Column, recency: _Column, logistic: _Column) -> Group:
    if not len(labels):
        return Group(0)
    return Group(
        row_count=len(labels),
        rate=float(labels.mean()),
        auc=_known(metrics.auc(labels, probability)),
        ece=_known(metrics.expected_calibration_error(labels, probability)),
        recency_auc=_known(metrics.auc(labels, recency)),
        # On the same rows, or not at all.
        logistic_auc=None if np.isnan(logistic).any() else _known(metrics.auc(labels, logistic)),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _estimate(interval: metrics.Interval) -> Estimate:
    return Estimate(interval.value, interval.low, interval.high)


def _seed(model: str, version: str, as_of: datetime) -> int:
    return int.from_bytes(hashlib.sha256(f"{model}:{version}:{as_of.isoformat()}".encode()).digest()[:8])


class Aligner:
    """Moves the registry's aliases until they say what the record of promotions says."""

    def __init__(self, promotions: PromotionStore, registry: Registry, *, pause_s: float = 5.0) -> None:
        self._promotions = promotions
        self._registry = registry
        self._pause_s = pause_s

    async def run(self) -> None:
        """For ever: looks for what a promotion could not do at once, ever more seldom while the registry is gone."""
        pause_s = self._pause_s
        while True:
            try:
                await self.align()
                pause_s = self._pause_s
            except Unavailable as error:
                telemetry.logger().warning("aliases could not be moved and are tried again", reason=error.reason.name)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def align(self) -> None:
        """Moves what is pending, each model for itself. Raises Unavailable where something could not be moved."""
        async with self._promotions.alone() as held:
            if not held:
                return  # another process is at it
            waiting = await self._promotions.pending()
            failures = [failure for pending in waiting if (failure := await self._move(pending))]
            PENDING_ALIASES.set(len(failures))
        if failures:
            raise failures[0]

    async def _move(self, pending: Pending) -> Unavailable | None:
        promotion = pending.promotion
        try:
            await self._registry.point(promotion.registered_name, CHAMPION, promotion.to_version)
            await self._registry.point(promotion.registered_name, PREVIOUS, promotion.from_version)
            await self._promotions.mark_aligned(pending)
        except Unavailable as failure:
            return failure
        return None
