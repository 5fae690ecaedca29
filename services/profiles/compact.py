"""Makes one file of a day's several, once its month is over; `python -m services.profiles.forget` calls it.

Training reads <archive>/<tenant>/events by a pattern, at any time. So a day's folder is exchanged with its successor in one
step, which the kernel offers and not every file system: where that fails, days stay in several files. The rows are the same.
What a run that was killed left in <tenant>/merging is put back by the next one, if the list still means that.
"""

import ctypes
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from chassis import telemetry
from services.profiles.archived import write_table
from services.profiles.store.exports import ArchiveFile, ExportStore

_HERE: Final = -100
_EXCHANGE: Final = 2


async def compact(store: ExportStore, tenant_id: str, folder: Path, *, today: date) -> int:
    """How many files went. The caller is the only writer of the tenant's archive."""
    _put_back(folder, await store.files(tenant_id))
    gone = 0
    for day, files in _days(await store.files(tenant_id)).items():
        if len(files) > 1 and date.fromisoformat(day.removeprefix("day=")) < today.replace(day=1):
            merged = _merged(folder, day, files)
            try:
                _exchange(folder / "merging" / day, folder / "events" / day)
            except OSError as error:
                shutil.rmtree(folder / "merging")
                telemetry.logger().warning("days stay in several files: folders cannot be exchanged", error=error.strerror)
                return gone
            await store.replace_all(tenant_id, files, merged)
            shutil.rmtree(folder / "merging")
            gone += len(files) - 1
    return gone


def _days(files: Mapping[str, ArchiveFile]) -> dict[str, list[ArchiveFile]]:
    days: dict[str, list[ArchiveFile]] = {}
    for path, file in files.items():
        days.setdefault(path.split("/")[1], []).append(file)
    return days


def _merged(folder: Path, day: str, files: Sequence[ArchiveFile]) -> ArchiveFile:
    """In a folder of its own, under the name of the newest, in the order that each has."""
    newest = max(files, key=lambda file: [int(number) for number in Path(file.path).stem.split("-")])
    table = pa.concat_tables([_read(folder / file.path) for file in files])
    table = table.sort_by([("ts", "ascending"), ("event_id", "ascending")])
    digest = write_table(folder / "merging" / day / Path(newest.path).name, [table])
    return ArchiveFile(newest.path, digest, table.num_rows)


def _read(path: Path) -> pa.Table:
    """Only its own columns: the day in the path is none of them."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _put_back(folder: Path, files: Mapping[str, ArchiveFile]) -> None:
    for left in (folder / "merging").glob("day=*"):
        listed = {Path(path).name for path in files if path.startswith(f"events/{left.name}/")}
        if len(listed) > 1 and listed == {file.name for file in left.iterdir()}:
            _exchange(left, folder / "events" / left.name)
    shutil.rmtree(folder / "merging", ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Both names at once mean the other folder. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))
