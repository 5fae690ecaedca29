"""Takes people out of the archive, as far as they were received up to a time; answers one line of JSON.

    python -m services.profiles.redact <tenant> <time> <node id>...

A process of its own for Arrow's sake, as services.profiles.export. Files appear whole; a file that is left empty goes.
"""

import asyncio
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.profiles.archive import Redacted
from services.profiles.archived import redact_log
from services.profiles.export import SELECTED, at_the_archive, export, write
from services.profiles.store.exports import ArchiveFile, ExportStore
from services.profiles.store.retention import RetentionStore


async def redact(store: ExportStore, tenant_id: str, archive: Path, node_ids: Sequence[str], upto: datetime) -> Redacted:
    """Reads every file of the tenant. Then brings the archive up to date, so that identities go too.

    Copies for a purpose go whole: whoever needs one exports it again.
    """
    shutil.rmtree(archive / f"{tenant_id}{SELECTED}", ignore_errors=True)
    folder, people = archive / tenant_id, pa.array(node_ids, pa.string())
    rows = files = 0
    for known in (await store.files(tenant_id)).values():
        table = pq.ParquetFile(folder / known.path).read()
        kept = table.filter(_others(table, people, upto))
        if kept.num_rows == table.num_rows:
            continue
        rows, files = rows + table.num_rows - kept.num_rows, files + 1
        await store.replace(tenant_id, known.path, _rewritten(folder, known.path, kept))
    await export(store, tenant_id, archive)
    return Redacted(rows, files)


def _others(table: pa.Table, people: pa.Array, upto: datetime) -> Any:
    """All rows but those of these people; of who came back since, events that were received later stay."""
    compute: Any = pc  # its functions are made at run time
    gone = compute.is_in(table["node_id"], value_set=people)
    if "received_at" in table.column_names:
        gone = compute.and_(gone, compute.less_equal(table["received_at"], pa.scalar(upto, table["received_at"].type)))
    return compute.invert(gone)


def _rewritten(folder: Path, path: str, kept: pa.Table) -> ArchiveFile | None:
    if kept.num_rows:
        return write(folder, path, kept)
    (folder / path).unlink(missing_ok=True)
    return None


async def _main(tenant_id: str, upto: datetime, node_ids: Sequence[str]) -> Redacted:
    async with at_the_archive("redact", tenant_id) as (database, archive):
        done = await redact(ExportStore(database), tenant_id, archive, node_ids, upto)
        rows, files = await redact_log(RetentionStore(database), tenant_id, archive / tenant_id, node_ids, upto)
        return Redacted(done.row_count + rows, done.file_count + files)


def main() -> None:
    """Entry point."""
    sys.stdout.buffer.write(
        msgspec.json.encode(asyncio.run(_main(sys.argv[1], datetime.fromisoformat(sys.argv[2]), sys.argv[3:]))) + b"\n"
    )


if __name__ == "__main__":
    main()
