"""What of a tenant's archive may be read for a purpose: `python -m services.profiles.select <tenant> <purpose> <channel>`.

    <archive>/<tenant>.for/<digest of purpose and channel>/     laid out as the tenant's own archive

Written anew each time: what people allow changes. A process of its own for Arrow's sake, as services.profiles.export; it brings
the archive up to date first, and answers one line of JSON.
"""

import asyncio
import hashlib
import shutil
import sys
from collections.abc import Set
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.profiles.archive import Exported
from services.profiles.domain.consent import Use, channel_of, decide
from services.profiles.export import IDENTITIES, SELECTED, at_the_archive, digest, export, write
from services.profiles.store.consents import ConsentStore
from services.profiles.store.exports import ArchiveFile, ExportStore

_PAGE: Final = 10_000


async def withheld(store: ConsentStore, tenant_id: str, use: Use) -> tuple[int, set[UUID]]:
    """(profiles that do not allow a use, their nodes)."""
    count, nodes = 0, set[UUID]()
    async for known in store.everybody(tenant_id, use.purpose, _PAGE):
        basis, profiles = known.bases.get(use.purpose), set(known.profile_of.values())
        denied = {each for each in profiles if not decide(known.records.get(each, []), basis, use.channel).is_allowed}
        count += len(denied)
        nodes.update(node for node, profile in known.profile_of.items() if profile in denied)
    return count, nodes


async def select(exports: ExportStore, consents: ConsentStore, tenant_id: str, archive: Path, use: Use) -> Exported:
    """Raises what `export` raises."""
    done = await export(exports, tenant_id, archive)
    count, nodes = await withheld(consents, tenant_id, use)
    folder = folder_for(archive, tenant_id, use)
    shutil.rmtree(folder, ignore_errors=True)
    paths = [*(await exports.files(tenant_id)), IDENTITIES]
    files = [file for path in paths if (file := _kept(archive / tenant_id, folder, path, nodes))]
    events = sum(file.event_count for file in files if file.path != IDENTITIES)
    return Exported(str(folder), events, digest(files), done.through_us, count)


def folder_for(archive: Path, tenant_id: str, use: Use) -> Path:
    """Where the part for a use is. A purpose may hold what no path may."""
    name = hashlib.sha256(f"{use.channel}\0{use.purpose}".encode()).hexdigest()[:16]
    return archive / f"{tenant_id}{SELECTED}" / name


def _kept(source: Path, folder: Path, path: str, nodes: Set[UUID]) -> ArchiveFile | None:
    """None where nothing is left. The file of identities always is, so that the folder is an archive."""
    table = pq.ParquetFile(source / path).read()
    people = pa.array([str(node) for node in nodes], pa.string())
    compute: Any = pc  # its functions are made at run time
    kept = table.filter(compute.invert(compute.is_in(table["node_id"], value_set=people)))
    return write(folder, path, kept) if kept.num_rows or path == IDENTITIES else None


async def _main(tenant_id: str, use: Use) -> Exported:
    async with at_the_archive("select", tenant_id) as (database, archive):
        return await select(ExportStore(database), ConsentStore(database), tenant_id, archive, use)


def main() -> None:
    """Entry point."""
    tenant_id, purpose, channel = sys.argv[1:]
    done = asyncio.run(_main(tenant_id, Use(purpose, channel_of(channel, "channel"))))
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")


if __name__ == "__main__":
    main()
