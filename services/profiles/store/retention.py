"""How long a tenant's events stay in the log, and where they are afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.db import Database
from services.profiles.store.exports import Place

_NEXT = """
SELECT xid::text AS xid, seq, key, received_at, payload FROM log.events
WHERE tenant_id = $1 AND (xid, seq) > ($2::text::xid8, $3) AND (xid, seq) <= ($4::text::xid8, $5)
ORDER BY events.xid, events.seq LIMIT $6
"""
_HANDLED = "SELECT xid::text AS xid, seq FROM profiles.log_handled"
_SET = """
INSERT INTO profiles.log_retention (tenant_id, days) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO UPDATE SET days = excluded.days
"""
_FILES = """
SELECT path, sha256, event_count, xid::text AS xid, seq FROM profiles.log_files WHERE tenant_id = $1
ORDER BY log_files.xid, log_files.seq
"""
_ADD_FILE = """
INSERT INTO profiles.log_files (tenant_id, path, sha256, event_count, xid, seq) VALUES ($1, $2, $3, $4, $5::text::xid8, $6)
"""


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of the log, as it goes to the archive."""

    place: Place
    key: UUID | None
    received: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class LogFile:
    """Part of a tenant's log in the archive. `path` is relative to the tenant's folder; `last` is its last event's place."""

    path: str
    sha256: bytes
    event_count: int
    last: Place


class RetentionStore:
    """profiles.log_retention, log_floors and log_files, and the log's old end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def days(self, tenant_id: str) -> int | None:
        """None: for ever."""
        async with self._database.connection() as connection:
            return await connection.fetchval("SELECT days FROM profiles.log_retention WHERE tenant_id = $1", tenant_id)

    async def set_days(self, tenant_id: str, days: int | None) -> None:
        """None: for ever."""
        async with self._database.transaction() as connection:
            if days is None:
                await connection.execute("DELETE FROM profiles.log_retention WHERE tenant_id = $1", tenant_id)
            else:
                await connection.execute(_SET, tenant_id, days)

    async def all_days(self) -> Mapping[str, int]:
        """Of all tenants that have a limit."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT tenant_id, days FROM profiles.log_retention ORDER BY tenant_id")
        return {row["tenant_id"]: row["days"] for row in rows}

    async def floors(self) -> Mapping[str, Place]:
        """Up to where each tenant's events are in the archive and no longer in the log."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT tenant_id, xid::text AS xid, seq FROM profiles.log_floors ORDER BY tenant_id")
        return {row["tenant_id"]: Place(int(row["xid"]), row["seq"]) for row in rows}

    async def floor(self, tenant_id: str) -> Place:
        """(0, 0): all of its events are in the log."""
        return (await self.floors()).get(tenant_id, Place(0, 0))

    async def handled(self) -> Place:
        """Up to where every reader of this schema is."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_HANDLED)
        return Place(int(row["xid"]), row["seq"]) if row else Place(0, 0)

    async def oldest(self, tenant_id: str, after: Place, upto: Place, limit: int) -> Sequence[LogRow]:
        """The tenant's next rows in the log's order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_NEXT, tenant_id, str(after.xid), after.seq, str(upto.xid), upto.seq, limit)
        return [LogRow(Place(int(row["xid"]), row["seq"]), row["key"], row["received_at"], row["payload"]) for row in rows]

    async def forget(self, tenant_id: str, file: LogFile) -> int:
        """Deletes what the file holds from the log and lists the file, both or neither; how many rows."""
        select = "SELECT log.forget($1, $2::text::xid8, $3, $4, $5, $6)"
        arguments = (str(file.last.xid), file.last.seq, file.path, file.sha256, file.event_count)
        async with self._database.transaction() as connection:
            return await connection.fetchval(select, tenant_id, *arguments)

    async def drop_empty_partitions(self) -> int:
        """Months of which nothing is left."""
        async with self._database.transaction() as connection:
            return await connection.fetchval("SELECT log.drop_empty_partitions()")

    async def files(self, tenant_id: str) -> Sequence[LogFile]:
        """In the log's order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FILES, tenant_id)
        return [LogFile(row["path"], row["sha256"], row["event_count"], Place(int(row["xid"]), row["seq"])) for row in rows]

    async def archived_count(self, tenant_id: str) -> int:
        """How many events of the tenant are in those files."""
        return sum(file.event_count for file in await self.files(tenant_id))

    async def replace_files(self, tenant_id: str, old: Sequence[LogFile], new: LogFile | None) -> None:
        """One file stands for what several held; None: nothing is left of them."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM profiles.log_files WHERE tenant_id = $1 AND path = ANY($2)", tenant_id, [each.path for each in old]
            )
            if new is not None:
                arguments = (new.path, new.sha256, new.event_count, str(new.last.xid), new.last.seq)
                await connection.execute(_ADD_FILE, tenant_id, *arguments)
