"""Import jobs of N rows as JSON lines, CSV and Parquet, asked of profiles over gRPC, beside COPY of the same rows.

Ours: a real profiles process; the file is sent in chunks, kept encrypted, and its job is followed to its end. The rows are
validated, deduplicated, their personal parts sealed, and on disk; the projector follows beside it, and the job waits for it
where it falls behind. The peer: COPY of exactly the rows that ours wrote (tenant, id, key, time, payload) into a table with a
primary key, 2,500 a transaction over one connection. Memory is sampled: the most of the job's process and of the serving one.

`python -m tests.bench.bench_import`; 10 million rows of one format: `python -m tests.bench.bench_import 10000000 csv`.
"""

import asyncio
import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rapport.profiles.v1 import event_pb2
from rapport.profiles.v1 import imports_pb2 as imports
from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.imports_pb2_grpc import ImportJobsStub
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import context, rpc
from chassis.errors import Unavailable
from chassis.migrate import migrate
from infra.postgres import Temporary, temporary
from tests.bench.bench_ingest import _PEER, service

ROWS: Final = 200_000
CUSTOMERS: Final = 5_000
FORMATS: Final = ("jsonl", "csv", "parquet")
BLOCK: Final = 10_000
COPIED: Final = 2_500
SAMPLE_S: Final = 0.1
_MB: Final = 1 << 20
_COLUMNS: Final = (
    "messageId", "userId", "timestamp", "properties.order_id", "properties.total", "properties.currency",
    "properties.product_id", "properties.email",
)  # fmt: skip
_CONSTANTS: Final = {"type": "track", "event": "Order Completed"}
_ENDED: Final = {imports.IMPORT_STATE_SUCCEEDED, imports.IMPORT_STATE_FAILED, imports.IMPORT_STATE_CANCELLED}


def rows_of(format_: str, count: int) -> Iterator[list[tuple[Any, ...]]]:
    """Orders, in blocks; the ids of each format are its own."""
    chance = random.Random(1)
    for start in range(0, count, BLOCK):
        block: list[tuple[Any, ...]] = []
        for number in range(start, min(start + BLOCK, count)):
            customer = chance.randrange(CUSTOMERS)
            moment = (
                f"2026-01-{1 + number // 86_400 % 28:02}T{number // 3_600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
            )
            total, product = round(chance.random() * 200, 2), f"p{chance.randrange(999)}"
            head = (f"{format_}-{number}", f"customer-{customer}", moment, f"o{number}")
            block.append((*head, total, "GBP", product, f"customer-{customer}@example.com"))
        yield block


def write(path: Path, format_: str, count: int) -> None:
    """The file, without holding it."""
    if format_ == "parquet":
        kinds = [pa.float64() if name == "properties.total" else pa.string() for name in _COLUMNS]
        schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)))
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            group: list[tuple[Any, ...]] = []
            for block in rows_of(format_, count):
                group += block
                if len(group) >= 100_000 or len(block) < BLOCK:
                    writer.write_table(_table(group, schema))
                    group = []
            if group:
                writer.write_table(_table(group, schema))
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        if format_ == "csv":
            writer_ = csv.writer(file)
            writer_.writerow(_COLUMNS)
            for block in rows_of(format_, count):
                writer_.writerows(block)
            return
        for block in rows_of(format_, count):
            file.write("".join(_line(row) for row in block))


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.Table.from_arrays(
        [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)], schema=schema
    )


def _line(row: tuple[Any, ...]) -> str:
    named = dict(zip(_COLUMNS, row, strict=True))
    properties = {name.partition(".")[2]: value for name, value in named.items() if "." in name}
    call = {**_CONSTANTS, **{name: value for name, value in named.items() if "." not in name}, "properties": properties}
    return msgspec.json.encode(call).decode() + "\n"


