"""Rows to domain and back, and the lock that keeps merges apart from answers."""

from collections.abc import Sequence
from typing import Any, Final

from chassis.db import Connection
from services.feedback.domain import Answer, Case, Survey, SurveyKind

ANSWER_COLUMNS: Final = "survey_id, profile_id, rating, answered_at, sealed, revision"
CASE_COLUMNS: Final = "case_id, survey_id, profile_id, rating, opened_at, due_at, closed_at"
_SAVE_CASE: Final = """
INSERT INTO feedback.cases AS known
    (tenant_id, case_id, survey_id, profile_id, rating, opened_at, due_at, closed_at, closed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8::timestamptz IS NOT NULL THEN $9 END)
ON CONFLICT (tenant_id, case_id) DO UPDATE SET
    rating = excluded.rating, closed_at = excluded.closed_at, closed_by = excluded.closed_by
WHERE known.closed_at IS NULL
"""


def survey_of(row: Any) -> Survey:
    """survey_id, kind, question, created_at."""
    return Survey(row["survey_id"], SurveyKind[row["kind"]], row["question"], row["created_at"])


def answer_of(row: Any) -> Answer:
    """ANSWER_COLUMNS."""
    return Answer(*(row[column] for column in ANSWER_COLUMNS.split(", ")))


def case_of(row: Any) -> Case:
    """CASE_COLUMNS."""
    return Case(*(row[column] for column in CASE_COLUMNS.split(", ")))


async def save_case(connection: Connection, tenant: str, case: Case, *, by: str) -> bool:
    """Inserts or updates; False where the case was closed meanwhile. `by`: who closed it, where it is closed."""
    values = (case.case_id, case.survey_id, case.profile_id, case.rating, case.opened, case.due, case.closed)
    done = await connection.execute(_SAVE_CASE, tenant, *values, by)
    return not done.endswith(" 0")


async def keep_merges_out(connection: Connection, tenant: str) -> None:
    """Until the end of the transaction no profile of the tenant merges; others may do the same."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(hashtext('feedback.merges'), hashtext($1))", tenant)


async def keep_answers_out(connection: Connection, tenant: str) -> None:
    """Until the end of the transaction nobody answers for the tenant."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('feedback.merges'), hashtext($1))", tenant)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """For unnest: rows to columns. Not for no rows."""
    return [list(column) for column in zip(*rows, strict=True)]
