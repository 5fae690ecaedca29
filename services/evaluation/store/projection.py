"""What evaluation keeps of the log: outcomes, scores, and which profile went into which."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.log import Cursor, Position
from services.evaluation.domain.models import TARGETS
from services.evaluation.store.locks import change_profiles

_FOLLOW: Final = """
UPDATE evaluation.merged_profiles AS known SET into_id = merge.into_id
FROM unnest($2::uuid[], $3::uuid[]) AS merge (from_id, into_id)
WHERE known.tenant_id = $1 AND known.into_id = merge.from_id AND known.profile_id <> merge.into_id
"""
_REMEMBER: Final = """
INSERT INTO evaluation.merged_profiles (tenant_id, profile_id, into_id)
SELECT $1, from_id, into_id FROM unnest($2::uuid[], $3::uuid[]) AS merge (from_id, into_id)
ON CONFLICT (tenant_id, profile_id) DO UPDATE SET into_id = excluded.into_id
"""
_MOVE_OUTCOMES: Final = """
WITH gone AS (
    DELETE FROM evaluation.outcomes USING unnest($2::uuid[], $3::uuid[]) AS merge (from_id, into_id)
    WHERE tenant_id = $1 AND profile_id = from_id
    RETURNING into_id, name, happened_at, coalesce(node_id, from_id) AS node_id
)
INSERT INTO evaluation.outcomes (tenant_id, profile_id, name, happened_at, node_id)
SELECT $1, into_id, name, happened_at, node_id FROM gone ON CONFLICT DO NOTHING
"""
# Where both had a score of the same version and time, the surviving profile keeps its own.
_MOVE_SCORES: Final = """
WITH gone AS (
    DELETE FROM evaluation.scores USING unnest($2::uuid[], $3::uuid[]) AS merge (from_id, into_id)
    WHERE tenant_id = $1 AND profile_id = from_id
    RETURNING into_id, from_id, model, version, as_of, probability, logistic_probability, recency_days,
        coalesce(node_id, from_id) AS node_id
)
INSERT INTO evaluation.scores
    (tenant_id, model, version, as_of, profile_id, probability, logistic_probability, recency_days, node_id)
SELECT $1, model, version, as_of, into_id, probability, logistic_probability, recency_days, node_id FROM gone ORDER BY from_id
ON CONFLICT DO NOTHING
"""
# Where both were assigned, the earlier assignment counts: that is what the customer met first.
_MOVE_ASSIGNMENTS: Final = """
WITH gone AS (
    DELETE FROM evaluation.assignments USING unnest($2::uuid[], $3::uuid[]) AS merge (from_id, into_id)
    WHERE tenant_id = $1 AND profile_id = from_id
    RETURNING experiment_id, into_id, variant, assigned_at, exposed_at, coalesce(node_id, from_id) AS node_id
), earliest AS (
    SELECT DISTINCT ON (experiment_id, into_id) * FROM gone ORDER BY experiment_id, into_id, assigned_at, variant
)
INSERT INTO evaluation.assignments AS kept
    (tenant_id, experiment_id, profile_id, variant, assigned_at, exposed_at, node_id)
SELECT $1, experiment_id, into_id, variant, assigned_at, exposed_at, node_id FROM earliest
ON CONFLICT (tenant_id, experiment_id, profile_id) DO UPDATE SET
    node_id = CASE WHEN excluded.assigned_at < kept.assigned_at THEN excluded.node_id
                   ELSE coalesce(kept.node_id, kept.profile_id) END,
    variant = CASE WHEN excluded.assigned_at < kept.assigned_at THEN excluded.variant ELSE kept.variant END,
    exposed_at = CASE WHEN excluded.variant = kept.variant THEN least(excluded.exposed_at, kept.exposed_at)
                      WHEN excluded.assigned_at < kept.assigned_at THEN excluded.exposed_at ELSE kept.exposed_at END,
    assigned_at = least(excluded.assigned_at, kept.assigned_at)
