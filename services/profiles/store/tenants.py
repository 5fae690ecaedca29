"""Tenants, their clocks and keys."""

from dataclasses import dataclass
from datetime import datetime

from chassis.db import Database
from services.profiles.domain.clock import ClockKind

_DURABILITY = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"


@dataclass(frozen=True, slots=True)
class TenantRow:
    """As it is stored."""

    clock: ClockKind
    wrapped_key: bytes
    identity_rules: bytes | None = None


class TenantStore:
    """profiles.tenants and profiles.clocks, and what concerns the database as a whole."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant_id: str, clock: ClockKind, wrapped_key: bytes) -> bool:
        """False: it was there already, and nothing changed."""
        insert = "INSERT INTO profiles.tenants (tenant_id, clock, wrapped_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        async with self._database.transaction() as connection:
            done = await connection.execute(insert, tenant_id, clock.value, wrapped_key)
        return done.endswith(" 1")

    async def find(self, tenant_id: str) -> TenantRow | None:
        """None where there is no such tenant."""
        select = """
        SELECT clock, wrapped_key, rules FROM profiles.tenants LEFT JOIN profiles.identity_rules USING (tenant_id)
        WHERE tenant_id = $1
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(select, tenant_id)
        return TenantRow(ClockKind(row["clock"]), row["wrapped_key"], row["rules"]) if row else None

    async def find_any(self) -> str | None:
        """Some tenant's name; None where there is none yet."""
        async with self._database.connection() as connection:
            return await connection.fetchval("SELECT tenant_id FROM profiles.tenants LIMIT 1")

    async def newest(self, tenant_id: str) -> datetime | None:
        """The time of the newest event of a customer that was projected."""
        async with self._database.connection() as connection:
            return await connection.fetchval("SELECT newest_ts FROM profiles.clocks WHERE tenant_id = $1", tenant_id)

    async def durability(self) -> dict[str, str]:
        """What this session's commits are worth: fsync, synchronous_commit, full_page_writes."""
        async with self._database.connection() as connection:
            return {row["name"]: row["setting"] for row in await connection.fetch(_DURABILITY)}

    async def database_bytes(self) -> int:
        """Tables and indexes of all services; the write-ahead log comes on top."""
        async with self._database.connection() as connection:
            return await connection.fetchval("SELECT pg_database_size(current_database())")

    async def ensure_partitions(self) -> int:
        """Makes the partitions of the log for the months to come; returns how many were missing."""
        async with self._database.transaction() as connection:
            return await connection.fetchval("SELECT log.ensure_partitions(1, 3)")
