"""Writes a tenant's log to Parquet: `python -m services.profiles.export <tenant>`, answers one line of JSON.

A process of its own and not a part of the service: Arrow takes 60 MB, and the service is to be small while it waits.

    <archive>/<tenant>/events/day=2011-12-09/<xid>-<seq>.parquet    rows of the timeline, by the UTC day of their time
    <archive>/<tenant>/identities/identities.parquet                node_id, profile_id, since (year 1 for "since ever")

Only what stands not yet is written; a day that got late events gets another file. Files appear whole (written aside, synced,
renamed). The range that is being written is noted first, so that after a crash the same files are written again.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
from rapport.profiles.v1 import event_pb2

from chassis import context
from chassis.db import Database, connect, session_lock
from chassis.log import message_of
from chassis.settings import read
from services.profiles.archive import Exported
from services.profiles.archived import write_table
from services.profiles.domain.clock import DAY_US, microseconds
from services.profiles.settings import Settings
from services.profiles.store.exports import ArchiveFile, ExportStore, Place
from services.profiles.timeline import TimelineRow, timeline_row

CHUNK: Final = 20_000
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_EVENTS: Final = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("node_id", pa.string()),
        ("event_id", pa.binary(16)),
        ("ts", _MOMENT),
        ("known_at", _MOMENT),
        ("received_at", _MOMENT),
        ("type", pa.string()),
        ("name", pa.string()),
        ("source", pa.string()),
        ("channel", pa.string()),
        ("numbers", pa.string()),
        ("texts", pa.string()),
        ("rest", pa.string()),
    ]
)
_IDENTITIES: Final = pa.schema([("node_id", pa.string()), ("profile_id", pa.string()), ("since", _MOMENT)])
IDENTITIES: Final = "identities/identities.parquet"
# After the tenant's name: the folder with the parts of its archive that are for a purpose, see select.py.
SELECTED: Final = ".for"
_SINCE_EVER_US: Final = microseconds(datetime.min.replace(tzinfo=UTC))


async def export(store: ExportStore, tenant_id: str, archive: Path) -> Exported:
    """Brings the tenant's archive up to where the projections are, identities and events of the same instant."""
    folder = archive / tenant_id
    _sweep(folder)
    snapshot = await store.snapshot(tenant_id)
    while True:
        progress = await store.progress(tenant_id)
        upto = progress.planned or snapshot.place
        rows = await store.read(tenant_id, progress.done, upto, sys.maxsize if progress.planned else CHUNK)
        if not rows:
            break
        last = rows[-1][0]
        if progress.planned is None:
            await store.plan(tenant_id, last)
        await store.finish(tenant_id, _write_events(folder, tenant_id, last, [payload for _, payload in rows]))
    identities = _write_identities(folder, snapshot.identities)
    files = await store.files(tenant_id)
    return Exported(
        path=str(folder),
        event_count=sum(each.event_count for each in files.values()),
        digest=digest([*files.values(), identities]),
        through_us=snapshot.through_us,
    )


def _write_events(folder: Path, tenant_id: str, last: Place, payloads: Sequence[bytes]) -> list[ArchiveFile]:
    days: dict[int, list[TimelineRow]] = {}
    for payload in payloads:
        event = message_of(payload, event_pb2.Event, "profiles.export")
        if event is not None and (row := timeline_row(event)) is not None:
            days.setdefault(row.ts_us // DAY_US, []).append(row)
    files: list[ArchiveFile] = []
    for day, rows in sorted(days.items()):
        rows.sort(key=lambda row: (row.ts_us, row.event_id))
        columns = [[tenant_id] * len(rows), *zip(*rows, strict=True)]
        # A row has its columns in the schema's order.
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _EVENTS, strict=True)]
        name = f"events/day={date.fromordinal(date(1970, 1, 1).toordinal() + day)}/{last.xid}-{last.seq}.parquet"
        files.append(write(folder, name, pa.Table.from_arrays(arrays, schema=_EVENTS)))
    return files


def _write_identities(folder: Path, rows: Sequence[tuple[Any, Any, int | None]]) -> ArchiveFile:
    columns = [
        pa.array([str(row[0]) for row in rows], pa.string()),
        pa.array([str(row[1]) for row in rows], pa.string()),
        pa.array([_SINCE_EVER_US if row[2] is None else row[2] for row in rows], _MOMENT),
    ]
    return write(folder, IDENTITIES, pa.Table.from_arrays(columns, schema=_IDENTITIES))


def write(folder: Path, name: str, table: pa.Table) -> ArchiveFile:
    """A file of the archive, whole or not there."""
    return ArchiveFile(name, write_table(folder / name, [table]), table.num_rows)


def _sweep(folder: Path) -> None:
    """Removes what an interrupted export left half written."""
    for aside in folder.glob("*/**/*.writing"):
        aside.unlink(missing_ok=True)


def digest(files: Sequence[ArchiveFile]) -> str:
    """SHA-256, hex, over the paths and digests in the order of the paths."""
    sha = hashlib.sha256()
    for each in sorted(files, key=lambda one: one.path):
        sha.update(each.path.encode() + b"\0" + each.sha256)
    return sha.hexdigest()


@asynccontextmanager
async def locked(database: Database, tenant_id: str) -> AsyncGenerator[None]:
    """One writer of a tenant's archive at a time, whoever asks; the lock goes with the connection."""
    statement = "SELECT pg_advisory_lock(hashtext('profiles export ' || $1))"
    async with database.connection() as connection, session_lock(connection, statement, tenant_id, timeout_s=600):
        yield


@asynccontextmanager
async def at_the_archive(task: str, tenant_id: str) -> AsyncGenerator[tuple[Database, Path]]:
    """For a process that works on a tenant's archive, alone: the database, for that tenant, and where all archives are."""
    settings = read(Settings)
    service, session = f"profiles-{task}", {"search_path": "profiles"}
    database = await connect(settings.database_url, connections=2, service=service, session=session)
    try:
        with context.use(tenant=tenant_id):
            async with locked(database, tenant_id):
                yield database, Path(settings.archive_folder)
    finally:
        await database.close()


async def _main(tenant_id: str) -> Exported:
    async with at_the_archive("export", tenant_id) as (database, archive):
        return await export(ExportStore(database), tenant_id, archive)


def main() -> None:
    """Entry point."""
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_main(sys.argv[1]))) + b"\n")


if __name__ == "__main__":
    main()
