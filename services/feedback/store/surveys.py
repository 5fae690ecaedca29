"""Surveys, and how many answers they have of each rating."""

from collections.abc import Mapping, Sequence
from typing import Final

from chassis.db import Database
from chassis.errors import NotFound
from services.feedback.domain import Survey, SurveyKind
from services.feedback.store.rows import survey_of

_ADD: Final = """
INSERT INTO feedback.surveys (tenant_id, survey_id, kind, question) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_LIST: Final = """
SELECT survey_id, kind, question, created_at,
    (SELECT count(*) FROM feedback.answers AS a WHERE a.tenant_id = s.tenant_id AND a.survey_id = s.survey_id) AS answers
FROM feedback.surveys AS s WHERE tenant_id = $1 AND ($2::text IS NULL OR survey_id = $2) ORDER BY created_at, survey_id
"""
_FIND: Final = "SELECT survey_id, kind, question, created_at FROM feedback.surveys WHERE tenant_id = $1 AND survey_id = $2"
_RATINGS: Final = "SELECT rating, count(*) FROM feedback.answers WHERE tenant_id = $1 AND survey_id = $2 GROUP BY rating"
_RATINGS_BY_SEGMENT: Final = """
SELECT segment_key, rating, count(*)
FROM feedback.answers AS a JOIN feedback.memberships AS m USING (tenant_id, profile_id)
WHERE a.tenant_id = $1 AND a.survey_id = $2 GROUP BY segment_key, rating ORDER BY segment_key
"""

Counts = Sequence[int]


class SurveyStore:
    """Surveys of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, survey_id: str, kind: SurveyKind, question: str) -> Survey:
        """The survey of that id, made where there is none: it may differ from what was given."""
        async with self._database.transaction() as connection:
            await connection.execute(_ADD, tenant, survey_id, kind.name, question)
            return survey_of(await connection.fetchrow(_FIND, tenant, survey_id))

    async def list(self, tenant: str, survey_id: str | None = None) -> Sequence[tuple[Survey, int]]:
        """(survey, number of answers), oldest first; or only the one of that id."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LIST, tenant, survey_id)
        return [(survey_of(row), row["answers"]) for row in rows]

    async def get(self, tenant: str, survey_id: str) -> Survey:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant, survey_id)
        if row is None:
            raise NotFound("there is no such survey", field="survey_id")
        return survey_of(row)

    async def ratings(self, tenant: str, survey: Survey) -> tuple[Counts, Mapping[str, Counts]]:
        """(overall, by segment): how many answers there are of each rating, from the scale's lowest."""
        async with self._database.transaction() as connection:
            overall = await connection.fetch(_RATINGS, tenant, survey.survey_id)
            segments = await connection.fetch(_RATINGS_BY_SEGMENT, tenant, survey.survey_id)
        counts = _no_answers(survey.kind)
        for rating, count in overall:
            counts[rating - survey.kind.lowest] = count
        by_segment: dict[str, list[int]] = {}
        for segment, rating, count in segments:
            by_segment.setdefault(segment, _no_answers(survey.kind))[rating - survey.kind.lowest] = count
        return counts, by_segment


def _no_answers(kind: SurveyKind) -> "list[int]":
    return [0] * (kind.highest - kind.lowest + 1)