class Memory:
    """The most that the serving process and its jobs' processes took, in MB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.serving = self.job = self.processor_s = 0.0

    async def watch(self) -> None:
        while True:
            self.serving = max(self.serving, self._process.memory_info().rss / _MB)
            for child in self._process.children():
                try:
                    self.job = max(self.job, child.memory_info().rss / _MB)
                    times = child.cpu_times()
                    self.processor_s = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            await asyncio.sleep(SAMPLE_S)


@contextmanager
def _watching(pid: int) -> Iterator[Memory]:
    memory = Memory(pid)
    task = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        task.cancel()


async def _send(jobs: Any, path: Path, format_: str, size: int) -> tuple[str, float]:
    """(the job, seconds that the upload took)."""
    started = time.perf_counter()
    mapping = (
        "" if format_ == "jsonl" else msgspec.json.encode({"columns": _numbers(format_), "constants": _CONSTANTS}).decode()
    )
    kind = imports.ImportFormat.Value(f"IMPORT_FORMAT_{format_.upper()}")
    upload = await jobs.CreateImportUpload(imports.CreateImportUploadRequest(format=kind, source="bench", mapping=mapping))
    with path.open("rb") as file:
        index = 0
        while chunk := file.read(upload.chunk_bytes):
            request = imports.WriteImportChunkRequest(upload_id=upload.upload_id, index=index, content=chunk)
            await jobs.WriteImportChunk(request)
            index += 1
    await jobs.CreateImportJob(imports.CreateImportJobRequest(upload_id=upload.upload_id, size_bytes=size))
    return upload.upload_id, time.perf_counter() - started


def _numbers(format_: str) -> dict[str, Any]:
    return {"properties.total": {"field": "properties.total", "type": "number"}} if format_ == "csv" else {}


async def _ended(jobs: Any, job_id: str) -> imports.ImportJob:
    while True:
        job = (await jobs.GetImportJob(imports.GetImportJobRequest(import_job_id=job_id))).job
        if job.state in _ENDED:
            return job
        await asyncio.sleep(0.1)


async def _copy(connection: asyncpg.Connection, dsn: str, after: int) -> tuple[int, float]:
    """(rows, seconds) of COPY of what ours wrote after `after`; reading it is not counted."""
    columns = ("tenant_id", "event_id", "key", "received_at", "payload")
    count, seconds = 0, 0.0
    reading = await asyncpg.connect(dsn, ssl=False)
    async with reading.transaction():
        query = "SELECT tenant_id, key, received_at, payload FROM log.events WHERE seq > $1"
        cursor = await reading.cursor(query, after)
        while found := await cursor.fetch(COPIED):
            rows = [(row[0], event_pb2.Event.FromString(row[3]).event_id, *row[1:]) for row in found]
            started = time.perf_counter()
            await connection.copy_records_to_table("peer", schema_name="profiles", columns=columns, records=rows)
            seconds += time.perf_counter() - started
            count += len(rows)
    await reading.close()
    return count, seconds


async def _measure(
    jobs: Any, profiles: Any, connection: asyncpg.Connection, dsn: str, folder: Path, format_: str, count: int
) -> None:
    path = folder / f"rows.{format_}"
    write(path, format_, count)
    size = path.stat().st_size
    after = await connection.fetchval("SELECT coalesce(max(seq), 0) FROM log.events")
    with _watching(_serving_pid()) as memory:
        job_id, sent_s = await _send(jobs, path, format_, size)
        started = time.perf_counter()
        job = await _ended(jobs, job_id)
        took_s = time.perf_counter() - started
    assert (job.state, job.accepted_count) == (imports.IMPORT_STATE_SUCCEEDED, count), job
    waited = time.perf_counter()
    while (await profiles.GetFreshness(pb.GetFreshnessRequest())).lag_events:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    behind_s = time.perf_counter() - waited
    copied, copy_s = await _copy(connection, dsn, after)
    await asyncio.to_thread(path.unlink)
    ours, peer = count / took_s, copied / copy_s
    print(
        f"{format_:<8} {count:,} rows, {size / _MB:,.0f} MB: sent at {size / _MB / sent_s:,.0f} MB/s; {ours:,.0f} rows/s "
        f"(the job's process {memory.processor_s / count * 1e6:.0f} us of processor a row); projected {behind_s:.1f} s later; "
        f"COPY {peer:,.0f} rows/s; ratio {ours / peer:.2f}; memory: job {memory.job:,.0f} MB, serving {memory.serving:,.0f} MB",
        flush=True,
    )


def _serving_pid() -> int:
    children = psutil.Process().children()
    return next(each.pid for each in children if "services.profiles.main" in each.cmdline())


async def _run(address: str, database: Temporary, folder: Path, count: int, formats: list[str]) -> None:
    channel = rpc.channel("profiles", address, pb.DESCRIPTOR, imports.DESCRIPTOR)
    jobs: Any = ImportJobsStub(channel)
    profiles: Any = ProfilesStub(channel)
    connection = await asyncpg.connect(database.dsn("rapport_owner"), ssl=False)
    await connection.execute(_PEER)
    with context.use(tenant="bench", request_id="bench", actor="bench"):
        for _ in range(300):
            try:
                await profiles.CreateTenant(pb.CreateTenantRequest(tenant_id="bench", clock=pb.CLOCK_KIND_EVENTS))
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        for format_ in formats:
            await _measure(jobs, profiles, connection, database.dsn("rapport_owner"), folder, format_, count)
    await connection.close()
    await channel.close()


def main() -> None:
    """`[rows] [formats...]`."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    formats = sys.argv[2:] or list(FORMATS)
    with temporary() as database, tempfile.TemporaryDirectory() as folder:
        os.environ["RAPPORT_PROFILES_IMPORT_FOLDER"] = str(Path(folder) / "imports")
        migrate(database.dsn("rapport_owner"), ("profiles",))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with service(database, Path(folder)) as address:
            asyncio.run(_run(address, database, Path(folder), count, formats))


if __name__ == "__main__":
    main()
