"""What feedback keeps of the log: who is in which segment, which profile became which, and which parted again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.log import Cursor, Position
from services.feedback.domain import Case, Enrolment, Merges, Parting, Step, SurveyKind, after_merge, last_word
from services.feedback.store.rows import ANSWER_COLUMNS, CASE_COLUMNS, answer_of, columns, keep_answers_out, save_case

_BECAME: Final = "SELECT profile_id, into_id FROM feedback.merged_profiles WHERE tenant_id = $1 AND profile_id = ANY($2)"
_ENTER: Final = """
INSERT INTO feedback.memberships (tenant_id, segment_key, profile_id)
SELECT $1, * FROM unnest($2::text[], $3::uuid[]) ON CONFLICT DO NOTHING
"""
_LEAVE: Final = """
DELETE FROM feedback.memberships AS m USING unnest($2::text[], $3::uuid[]) AS gone (segment_key, profile_id)
WHERE m.tenant_id = $1 AND m.profile_id = gone.profile_id AND m.segment_key = gone.segment_key
"""
_MOVES: Final = "moves AS (SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS move (source, target))"
_FOLLOW: Final = f"""
WITH {_MOVES}
UPDATE feedback.merged_profiles SET into_id = target FROM moves
WHERE tenant_id = $1 AND into_id = source AND profile_id <> target
"""
_REMEMBER: Final = f"""
WITH {_MOVES}
INSERT INTO feedback.merged_profiles (tenant_id, profile_id, into_id) SELECT $1, source, target FROM moves
ON CONFLICT (tenant_id, profile_id) DO UPDATE SET into_id = excluded.into_id
"""
# Who is what others became is nobody else.
_FORGET: Final = "DELETE FROM feedback.merged_profiles WHERE tenant_id = $1 AND profile_id = ANY($2)"
_MOVE_MEMBERSHIPS: Final = f"""
WITH {_MOVES},
gone AS (
    DELETE FROM feedback.memberships USING moves WHERE tenant_id = $1 AND profile_id = source RETURNING target, segment_key
)
INSERT INTO feedback.memberships (tenant_id, profile_id, segment_key) SELECT $1, target, segment_key FROM gone
ON CONFLICT DO NOTHING
"""
# Of two answers to one survey the newest stands. Its revision is one that neither had.
_MOVE_ANSWERS: Final = f"""
WITH {_MOVES},
gone AS (
    DELETE FROM feedback.answers USING moves WHERE tenant_id = $1 AND profile_id = source
    RETURNING survey_id, target, rating, sealed, answered_at, revision, coalesce(node_id, source) AS node_id
), newest AS (
    SELECT DISTINCT ON (survey_id, target) *, max(revision) OVER (PARTITION BY survey_id, target) AS last_revision
    FROM gone ORDER BY survey_id, target, answered_at DESC, revision DESC
)
INSERT INTO feedback.answers AS known (tenant_id, survey_id, profile_id, rating, sealed, answered_at, revision, node_id)
SELECT $1, survey_id, target, rating, sealed, answered_at, last_revision + 1, node_id FROM newest
ON CONFLICT (tenant_id, survey_id, profile_id) DO UPDATE SET
    rating = CASE WHEN excluded.answered_at > known.answered_at THEN excluded.rating ELSE known.rating END,
    sealed = CASE WHEN excluded.answered_at > known.answered_at THEN excluded.sealed ELSE known.sealed END,
    node_id = CASE WHEN excluded.answered_at > known.answered_at THEN excluded.node_id ELSE known.node_id END,
    answered_at = greatest(excluded.answered_at, known.answered_at),
    revision = greatest(excluded.revision, known.revision + 1)
RETURNING profile_id
"""
_MOVE_CASES: Final = f"""
WITH {_MOVES}
UPDATE feedback.cases SET profile_id = target, node_id = coalesce(node_id, source) FROM moves
WHERE tenant_id = $1 AND profile_id = source
"""
_OPEN_CASES: Final = f"""
SELECT {", ".join(f"c.{column} AS case_{column}" for column in CASE_COLUMNS.split(", "))},
    {", ".join(f"a.{column}" for column in ANSWER_COLUMNS.split(", "))}, s.kind
