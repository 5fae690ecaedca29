"""What somebody ought to look at: shared identifiers, and profiles that are full. Projections, see projection.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from services.profiles.domain.identity import Resolved
from services.profiles.domain.issues import IssueKind, issues
from services.profiles.store.kinship import Kin
from services.profiles.store.moments import from_us

_DROP = "DELETE FROM identity_issues WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_ADD = f"""
INSERT INTO identity_issues (tenant_id, node_id, kind, since)
SELECT $1, node_id, kind, {from_us("since")} FROM unnest($2::uuid[], $3::text[], $4::bigint[]) AS new (node_id, kind, since)
"""
_PAGE: Final = """
SELECT issue.node_id, kind, since, profile_id FROM identity_issues AS issue JOIN nodes USING (tenant_id, node_id)
WHERE tenant_id = $1 AND (issue.node_id, kind) > ($2, $3) ORDER BY issue.node_id, kind LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class IssueRow:
    """An issue, and the profile that its node belongs to."""

    node_id: UUID
    kind: IssueKind
    since: datetime
    profile_id: UUID


async def save_issues(connection: Connection, tenant_id: str, kin: Kin, resolved: Resolved) -> None:
    """Of all that was resolved, anew."""
    await connection.execute(_DROP, tenant_id, list(kin.steps))
    if found := issues(resolved.steps, kin.links, kin.late):
        columns = zip(*((each.node_id, each.kind.value, each.since_us) for each in found), strict=True)
        await connection.execute(_ADD, tenant_id, *map(list, columns))


_SHARED: Final = "SELECT node_id FROM identity_issues WHERE tenant_id = $1 AND kind = 'shared' AND node_id = ANY($2::uuid[])"


class IssueStore:
    """Reads of issues."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant_id: str, after: tuple[UUID, str], limit: int) -> list[IssueRow]:
        """By node and kind."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, tenant_id, *after, limit)
        return [IssueRow(row["node_id"], IssueKind(row["kind"]), row["since"], row["profile_id"]) for row in rows]

    async def shared(self, tenant_id: str, node_ids: Sequence[UUID]) -> list[UUID]:
        """Those of these that are shared."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_SHARED, tenant_id, node_ids)]
