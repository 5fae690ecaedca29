"""Experiments, assignments and exposures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.errors import Conflict, Exhausted, NotFound, Reason
from chassis.outbox import Outbox
from services.evaluation.domain.experiments import Experiment, Tally, Variant
from services.evaluation.store.locks import share_profiles

MAX_EXPERIMENTS: Final = 1000

# The serialized fact of (profile id, variant).
FactOf = Callable[[UUID, str], bytes]

_COLUMNS: Final = (
    "experiment_id, hypothesis, variant_keys, variant_shares, outcome_event, outcome_window_days, margin, created_at"
)
_INSERT: Final = f"""
INSERT INTO evaluation.experiments (tenant_id, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT DO NOTHING
"""
_ASSIGN: Final = """
INSERT INTO evaluation.assignments (tenant_id, experiment_id, profile_id, variant, assigned_at, node_id)
SELECT $1, $2, coalesce(merged.into_id, given.profile_id), given.variant, $5, given.profile_id
FROM unnest($3::uuid[], $4::text[]) AS given (profile_id, variant)
LEFT JOIN evaluation.merged_profiles AS merged ON merged.tenant_id = $1 AND merged.profile_id = given.profile_id
ON CONFLICT DO NOTHING
RETURNING profile_id, variant
"""
_ASSIGNED: Final = """
SELECT given.profile_id AS given_id, assignments.profile_id, assignments.variant, assignments.assigned_at
FROM unnest($3::uuid[]) AS given (profile_id)
LEFT JOIN evaluation.merged_profiles AS merged ON merged.tenant_id = $1 AND merged.profile_id = given.profile_id
JOIN evaluation.assignments AS assignments
  ON assignments.tenant_id = $1 AND assignments.experiment_id = $2
 AND assignments.profile_id = coalesce(merged.into_id, given.profile_id)
"""
_EXPOSE: Final = """
UPDATE evaluation.assignments SET exposed_at = $4
WHERE tenant_id = $1 AND experiment_id = $2 AND profile_id = ANY($3) AND exposed_at IS NULL
RETURNING profile_id, variant
"""
_TALLY: Final = """
SELECT variant, count(*) AS assigned, count(exposed_at) AS exposed, count(*) FILTER (WHERE is_judged) AS judged,
       count(*) FILTER (WHERE is_judged AND EXISTS (
           SELECT FROM evaluation.outcomes
           WHERE outcomes.tenant_id = $1 AND outcomes.profile_id = assigned.profile_id AND outcomes.name = $3
             AND outcomes.happened_at >= assigned.assigned_at AND outcomes.happened_at < assigned.assigned_at + $4
       )) AS converted
FROM (
    SELECT *, assigned_at + $4::interval <= $5 AS is_judged
    FROM evaluation.assignments WHERE tenant_id = $1 AND experiment_id = $2
) AS assigned
GROUP BY variant
"""


@dataclass(frozen=True, slots=True)
class Assignment:
    """`profile_id` is the surviving one, where profiles were merged."""

    profile_id: UUID
    variant: str
    assigned: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """An experiment with what the table knows of it."""

    experiment: Experiment
    created: datetime
    assigned_count: int


class ExperimentStore:
    """Assignments are kept: who was assigned once keeps that variant, whatever the hash would say later."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def create(self, tenant: str, experiment: Experiment, *, created: datetime) -> Listed:
        """A repeat with the same content is answered with what stands. Raises Conflict where the content differs."""
        keys = [variant.key for variant in experiment.variants]
        shares = [variant.share for variant in experiment.variants]
        values = (experiment.experiment_id, experiment.hypothesis, keys, shares, experiment.outcome_event)
        async with self._database.transaction() as connection:
            count = await connection.fetchval("SELECT count(*) FROM evaluation.experiments WHERE tenant_id = $1", tenant)
            done = await connection.execute(
                _INSERT, tenant, *values, experiment.outcome_window_days, experiment.margin, created
            )
            if done.endswith(" 1") and count >= MAX_EXPERIMENTS:
                raise Exhausted(f"a tenant has at most {MAX_EXPERIMENTS} experiments", field="experiment_id")
            listed = await _find(connection, tenant, experiment.experiment_id)
        if listed is None or listed.experiment != experiment:
            raise Conflict("there is another experiment of that id", reason=Reason.ALREADY_EXISTS, field="experiment_id")
        return listed

    async def get(self, tenant: str, experiment_id: str) -> Listed:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            found = await _find(connection, tenant, experiment_id)
        if found is None:
            raise NotFound("there is no experiment of that id", field="experiment_id")
        return found

    async def all(self, tenant: str) -> list[Listed]:
        """Newest first."""
        select = f"SELECT {_COLUMNS} FROM evaluation.experiments WHERE tenant_id = $1 ORDER BY created_at DESC, experiment_id"
        counted = "SELECT experiment_id, count(*) AS n FROM evaluation.assignments WHERE tenant_id = $1 GROUP BY 1"
        async with self._database.transaction() as connection:
            rows = await connection.fetch(select, tenant)
            counts = {row["experiment_id"]: row["n"] for row in await connection.fetch(counted, tenant)}
        return [_listed(row, counts.get(row["experiment_id"], 0)) for row in rows]

    async def assign(
        self, tenant: str, experiment_id: str, variants: Sequence[tuple[UUID, str]], *, at: datetime, fact_of: FactOf
    ) -> dict[UUID, Assignment]:
        """Assigns those who are not assigned yet, with their facts, and answers all, by the id that was given."""
        profile_ids = [profile_id for profile_id, _ in variants]
        keys = [variant for _, variant in variants]
        async with self._database.transaction() as connection:
            await share_profiles(connection, tenant)
            added = await connection.fetch(_ASSIGN, tenant, experiment_id, profile_ids, keys, at)
            await self._outbox.add(connection, tenant, [fact_of(row["profile_id"], row["variant"]) for row in added])
            rows = await connection.fetch(_ASSIGNED, tenant, experiment_id, profile_ids)
        return {row["given_id"]: Assignment(row["profile_id"], row["variant"], row["assigned_at"]) for row in rows}

    async def expose(
        self, tenant: str, experiment_id: str, profile_ids: Sequence[UUID], *, at: datetime, fact_of: FactOf
    ) -> int:
        """Records the first exposure of each, with its fact.

        Returns how many of them are exposed now; the others were never assigned.
        """
        async with self._database.transaction() as connection:
            await share_profiles(connection, tenant)
            rows = await connection.fetch(_ASSIGNED, tenant, experiment_id, profile_ids)
            assigned = list({row["profile_id"] for row in rows})
            added = await connection.fetch(_EXPOSE, tenant, experiment_id, assigned, at)
            await self._outbox.add(connection, tenant, [fact_of(row["profile_id"], row["variant"]) for row in added])
        return len(assigned)

    async def tallies(self, tenant: str, experiment: Experiment, *, at: datetime) -> list[Tally]:
        """One for each variant, in the experiment's order; judged as far as windows have ended at `at`."""
        window = timedelta(days=experiment.outcome_window_days)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_TALLY, tenant, experiment.experiment_id, experiment.outcome_event, window, at)
        by_variant = {row["variant"]: row for row in rows}
        return [_tally(variant, by_variant.get(variant.key)) for variant in experiment.variants]


async def _find(connection: Connection, tenant: str, experiment_id: str) -> Listed | None:
    select = f"SELECT {_COLUMNS} FROM evaluation.experiments WHERE tenant_id = $1 AND experiment_id = $2"
    counted = "SELECT count(*) FROM evaluation.assignments WHERE tenant_id = $1 AND experiment_id = $2"
    row = await connection.fetchrow(select, tenant, experiment_id)
    return _listed(row, await connection.fetchval(counted, tenant, experiment_id)) if row else None


def _listed(row: Any, assigned_count: int) -> Listed:
    variants = zip(row["variant_keys"], row["variant_shares"], strict=True)
    experiment = Experiment(
        experiment_id=row["experiment_id"],
        hypothesis=row["hypothesis"],
        variants=tuple(Variant(key, share) for key, share in variants),
        outcome_event=row["outcome_event"],
        outcome_window_days=row["outcome_window_days"],
        margin=row["margin"],
    )
    return Listed(experiment, row["created_at"], assigned_count)


def _tally(variant: Variant, row: Any) -> Tally:
    if row is None:
        return Tally(variant, 0, 0, 0, 0)
    return Tally(variant, row["assigned"], row["exposed"], row["judged"], row["converted"])
