"""Moves the old end of the log to the archive, for tenants that keep it for a time: `python -m services.profiles.forget`.

A tenant's events older than its days, in the log's order, as far as they are exported: written to <archive>/<tenant>/log in
files that are synced and read again, then deleted from the log; a rebuild reads them there. Also merges what has become many
small files, of every tenant that has an archive. A folder is what the archive is: a mounted bucket must keep what was synced.

How far readers are is known of those of this service only. The others (segmentation, scoring ...) keep their cursors to
themselves, so no event goes before it is a week old: a reader that is that late has been an alert for days.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from chassis import telemetry
from chassis.db import Database, connect
from chassis.process import carry_out
from chassis.settings import read
from services.profiles.archived import digest_of, name_of, rows_of, write_log, write_table
from services.profiles.compact import compact
from services.profiles.export import export, locked
from services.profiles.settings import Settings
from services.profiles.store.exports import ExportStore
from services.profiles.store.rebuild import RebuildStore
from services.profiles.store.retention import LogFile, LogRow, RetentionStore

CHUNK: Final = 20_000
# Files with fewer events than that are merged with their neighbours.
SMALL: Final = 500_000


@dataclass(frozen=True, slots=True)
class Moved:
    """What went to the archive."""

    event_count: int
    partition_count: int


async def forget_log(database: Database, archive: Path, *, at: datetime) -> Moved:
    """For every tenant that has a limit. Does nothing while a rebuild runs: that one is reading the log."""
    store, count = RetentionStore(database), 0
    async with RebuildStore(database).alone() as alone:
        if not alone:
            telemetry.logger().warning("the log is being replayed: nothing is forgotten this time")
            return Moved(0, 0)
        for tenant_id, days in (await store.all_days()).items():
            async with locked(database, tenant_id):
                await export(ExportStore(database), tenant_id, archive)
                count += await _move(store, tenant_id, archive / tenant_id, at - timedelta(days=days))
                await merge(store, tenant_id, archive / tenant_id)
        return Moved(count, await store.drop_empty_partitions())


async def tidy(database: Database, archive: Path, *, at: datetime) -> int:
    """One file for each day of the months that are over; how many files went."""
    store, count = ExportStore(database), 0
    for tenant_id in await store.tenants():
        async with locked(database, tenant_id):
            count += await compact(store, tenant_id, archive / tenant_id, today=at.date())
    return count


async def _move(store: RetentionStore, tenant_id: str, folder: Path, before: datetime) -> int:
    """In the log's order, up to the first event that is to stay: what is in the archive has one end."""
    _sweep(folder, await store.files(tenant_id))
    moved, upto = 0, await store.handled()
    while True:
        floor = await store.floor(tenant_id)
        rows = _old(await store.oldest(tenant_id, floor, upto, CHUNK), before)
        if not rows:
            return moved
        file = write_log(folder, tenant_id, rows)
        if sum(1 for _ in rows_of(folder / file.path)) != len(rows) or digest_of(folder / file.path) != file.sha256:
            raise OSError(f"{file.path} cannot be read as it was written")
        moved += await store.forget(tenant_id, file)


def _old(rows: Sequence[LogRow], before: datetime) -> Sequence[LogRow]:
    for number, row in enumerate(rows):
        if row.received >= before:
            return rows[:number]
    return rows


def _sweep(folder: Path, files: Sequence[LogFile]) -> None:
    """Removes files that no run has listed: it ended before their events were deleted, so they are in the log still."""
    listed = {folder / file.path for file in files}
    for path in (folder / "log").glob("*"):
        if path not in listed:
            path.unlink(missing_ok=True)


async def merge(store: RetentionStore, tenant_id: str, folder: Path) -> int:
    """Makes one file of small ones that follow each other; how many went. The same events in the same order."""
    gone = 0
    for group in _groups(await store.files(tenant_id)):
        count, last = sum(file.event_count for file in group), group[-1].last
        path = name_of(last, count)
        digest = write_table(folder / path, _parts(folder, group))
        await store.replace_files(tenant_id, group, LogFile(path, digest, count, last))
        for file in group:
            (folder / file.path).unlink(missing_ok=True)
        gone += len(group)
    return gone


def _groups(files: Sequence[LogFile]) -> Iterator[Sequence[LogFile]]:
    group: list[LogFile] = []
    for file in [*files, None]:
        if file is None or file.event_count >= SMALL or sum(each.event_count for each in group) >= SMALL:
            if len(group) > 1:
                yield group
            group = []
        if file is not None and file.event_count < SMALL:
            group.append(file)


def _parts(folder: Path, files: Sequence[LogFile]) -> Iterator[pa.Table]:
    for known in files:
        with pq.ParquetFile(folder / known.path) as file:
            for batch in file.iter_batches(CHUNK):
                yield pa.Table.from_batches([batch])


async def _main(settings: Settings) -> None:
    database = await connect(settings.database_url, connections=3, service="profiles-forget", everyone=True)
    try:
        archive, now = Path(settings.archive_folder), datetime.now(UTC)
        moved = await forget_log(database, archive, at=now)
        merged = await tidy(database, archive, at=now)
    finally:
        await database.close()
    telemetry.logger().info(
        "the log's old end is in the archive", events=moved.event_count, partitions=moved.partition_count, merged=merged
    )


def main() -> None:
    """Entry point."""
    settings = read(Settings)
    carry_out("profiles", settings, _main(settings))


if __name__ == "__main__":
    main()
