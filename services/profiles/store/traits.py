"""Traits that a tenant defined, and the one query that computes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis.db import Database
from chassis.errors import Conflict, InvalidArgument
from services.profiles.store.features import computed

_COLUMNS = "trait_key AS key, version, definition, digest, owner, purpose, created_at, retired_at"
_ACTIVE = f"SELECT {_COLUMNS} FROM profiles.computed_traits WHERE tenant_id = $1 AND retired_at IS NULL ORDER BY trait_key"
_VERSIONS = f"SELECT {_COLUMNS} FROM profiles.computed_traits WHERE tenant_id = $1 AND trait_key = $2 ORDER BY version DESC"
_REVISION = "SELECT revision FROM profiles.computed_trait_queries WHERE tenant_id = $1"
_QUERY = "SELECT revision, sql FROM profiles.computed_trait_queries WHERE tenant_id = $1"
_RETIRE = """
UPDATE profiles.computed_traits SET retired_at = now() WHERE tenant_id = $1 AND trait_key = $2 AND retired_at IS NULL
"""
_ADD = """
INSERT INTO profiles.computed_traits (tenant_id, trait_key, version, definition, digest, owner, purpose)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_REPLACE = """
INSERT INTO profiles.computed_trait_queries (tenant_id, revision, sql) VALUES ($1, $2 + 1, $3)
ON CONFLICT (tenant_id) DO UPDATE SET revision = excluded.revision, sql = excluded.sql
WHERE computed_trait_queries.revision = $2
RETURNING revision
"""


@dataclass(frozen=True, slots=True)
class TraitRow:
    """`definition`: a serialized rapport.features.v1.Feature."""

    key: str
    version: int
    definition: bytes
    digest: str
    owner: str
    purpose: str
    created_at: datetime
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Active:
    """The traits that are computed, by key, and the SQL that computes them; empty where there are none."""

    revision: int
    sql: str
    rows: Sequence[TraitRow]


@dataclass(frozen=True, slots=True)
class Added:
    """What a new version is made of."""

    key: str
    version: int
    definition: bytes
    digest: str
    owner: str
    purpose: str


class TraitStore:
    """profiles.computed_traits and profiles.computed_trait_queries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(self, tenant_id: str) -> Active:
        """As everything is at one instant."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            query = await connection.fetchrow(_QUERY, tenant_id)
            rows = [TraitRow(*row) for row in await connection.fetch(_ACTIVE, tenant_id)]
        return Active(query["revision"], query["sql"], rows) if query else Active(0, "", rows)

    async def versions(self, tenant_id: str, key: str) -> list[TraitRow]:
        """All versions of one trait, newest first."""
        if "\x00" in key:  # which no text of PostgreSQL's can hold
            return []
        async with self._database.connection() as connection:
            return [TraitRow(*row) for row in await connection.fetch(_VERSIONS, tenant_id, key)]

    async def revision(self, tenant_id: str) -> int:
        """Which one there is now; 0 where no trait was ever defined."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_REVISION, tenant_id) or 0

    async def save(self, tenant_id: str, revision: int, sql: str, *, retired: str, added: Added | None) -> None:
        """Retires a key's version, adds another, and replaces the query. Raises Conflict where somebody else was first."""
        try:
            async with self._database.transaction() as connection:
                if await connection.fetchval(_REPLACE, tenant_id, revision, sql) is None:
                    raise _overtaken()
                await connection.execute(_RETIRE, tenant_id, retired)
                if added is not None:
                    values = (added.key, added.version, added.definition, added.digest, added.owner, added.purpose)
                    await connection.execute(_ADD, tenant_id, *values)
        except asyncpg.UniqueViolationError:
            raise _overtaken() from None

    async def attempt(self, tenant_id: str, sql: str, at: datetime) -> None:
        """Runs a query for nobody. Raises InvalidArgument where PostgreSQL does not take it."""
        try:
            async with self._database.connection() as connection:
                await connection.fetch(sql, tenant_id, [], at)
        except (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.StatementTooComplexError):
            raise InvalidArgument("the definition cannot be computed; make it simpler", field="definition") from None

    async def compute(self, tenant_id: str, sql: str, node_id: UUID, at: datetime) -> tuple[UUID, Any] | None:
        """(the profile that a node belonged to, its row); None where nobody knew it."""
        async with self._database.connection() as connection:
            read = await computed(connection, tenant_id, [node_id], at, [sql])
        return (read.profile_of[node_id], read.records[0][0]) if read.profile_of else None


def _overtaken() -> Conflict:
    return Conflict("the tenant's traits were changed by somebody else at the same time; try again", field="key")