FROM feedback.cases AS c
JOIN feedback.answers AS a USING (tenant_id, survey_id, profile_id)
JOIN feedback.surveys AS s USING (tenant_id, survey_id)
WHERE c.tenant_id = $1 AND c.profile_id = ANY($2) AND c.closed_at IS NULL ORDER BY c.survey_id, c.profile_id
"""


# $2: nodes, $3: the profile that each belongs to now, $4: the one that it parted from. An answer goes with who gave it; of two
# to one survey only the newer was kept. Segments are told of both anew.
_SAID: Final = "unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)"
_PART: Final = (
    f"DELETE FROM feedback.merged_profiles USING {_SAID} WHERE tenant_id = $1 AND profile_id IN (said.node, said.kept)",
    f"""
    INSERT INTO feedback.merged_profiles (tenant_id, profile_id, into_id)
    SELECT $1, node, kept FROM {_SAID} WHERE node <> kept""",
    f"""
    UPDATE feedback.answers SET profile_id = kept, revision = revision + 1 FROM {_SAID}
    WHERE tenant_id = $1 AND profile_id = parted AND node_id = node AND NOT EXISTS (
        SELECT FROM feedback.answers AS own
        WHERE own.tenant_id = $1 AND own.survey_id = answers.survey_id AND own.profile_id = kept
    )""",
    f"""
    UPDATE feedback.cases SET profile_id = kept FROM {_SAID}
    WHERE tenant_id = $1 AND profile_id = parted AND node_id = node""",
)


class ProjectionStore:
    """Every write is idempotent; rows are kept by the profile that a profile has become."""

    def __init__(self, database: Database, cursor: Cursor) -> None:
        self._database = database
        self._cursor = cursor

    async def apply(self, steps: Mapping[str, Sequence[Step]], position: Position) -> None:
        """Writes what a batch of the log says, by tenant and in its order, and moves the cursor on."""
        async with self._database.transaction() as connection:
            for tenant, each in sorted(steps.items()):
                if any(isinstance(step, Merges | Parting) for step in each):
                    await keep_answers_out(connection, tenant)
                for step in each:
                    if isinstance(step, Merges):
                        await _merge(connection, tenant, step.targets)
                    elif isinstance(step, Parting):
                        await _part(connection, tenant, step)
                    else:
                        await _enrol(connection, tenant, step)
            await self._cursor.advance(connection, position)


async def _enrol(connection: Connection, tenant: str, enrolments: Sequence[Enrolment]) -> None:
    said = {each.profile_id for each in enrolments}
    became = {row["profile_id"]: row["into_id"] for row in await connection.fetch(_BECAME, tenant, list(said))}
    # In the order in which it was said, also of those who are one by now.
    last = last_word(replace(each, profile_id=became.get(each.profile_id, each.profile_id)) for each in enrolments)
    for statement, entered in ((_LEAVE, False), (_ENTER, True)):
        if rows := [(each.segment, each.profile_id) for each in last if each.entered is entered]:
            await connection.execute(statement, tenant, *columns(rows))


async def _merge(connection: Connection, tenant: str, targets: Mapping[UUID, UUID]) -> None:
    if not targets:
        return
    sources, into = list(targets), list(targets.values())
    await connection.execute(_FORGET, tenant, into)
    for statement in (_FOLLOW, _REMEMBER, _MOVE_MEMBERSHIPS, _MOVE_CASES):
        await connection.execute(statement, tenant, sources, into)
    touched = [row["profile_id"] for row in await connection.fetch(_MOVE_ANSWERS, tenant, sources, into)]
    if touched:
        await _settle_cases(connection, tenant, touched)


async def _part(connection: Connection, tenant: str, parting: Parting) -> None:
    nodes, count = list(parting.nodes), len(parting.nodes)
    for statement in _PART:
        await connection.execute(statement, tenant, nodes, [parting.into_id] * count, [parting.profile_id] * count)


async def _settle_cases(connection: Connection, tenant: str, profiles: Sequence[UUID]) -> None:
    rows = await connection.fetch(_OPEN_CASES, tenant, profiles)
    for _, group in groupby(rows, key=lambda row: (row["survey_id"], row["profile_id"])):
        mine = list(group)
        cases = [Case(*(row[f"case_{column}"] for column in CASE_COLUMNS.split(", "))) for row in mine]
        for case in after_merge(SurveyKind[mine[0]["kind"]], answer_of(mine[0]), cases):
            await save_case(connection, tenant, case, by="merge")