"""
_ADD_OUTCOMES: Final = """
INSERT INTO evaluation.outcomes (tenant_id, profile_id, name, happened_at, node_id)
SELECT $1, coalesce(merged.into_id, given.profile_id), given.name, given.happened_at, given.profile_id
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS given (profile_id, name, happened_at)
LEFT JOIN evaluation.merged_profiles AS merged ON merged.tenant_id = $1 AND merged.profile_id = given.profile_id
ON CONFLICT DO NOTHING
"""
# A profile's own score comes before that of one which has gone into it.
_ADD_SCORES: Final = """
INSERT INTO evaluation.scores
    (tenant_id, model, version, as_of, profile_id, probability, logistic_probability, recency_days, node_id)
SELECT $1, model, version, as_of, coalesce(merged.into_id, given.profile_id), probability, logistic_probability, recency_days,
    given.profile_id
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::float8[], $7::float8[], $8::float8[])
     AS given (profile_id, model, version, as_of, probability, logistic_probability, recency_days)
LEFT JOIN evaluation.merged_profiles AS merged ON merged.tenant_id = $1 AND merged.profile_id = given.profile_id
ORDER BY merged.into_id NULLS FIRST
ON CONFLICT DO NOTHING
"""
# $2: nodes, $3: the profile that each belongs to now, $4: the one that it parted from. What came of a node goes with it; where
# both had been assigned, only the earlier assignment was kept, and the other profile is assigned anew.
_SAID: Final = "unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)"
_PART: Final = (
    f"""
    DELETE FROM evaluation.merged_profiles USING {_SAID} WHERE tenant_id = $1 AND profile_id IN (said.node, said.kept)""",
    f"""
    INSERT INTO evaluation.merged_profiles (tenant_id, profile_id, into_id)
    SELECT $1, node, kept FROM {_SAID} WHERE node <> kept""",
    f"""
    WITH gone AS (
        DELETE FROM evaluation.outcomes USING {_SAID}
        WHERE tenant_id = $1 AND profile_id = parted AND node_id = node RETURNING kept, name, happened_at, node_id
    )
    INSERT INTO evaluation.outcomes (tenant_id, profile_id, name, happened_at, node_id)
    SELECT $1, * FROM gone ON CONFLICT DO NOTHING""",
    f"""
    WITH gone AS (
        DELETE FROM evaluation.scores USING {_SAID} WHERE tenant_id = $1 AND profile_id = parted AND node_id = node
        RETURNING model, version, as_of, kept, probability, logistic_probability, recency_days, node_id
    )
    INSERT INTO evaluation.scores
        (tenant_id, model, version, as_of, profile_id, probability, logistic_probability, recency_days, node_id)
    SELECT $1, * FROM gone ON CONFLICT DO NOTHING""",
    f"""
    WITH gone AS (
        DELETE FROM evaluation.assignments USING {_SAID} WHERE tenant_id = $1 AND profile_id = parted AND node_id = node
        RETURNING experiment_id, kept, variant, assigned_at, exposed_at, node_id
    )
    INSERT INTO evaluation.assignments (tenant_id, experiment_id, profile_id, variant, assigned_at, exposed_at, node_id)
    SELECT $1, * FROM gone ON CONFLICT DO NOTHING""",
)
# By the column: a bare xid would be the text of the answer.
_END: Final = "SELECT xid::text AS xid, seq FROM log.events ORDER BY events.xid DESC, events.seq DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A customer had an event of that name."""

    profile_id: UUID
    name: str
    happened: datetime


@dataclass(frozen=True, slots=True)
class RecordedScore:
    """What one version said of a customer as of a time. `recency_days`: since the last order."""

    profile_id: UUID
    model: str
    version: str
    as_of: datetime
    probability: float
    logistic_probability: float | None
    recency_days: float


