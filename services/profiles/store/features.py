"""What a feature query needs, read over one connection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.db import Connection, Database
from services.profiles.store.profiles import AT

_FIRST = "SELECT profile_id FROM profiles.profiles WHERE tenant_id = $1 ORDER BY profile_id LIMIT $2"
_NEWEST = "SELECT newest_ts FROM profiles.clocks WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class Read:
    """`profile_of`: where each known node belonged at `at`; `records`: the rows of each compiled query."""

    at: datetime
    profile_of: dict[UUID, UUID]
    records: Sequence[Sequence[Any]]


async def computed(
    connection: Connection, tenant_id: str, node_ids: Sequence[UUID], at: datetime, queries: Sequence[str]
) -> Read:
    """Compiled queries for the profiles that nodes belonged to.

    Where somebody is merged between the statements, the profile that was found has no nodes any more, and its row would say
    that nothing ever happened. That is looked for afterwards: it is rare, and a transaction is a trip more for everybody.
    """
    read = await _computed(connection, tenant_id, node_ids, at, queries)
    if not read.profile_of or await _profiles_at(connection, tenant_id, node_ids, at) == read.profile_of:
        return read
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _computed(connection, tenant_id, node_ids, at, queries)


async def _computed(
    connection: Connection, tenant_id: str, node_ids: Sequence[UUID], at: datetime, queries: Sequence[str]
) -> Read:
    profile_of = await _profiles_at(connection, tenant_id, node_ids, at)
    wanted = list(set(profile_of.values()))
    records = [await connection.fetch(sql, tenant_id, wanted, at) if wanted else [] for sql in queries]
    return Read(at, profile_of, records)


async def _profiles_at(connection: Connection, tenant_id: str, node_ids: Sequence[UUID], at: datetime) -> dict[UUID, UUID]:
    return {row[0]: row[1] for row in await connection.fetch(AT, tenant_id, node_ids, at)}


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
            return await computed(connection, tenant_id, node_ids, at, queries)

    async def first(self, tenant_id: str, limit: int) -> list[UUID]:
        """Profiles by id. An id is a hash, so the first are a sample like any other."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_FIRST, tenant_id, limit)]
