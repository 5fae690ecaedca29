"""The part of a tenant's log that was moved to Parquet: <archive>/<tenant>/log/<xid>-<seq>-<count>.parquet, in the log's order.

Payloads are as they were in the log: what is personal in them is sealed, and goes with the person's key.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from chassis.log import Record
from services.profiles.store.exports import Place
from services.profiles.store.retention import LogFile, LogRow, RetentionStore

SCHEMA: Final = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("xid", pa.uint64()),
        ("seq", pa.int64()),
        ("key", pa.binary(16)),
        ("received_at", pa.timestamp("us", tz="UTC")),
        ("payload", pa.binary()),
    ]
)
START: Final = Place(0, 0)
_READ: Final = 5_000


class Damaged(Exception):
    """A file of the archive is not what was written there."""


class ArchivedLog:
    """Reads as the log itself does (see chassis.log.Log). What comes `after` a place only."""

    def __init__(self, folder: Path, tenant_id: str, files: Sequence[LogFile], *, after: Place = START) -> None:
        self._folder = folder
        self._tenant_id = tenant_id
        self._files = files
        self._after = after
        self._at: Place | None = None
        self._records: Iterator[Record] = iter(())

    async def read(self, xid: int, seq: int, limit: int) -> Sequence[Record]:
        start = max(Place(xid, seq), self._after)
        if start != self._at:
            self._records = self._from(start)
        records = list(islice(self._records, limit))
        self._at = Place(records[-1].xid, records[-1].seq) if records else start
        return records

    async def lag(self, xid: int, seq: int) -> int:
        return sum(file.event_count for file in self._files if file.last > Place(xid, seq))

    def _from(self, start: Place) -> Iterator[Record]:
        for file in self._files:
            if file.last > start:
                path = self._folder / file.path
                if not path.exists() or digest_of(path) != file.sha256:
                    raise Damaged(f"{file.path} of {self._tenant_id} is missing or not what was written there")
                for row in rows_of(path):
                    if Place(row["xid"], row["seq"]) > start:
                        key = UUID(bytes=row["key"]) if row["key"] is not None else None
                        yield Record(row["xid"], row["seq"], self._tenant_id, key, row["received_at"], row["payload"])


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """A file's rows, a few thousand in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_READ):
            yield from batch.to_pylist()


def write_log(folder: Path, tenant_id: str, rows: Sequence[LogRow]) -> LogFile:
    """Whole, synced, and read again before anybody relies on it."""
    last = rows[-1].place
    columns = [
        [tenant_id] * len(rows),
        [row.place.xid for row in rows],
        [row.place.seq for row in rows],
        [row.key.bytes if row.key is not None else None for row in rows],
        [row.received for row in rows],
        [row.payload for row in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    name = name_of(last, len(rows))
    digest = write_table(folder / name, [pa.Table.from_arrays(arrays, schema=SCHEMA)])
    return LogFile(name, digest, len(rows), last)


def name_of(last: Place, count: int) -> str:
    """A file that has lost or won rows has another name: what lists the files changes them in one step."""
    return f"log/{last.xid}-{last.seq}-{count}.parquet"


def write_table(path: Path, parts: Sequence[pa.Table] | Iterator[pa.Table]) -> bytes:
    """Written aside, synced, renamed, and the folder synced too; the file's SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    writer: pq.ParquetWriter | None = None
    try:
        for part in parts:
            writer = writer or pq.ParquetWriter(aside, part.schema, compression="zstd")
            writer.write_table(part)
    finally:
        if writer is not None:
            writer.close()
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.rename(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return digest_of(path)


async def redact_log(
    store: RetentionStore, tenant_id: str, folder: Path, node_ids: Sequence[str], upto: datetime
) -> tuple[int, int]:
    """Takes people's events out that were received up to a time; how many rows, of how many files."""
    people = {UUID(node_id).bytes for node_id in node_ids}
    rows = files = 0
    for known in await store.files(tenant_id):
        table = pq.read_table(folder / known.path)
        rows_of = zip(table["key"].to_pylist(), table["received_at"].to_pylist(), strict=True)
        kept = table.filter(pa.array([key not in people or received > upto for key, received in rows_of], pa.bool_()))
        if (gone := table.num_rows - kept.num_rows) == 0:
            continue
        new: LogFile | None = None
        if kept.num_rows:
            name = name_of(known.last, kept.num_rows)
            new = LogFile(name, write_table(folder / name, [kept]), kept.num_rows, known.last)
        await store.replace_files(tenant_id, [known], new)
        (folder / known.path).unlink(missing_ok=True)
        rows, files = rows + gone, files + 1
    return rows, files


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