@dataclass(frozen=True, slots=True)
class Parting:
    """Nodes of a profile that belong to another one now."""

    profile_id: UUID
    into_id: UUID
    nodes: Sequence[UUID]


@dataclass(slots=True)
class Changes:
    """What a batch of the log says of one tenant. `merges`: from -> into, chains followed; `partings` come after them."""

    merges: Mapping[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    scores: list[RecordedScore] = field(default_factory=list[RecordedScore])
    partings: list[Parting] = field(default_factory=list[Parting])

    def merge(self, gone: UUID, kept: UUID) -> None:
        """Profiles that parted just before and are one again never did."""
        self.partings = [each for each in self.partings if {each.profile_id, each.into_id} != {gone, kept}]

    @property
    def says_something(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.merges or self.outcomes or self.scores or self.partings)


class ProjectionStore:
    """Every write is idempotent; a row is kept under the profile that its own profile has gone into."""

    def __init__(self, database: Database, cursor: Cursor) -> None:
        self._database = database
        self._cursor = cursor

    async def tracked_names(self) -> dict[str, frozenset[str]]:
        """By tenant: the names of events that some experiment counts. What a model predicts is kept of every tenant."""
        select = "SELECT tenant_id, array_agg(DISTINCT outcome_event) AS names FROM evaluation.experiments GROUP BY tenant_id"
        async with self._database.connection() as connection:
            rows = await connection.fetch(select)
        return {row["tenant_id"]: frozenset(row["names"]) for row in rows}

    async def apply(self, changes: Mapping[str, Changes], position: Position) -> None:
        """Writes all that a batch says, by tenant, and moves the cursor on."""
        async with self._database.transaction() as connection:
            for tenant, change in sorted(changes.items()):
                await _merge(connection, tenant, change.merges)
                await _add_outcomes(connection, tenant, change.outcomes)
                await _add_scores(connection, tenant, change.scores)
                await _part(connection, tenant, change.partings)
            await self._cursor.advance(connection, position)

    async def catch_up(self, *, timeout_s: float) -> bool:
        """Waits until all that was in the log at the call is projected; False where it takes longer."""
        async with self._database.connection() as connection:
            end = await connection.fetchrow(_END)
        if end is None:
            return True
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            async with self._database.connection() as connection:
                if await self._cursor.load(connection) >= (int(end["xid"]), end["seq"]):
                    return True
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(0.02)


ALWAYS_TRACKED: Final = frozenset(target.event for target in TARGETS.values())


async def _merge(connection: Connection, tenant: str, merges: Mapping[UUID, UUID]) -> None:
    if not merges:
        return
    await change_profiles(connection, tenant)
    gone, kept = list(merges), list(merges.values())
    for statement in (_FOLLOW, _REMEMBER, _MOVE_OUTCOMES, _MOVE_SCORES, _MOVE_ASSIGNMENTS):
        await connection.execute(statement, tenant, gone, kept)


async def _part(connection: Connection, tenant: str, partings: Sequence[Parting]) -> None:
    if not partings:
        return
    await change_profiles(connection, tenant)
    for parting in partings:
        nodes, count = list(parting.nodes), len(parting.nodes)
        for statement in _PART:
            await connection.execute(statement, tenant, nodes, [parting.into_id] * count, [parting.profile_id] * count)


async def _add_outcomes(connection: Connection, tenant: str, outcomes: Sequence[Outcome]) -> None:
    if outcomes:
        columns = zip(*((each.profile_id, each.name, each.happened) for each in outcomes), strict=True)
        await connection.execute(_ADD_OUTCOMES, tenant, *(list(column) for column in columns))


async def _add_scores(connection: Connection, tenant: str, scores: Sequence[RecordedScore]) -> None:
    if scores:
        rows = (
            (s.profile_id, s.model, s.version, s.as_of, s.probability, s.logistic_probability, s.recency_days) for s in scores
        )
        await connection.execute(_ADD_SCORES, tenant, *(list(column) for column in zip(*rows, strict=True)))
