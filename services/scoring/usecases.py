"""From references to scores."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from prometheus_client import Counter

from ml.bundle import Model
from ml.reasons import reasons
from services.scoring import facts
from services.scoring.clients import Features, ProfilesClient
from services.scoring.domain import (
    Answer,
    Purpose,
    Reason,
    Refusal,
    Score,
    Subject,
    matrix_of,
    purpose_of,
    refusal_of,
    registered_name_of,
)
from services.scoring.models import Models, other_features
from services.scoring.store import Recorded, ScoreStore

SCORED: Final = Counter("rapport_scoring_scored_total", "Scores given, by purpose.", ["purpose"])
NOT_SCORED: Final = Counter("rapport_scoring_not_scored_total", "Answers without a score, by reason.", ["reason"])

# Some 0.1 ms each: more than these are computed beside the loop, so that other calls go on.
_MOST_INLINE: Final = 16


class Scorer:
    """Scores by the champion or by a named version."""

    def __init__(self, models: Models, profiles: ProfilesClient, store: ScoreStore) -> None:
        self._models = models
        self._profiles = profiles
        self._store = store

    async def score(self, tenant_id: str, name: str, refs: Sequence[str], *, at: datetime | None, version: str) -> list[Answer]:
        """One answer for each reference, in order; each score is recorded before it is given.

        Raises Conflict where the model was trained on other features, NotFound where there is no such version.
        """
        if not refs:
            return []
        model = await self._model(tenant_id, name, version)
        if model is None:
            NOT_SCORED.labels(Refusal.NO_MODEL.name).inc(len(refs))
            return [Answer(ref, None, refusal=Refusal.NO_MODEL) for ref in refs]
        features = await self._profiles.features(refs, at)
        if features.digest != (trained := model.bundle.feature_digest):
            registered = registered_name_of(tenant_id, name)
            raise other_features(registered, model.version, trained=trained, served=features.digest)
        scored = datetime.now(UTC)
        if len(refs) > _MOST_INLINE:
            answers = await asyncio.to_thread(answers_of, name, model, features, scored)
        else:
            answers = answers_of(name, model, features, scored)
        await self._record(tenant_id, name, answers, purpose_of(version, at))
        return answers

    async def _model(self, tenant_id: str, name: str, version: str) -> Model | None:
        if version:
            return await self._models.named(tenant_id, name, version)
        serving = await self._models.champion(tenant_id, name)
        return serving.model if serving else None

    async def _record(self, tenant_id: str, name: str, answers: Sequence[Answer], purpose: Purpose) -> None:
        # Two references may lead to the same profile.
        rows = {
            each.profile_id: Recorded(each.profile_id, each.score, facts.scored(each.profile_id, each.score, purpose))
            for each in answers
            if each.score and each.profile_id
        }
        if rows and purpose is Purpose.SERVING:
            await self._store.record(tenant_id, name, list(rows.values()))
        elif rows:
            await self._store.tell(tenant_id, [row.fact for row in rows.values()])
        SCORED.labels(purpose.value).inc(len(rows))
        for each in answers:
            if each.refusal:
                NOT_SCORED.labels(each.refusal.name).inc()


def answers_of(name: str, model: Model, features: Features, scored: datetime) -> list[Answer]:
    """One matrix for all who can be scored."""
    refusals = [refusal_of(subject) for subject in features.subjects]
    subjects = [subject for subject, refusal in zip(features.subjects, refusals, strict=True) if refusal is None]
    scores = iter(_scores(name, model, subjects, features.at, scored) if subjects else ())
    return [
        Answer(subject.ref, subject.profile_id, None if refusal else next(scores), refusal)
        for subject, refusal in zip(features.subjects, refusals, strict=True)
    ]


def _scores(name: str, model: Model, subjects: Sequence[Subject], as_of: datetime, scored: datetime) -> list[Score]:
    names = model.bundle.features
    matrix = matrix_of(subjects, names)
    probabilities = model.predict(matrix)
    known = ~np.isnan(matrix)
    columns = zip(
        subjects,
        matrix.tolist(),
        known.tolist(),
        probabilities.tolist(),
        model.percentile(probabilities).tolist(),
        model.logistic(matrix).tolist(),
        model.contributions(matrix).tolist(),
        strict=True,
    )
    return [
        Score(
            model=name,
            version=model.version,
            probability=probability,
            percentile=percentile,
            reasons=[Reason(each.feature, each.text, each.contribution, each.value) for each in reasons(names, row, shares)],
            as_of=as_of,
            scored=scored,
            newest_event=subject.newest_event,
            feature_digest=model.bundle.feature_digest,
            logistic_probability=logistic,
            features={feature: value for feature, value, is_known in zip(names, row, there, strict=True) if is_known},
        )
        for subject, row, there, probability, percentile, logistic, shares in columns
    ]
