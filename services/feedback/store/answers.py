"""Answers: one of each customer and survey, with the case and the facts that it brings, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.outbox import Outbox
from services.feedback.domain import Answer, Case
from services.feedback.store.rows import ANSWER_COLUMNS, CASE_COLUMNS, answer_of, case_of, keep_merges_out, save_case

_INTO: Final = "SELECT into_id FROM feedback.merged_profiles WHERE tenant_id = $1 AND profile_id = $2"
_ANSWER: Final = f"""
SELECT {ANSWER_COLUMNS} FROM feedback.answers WHERE tenant_id = $1 AND survey_id = $2 AND profile_id = $3
"""
_OPEN_CASE: Final = f"""
SELECT {CASE_COLUMNS} FROM feedback.cases
WHERE tenant_id = $1 AND survey_id = $2 AND profile_id = $3 AND closed_at IS NULL ORDER BY opened_at LIMIT 1
"""
# Revision 0 stands for no answer yet.
_SAVE: Final = """
INSERT INTO feedback.answers AS known (tenant_id, survey_id, profile_id, rating, sealed, answered_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, survey_id, profile_id) DO UPDATE SET
    rating = excluded.rating, sealed = excluded.sealed, answered_at = excluded.answered_at, revision = excluded.revision,
    node_id = NULL
WHERE known.revision = $8
RETURNING xmax = 0 AS is_new
"""
_LIST: Final = f"""
SELECT {ANSWER_COLUMNS} FROM feedback.answers
WHERE tenant_id = $1 AND survey_id = $2 AND ($3::uuid IS NULL OR profile_id = $3)
    AND ($4::timestamptz IS NULL OR (answered_at, profile_id) < ($4, $5))
ORDER BY answered_at DESC, profile_id DESC LIMIT $6
"""


class Overtaken(Exception):
    """Somebody else wrote after the standing was loaded: what was decided on it is void, and decided again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a customer has said to a survey so far. `profile_id`: the profile that theirs has become, where it has."""

    profile_id: UUID
    answer: Answer | None
    open_case: Case | None


class AnswerStore:
    """Answers of a tenant."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def standing(self, tenant: str, survey_id: str, profile_id: UUID) -> Standing:
        """What there is before an answer."""
        async with self._database.transaction() as connection:
            profile_id = await connection.fetchval(_INTO, tenant, profile_id) or profile_id
            answer = await connection.fetchrow(_ANSWER, tenant, survey_id, profile_id)
            case = await connection.fetchrow(_OPEN_CASE, tenant, survey_id, profile_id)
        return Standing(profile_id, answer_of(answer) if answer else None, case_of(case) if case else None)

    async def save(self, tenant: str, answer: Answer, case: Case | None, facts: Sequence[bytes]) -> None:
        """The answer, its case and their facts. Raises Overtaken where revision - 1 is not what stands."""
        async with self._database.transaction() as connection:
            await keep_merges_out(connection, tenant)
            if await connection.fetchval(_INTO, tenant, answer.profile_id):
                raise Overtaken
            await _save(connection, tenant, answer)
            if case is not None and not await save_case(connection, tenant, case, by="answer"):
                raise Overtaken
            await self._outbox.add(connection, tenant, facts)

    async def list(
        self, tenant: str, survey_id: str, *, profile_id: UUID | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Answer]:
        """Newest first. `after`: time and profile of the last answer of the page before."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LIST, tenant, survey_id, profile_id, *(after or (None, None)), limit)
        return [answer_of(row) for row in rows]


async def _save(connection: Connection, tenant: str, answer: Answer) -> None:
    before = answer.revision - 1
    values = (answer.survey_id, answer.profile_id, answer.rating, answer.sealed, answer.answered, answer.revision)
    row = await connection.fetchrow(_SAVE, tenant, *values, before)
    if row is None or row["is_new"] is not (before == 0):
        raise Overtaken
