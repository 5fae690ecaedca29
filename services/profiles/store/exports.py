"""How far the archive goes, and what is to go into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.db import Database
from services.profiles.store.moments import to_us

_STATE = """
SELECT xid::text AS xid, seq, planned_xid::text AS planned_xid, planned_seq FROM profiles.exports WHERE tenant_id = $1
"""
_CURSOR = "SELECT xid::text AS xid, seq FROM profiles.log_cursor WHERE consumer = 'profiles'"
_IDENTITIES = f"""
SELECT node_id, profile_id, {to_us("since")} AS since FROM profiles.node_profiles WHERE tenant_id = $1
ORDER BY node_id, node_profiles.since
"""
# Everything that was received before the first event that is not projected yet; else before now.
_THROUGH = f"""
SELECT {to_us("coalesce(min(received_at), now())")} FROM log.events
WHERE (xid, seq) > ($1::text::xid8, $2)
"""
_ROWS = """
SELECT xid::text AS xid, seq, payload FROM log.events
WHERE tenant_id = $1 AND (xid, seq) > ($2::text::xid8, $3) AND (xid, seq) <= ($4::text::xid8, $5)
ORDER BY events.xid, events.seq LIMIT $6
"""
_PLAN = """
INSERT INTO profiles.exports (tenant_id, xid, seq, planned_xid, planned_seq) VALUES ($1, '0', 0, $2::text::xid8, $3)
ON CONFLICT (tenant_id) DO UPDATE SET planned_xid = excluded.planned_xid, planned_seq = excluded.planned_seq
"""
_FINISH = """
UPDATE profiles.exports SET xid = planned_xid, seq = planned_seq, planned_xid = NULL, planned_seq = NULL WHERE tenant_id = $1
"""
_FILES = """
INSERT INTO profiles.export_files (tenant_id, path, sha256, event_count)
SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::bigint[])
ON CONFLICT (tenant_id, path) DO UPDATE SET sha256 = excluded.sha256, event_count = excluded.event_count
"""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the log."""

    xid: int
    seq: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The archive goes up to `done`. `planned`: up to where files were being written when that was interrupted."""

    done: Place
    planned: Place | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Identities (node, profile, since in microseconds or None) as they are when everything up to `place` is projected."""

    place: Place
    identities: Sequence[tuple[UUID, UUID, int | None]]
    through_us: int


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """`path` is relative to the tenant's folder."""

    path: str
    sha256: bytes
    event_count: int


class ExportStore:
    """profiles.exports, and the log for one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snapshot(self, tenant_id: str) -> Snapshot:
        """Events up to the projector's place, and identities of the same instant."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # Before the snapshot is taken: tables that are swapped after it would be half empty in it.
            await connection.execute("LOCK TABLE profiles.node_profiles IN ACCESS SHARE MODE")
            cursor = await connection.fetchrow(_CURSOR)
            place = Place(int(cursor["xid"]), cursor["seq"]) if cursor else Place(0, 0)
            identities = [tuple(row) for row in await connection.fetch(_IDENTITIES, tenant_id)]
            through_us = await connection.fetchval(_THROUGH, str(place.xid), place.seq)
        return Snapshot(place, identities, through_us)

    async def progress(self, tenant_id: str) -> Progress:
        """Where the last export ended."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_STATE, tenant_id)
        if row is None:
            return Progress(Place(0, 0), None)
        planned = Place(int(row["planned_xid"]), row["planned_seq"]) if row["planned_xid"] is not None else None
        return Progress(Place(int(row["xid"]), row["seq"]), planned)

    async def read(self, tenant_id: str, after: Place, upto: Place, limit: int) -> list[tuple[Place, bytes]]:
        """The tenant's next events with their places."""
        arguments = (str(after.xid), after.seq, str(upto.xid), upto.seq, limit)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ROWS, tenant_id, *arguments)
        return [(Place(int(row["xid"]), row["seq"]), row["payload"]) for row in rows]

    async def plan(self, tenant_id: str, upto: Place) -> None:
        """Writes down that files up to this place are coming. Until `finish`, every export writes that same range."""
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN, tenant_id, str(upto.xid), upto.seq)

    async def finish(self, tenant_id: str, files: Sequence[ArchiveFile]) -> None:
        """The planned range is written."""
        async with self._database.transaction() as connection:
            columns = ([each.path for each in files], [each.sha256 for each in files], [each.event_count for each in files])
            await connection.execute(_FILES, tenant_id, *columns)
            await connection.execute(_FINISH, tenant_id)

    async def replace(self, tenant_id: str, path: str, file: ArchiveFile | None) -> None:
        """A file was written anew, or is gone."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM profiles.export_files WHERE tenant_id = $1 AND path = $2", tenant_id, path)
            if file is not None:
                await connection.execute(_FILES, tenant_id, [file.path], [file.sha256], [file.event_count])

    async def replace_all(self, tenant_id: str, old: Sequence[ArchiveFile], new: ArchiveFile) -> None:
        """One file holds what several did."""
        delete = "DELETE FROM profiles.export_files WHERE tenant_id = $1 AND path = ANY($2)"
        async with self._database.transaction() as connection:
            await connection.execute(delete, tenant_id, [file.path for file in old])
            await connection.execute(_FILES, tenant_id, [new.path], [new.sha256], [new.event_count])

    async def tenants(self) -> Sequence[str]:
        """All that have an archive."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT tenant_id FROM profiles.exports ORDER BY tenant_id")
        return [row["tenant_id"] for row in rows]

    async def files(self, tenant_id: str) -> Mapping[str, ArchiveFile]:
        """All files of events, by path."""
        select = "SELECT path, sha256, event_count FROM profiles.export_files WHERE tenant_id = $1 ORDER BY path"
        async with self._database.connection() as connection:
            return {row["path"]: ArchiveFile(*row) for row in await connection.fetch(select, tenant_id)}
