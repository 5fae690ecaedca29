"""What a feature query needs, read over one connection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.db import Database
from services.profiles.store.profiles import AT

_NEWEST = "SELECT newest_ts FROM profiles.clocks WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class Read:
    """`profile_of`: where each known node belonged at `at`; `records`: the rows of each compiled query."""

    at: datetime
    profile_of: dict[UUID, UUID]
    records: Sequence[Sequence[Any]]


_FIRST = "SELECT profile_id FROM profiles.profiles WHERE tenant_id = $1 ORDER BY profile_id LIMIT $2"


class FeatureStore:
    """Runs compiled queries of ml.features.compile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(
        self,
        tenant_id: str,
        node_ids: Sequence[UUID],
        at: datetime | None,
        now: Callable[[datetime | None], datetime],
        queries: Sequence[str],
    ) -> Read:
        """`at` None: `now` of the tenant's newest event's time."""
        async with self._database.connection() as connection:
            if at is None:
                at = now(await connection.fetchval(_NEWEST, tenant_id))
            profile_of: dict[UUID, UUID] = {row[0]: row[1] for row in await connection.fetch(AT, tenant_id, node_ids, at)}
            wanted = list(set(profile_of.values()))
            records = [await connection.fetch(sql, tenant_id, wanted, at) if wanted else [] for sql in queries]
        return Read(at, profile_of, records)

    async def one(self, tenant_id: str, profile_id: UUID, at: datetime, query: str) -> Any:
        """The row of one profile."""
        async with self._database.connection() as connection:
            return (await connection.fetch(query, tenant_id, [profile_id], at))[0]

    async def first(self, tenant_id: str, limit: int) -> list[UUID]:
        """Profiles by id. An id is a hash, so the first are a sample like any other."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_FIRST, tenant_id, limit)]
