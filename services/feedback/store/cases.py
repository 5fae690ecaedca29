"""Cases, by the time when they are due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Database
from chassis.errors import NotFound
from services.feedback.domain import Case
from services.feedback.store.rows import CASE_COLUMNS, case_of

_LIST: Final = f"""
SELECT {CASE_COLUMNS} FROM feedback.cases
WHERE tenant_id = $1 AND (closed_at IS NULL OR NOT $2) AND ($3::timestamptz IS NULL OR (due_at, case_id) > ($3, $4))
ORDER BY due_at, case_id LIMIT $5
"""
_OPEN_COUNT: Final = "SELECT count(*) FROM feedback.cases WHERE tenant_id = $1 AND closed_at IS NULL"
# Closing again changes nothing, and is no error.
_CLOSE: Final = f"""
UPDATE feedback.cases SET
    closed_at = coalesce(closed_at, greatest($3, opened_at)), closed_by = coalesce(closed_by, $4)
WHERE tenant_id = $1 AND case_id = $2 RETURNING {CASE_COLUMNS}
"""


class CaseStore:
    """Cases of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, tenant: str, *, open_only: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> tuple[Sequence[Case], int]:
        """(cases, those that are due first first; how many are open in all)."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_LIST, tenant, open_only, *(after or (None, None)), limit)
            return [case_of(row) for row in rows], await connection.fetchval(_OPEN_COUNT, tenant)

    async def close(self, tenant: str, case_id: UUID, now: datetime, *, by: str) -> Case:
        """As it is then. Raises NotFound."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_CLOSE, tenant, case_id, now, by)
        if row is None:
            raise NotFound("there is no such case", field="case_id")
        return case_of(row)
