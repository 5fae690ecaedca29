"""Scores beside what happened, evaluations, and the record of promotions."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from chassis.db import Database, session_lock
from chassis.outbox import Outbox
from services.evaluation.domain.models import ModelEvaluation, Target
from services.evaluation.domain.promotions import Kind, Promotion
from services.evaluation.domain.verdicts import Verdict

# Of more customers a sample is judged. Profile ids are keyed hashes, so the smallest of them are a random sample.
MAX_ROWS: Final = 50_000
MAX_LISTED: Final = 1_000

# The serialized fact of a promotion, with the id that it got.
FactOf = Callable[[Promotion, int], bytes]

_JUDGED: Final = f"""
SELECT probability, logistic_probability, recency_days, NOT EXISTS (
           SELECT FROM evaluation.outcomes
           WHERE outcomes.tenant_id = $1 AND outcomes.profile_id = scores.profile_id AND outcomes.name = $5
             AND outcomes.happened_at >= $4 AND outcomes.happened_at < $4::timestamptz + $6::interval
       ) AS churned
FROM evaluation.scores
WHERE tenant_id = $1 AND model = $2 AND version = $3 AND as_of = $4
ORDER BY profile_id
LIMIT {MAX_ROWS}
"""
_SAVE_EVALUATION: Final = """
INSERT INTO evaluation.model_evaluations (tenant_id, model, version, as_of, evaluated_at, evaluation)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, model, version, as_of)
DO UPDATE SET evaluated_at = excluded.evaluated_at, evaluation = excluded.evaluation
"""
_EVALUATIONS: Final = f"""
SELECT evaluation FROM evaluation.model_evaluations WHERE tenant_id = $1 AND model = $2
ORDER BY as_of DESC, evaluated_at DESC LIMIT {MAX_LISTED}
"""
_NEWEST_EVALUATION: Final = """
SELECT evaluation FROM evaluation.model_evaluations
WHERE tenant_id = $1 AND model = $2 AND version = $3 AND evaluation ->> 'verdict' <> $4
  AND as_of >= coalesce($5::timestamptz, '-infinity')
ORDER BY as_of DESC LIMIT 1
"""
_PROMOTION: Final = """
model, registered_name, from_version, to_version, kind, actor, reason, digest, feature_digest, promoted_at"""
_HISTORY: Final = f"""
SELECT promotion_id, {_PROMOTION} FROM evaluation.promotions WHERE tenant_id = $1 AND model = $2 ORDER BY promotion_id
"""
_RECORD: Final = f"""
INSERT INTO evaluation.promotions (tenant_id, {_PROMOTION}, pending_alias)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, true)
RETURNING promotion_id
"""
_PENDING: Final = f"""
SELECT DISTINCT ON (tenant_id, model) tenant_id, promotion_id, {_PROMOTION} FROM evaluation.promotions
WHERE pending_alias ORDER BY tenant_id, model, promotion_id DESC
"""
_ALIGNED: Final = """
UPDATE evaluation.promotions SET pending_alias = false
WHERE tenant_id = $1 AND model = $2 AND promotion_id <= $3 AND pending_alias
"""


@dataclass(frozen=True, slots=True)
class JudgedScore:
    """A score beside what happened."""

    probability: float
    logistic_probability: float | None
    recency_days: float
    churned: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A promotion whose aliases may not stand in the registry yet."""

    tenant: str
    promotion_id: int
    promotion: Promotion


class EvaluationStore:
    """One evaluation for each (model, version, as-of time); a later one of the same replaces it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def judged_scores(
        self, tenant: str, model: str, version: str, *, as_of: datetime, target: Target
    ) -> list[JudgedScore]:
        """In the order of the profiles' ids, at most MAX_ROWS."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_JUDGED, tenant, model, version, as_of, target.event, target.horizon)
        return [JudgedScore(*row) for row in rows]

    async def save(self, tenant: str, evaluation: ModelEvaluation) -> None:
        key = (tenant, evaluation.model, evaluation.version, evaluation.as_of, evaluation.evaluated)
        async with self._database.connection() as connection:
            await connection.execute(_SAVE_EVALUATION, *key, msgspec.json.encode(evaluation).decode())

    async def all(self, tenant: str, model: str) -> list[ModelEvaluation]:
        """Newest as-of time first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_EVALUATIONS, tenant, model)
        return [msgspec.json.decode(row["evaluation"], type=ModelEvaluation) for row in rows]

    async def find_conclusive(self, tenant: str, model: str, version: str, *, since: datetime | None) -> ModelEvaluation | None:
        """The one with the newest as-of time, none before `since`, of those that had enough data."""
        inconclusive = Verdict.NOT_ENOUGH_DATA.value
        async with self._database.connection() as connection:
            found = await connection.fetchval(_NEWEST_EVALUATION, tenant, model, version, inconclusive, since)
        return msgspec.json.decode(found, type=ModelEvaluation) if found else None


class PromotionStore:
    """The truth about who is champion. The registry's aliases follow it."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def history(self, tenant: str, model: str) -> list[Promotion]:
        """Oldest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HISTORY, tenant, model)
        return [_promotion(row) for row in rows]

    async def record(
        self, tenant: str, model: str, decide: Callable[[Sequence[Promotion]], Promotion], fact_of: FactOf
    ) -> Promotion:
        """Records what `decide` makes of the history (oldest first), with its fact; nobody else promotes meanwhile."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1 || ':' || $2, 1))", tenant, model)
            promotion = decide([_promotion(row) for row in await connection.fetch(_HISTORY, tenant, model)])
            promotion_id = await connection.fetchval(_RECORD, tenant, *_values(promotion))
            await self._outbox.add(connection, tenant, [fact_of(promotion, promotion_id)])
        return promotion

    async def pending(self) -> list[Pending]:
        """The newest promotion of each model of each tenant, where its aliases are pending."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PENDING)
        return [Pending(row["tenant_id"], row["promotion_id"], _promotion(row)) for row in rows]

    async def mark_aligned(self, pending: Pending) -> None:
        """Its aliases stand, and with them those of all that came before."""
        async with self._database.connection() as connection:
            await connection.execute(_ALIGNED, pending.tenant, pending.promotion.model, pending.promotion_id)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether nobody else moves aliases while inside.

        A lock of the connection: no transaction stays open while others are asked.
        """
        statement = "SELECT pg_try_advisory_lock(hashtextextended('evaluation.aliases', 1))"
        async with self._database.connection() as connection, session_lock(connection, statement) as is_alone:
            yield is_alone


def _promotion(row: Any) -> Promotion:
    return Promotion(
        model=row["model"],
        registered_name=row["registered_name"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        kind=Kind(row["kind"]),
        actor=row["actor"],
        reason=row["reason"],
        digest=row["digest"],
        feature_digest=row["feature_digest"],
        promoted=row["promoted_at"],
    )


def _values(promotion: Promotion) -> tuple[Any, ...]:
    return (
        promotion.model,
        promotion.registered_name,
        promotion.from_version,
        promotion.to_version,
        promotion.kind.value,
        promotion.actor,
        promotion.reason,
        promotion.digest,
        promotion.feature_digest,
        promotion.promoted,
    )
