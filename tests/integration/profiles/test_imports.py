"""Import jobs as they run: real processes, killed at any time; every row has one fate, and nothing is doubled."""

import asyncio
import io
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rapport.profiles.v1 import imports_pb2 as imports

from chassis.db import Database, connect
from chassis.errors import Conflict, InvalidArgument, NotFound
from infra.postgres import Temporary
from services.profiles.imports.manage import ABANDONED_S, MAX_ATTEMPTS, Jobs
from services.profiles.imports.spool import Spool
from services.profiles.precedence import Precedence
from services.profiles.store.imports import ImportStore
from tests.integration.profiles.importing import TRACK, Importer, Place, counts_of, lines


def _expected(count: int) -> tuple[int, int, int, int]:
    seen: set[int] = set()
    rejected = duplicate = 0
    for number in range(count):
        message = number - (number % 7 == 1)
        if number % 10 == 9:
            rejected += 1
        elif message in seen:
            duplicate += 1
        else:
            seen.add(message)
    return count, len(seen), duplicate, rejected


@pytest.fixture(scope="module")
def place(platform_database: Temporary, folder: Path) -> Iterator[Place]:
    place = Place(platform_database, folder)
    yield place
    for replica in place.replicas:
        replica.process.send_signal(signal.SIGTERM)
    for replica in place.replicas:
        with suppress(subprocess.TimeoutExpired):
            replica.process.wait(timeout=20)
        replica.process.kill()
        replica.process.wait()


@pytest_asyncio.fixture(scope="module")
async def importer(place: Place) -> AsyncIterator[Importer]:
    client = Importer(place.start().port)
    await client.answered()
    yield client
    await client.close()


@pytest_asyncio.fixture
async def database(platform_database: Temporary) -> AsyncIterator[Database]:
    pool = await connect(platform_database.dsn("rapport_profiles"), connections=2, service="test", everyone=True)
    yield pool
    await pool.close()


async def _logged(database: Database, tenant: str) -> tuple[int, int]:
    """(events of the tenant in the log, receipts)."""
    async with database.connection() as connection:
        events = await connection.fetchval("SELECT count(*) FROM log.events WHERE tenant_id = $1", tenant)
        return events, await connection.fetchval("SELECT count(*) FROM log.receipts WHERE tenant_id = $1", tenant)


@contextmanager
def _stopped(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


async def test_every_row_has_one_fate_and_the_file_and_its_key_are_gone(
    place: Place, importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    job_id = await importer.send(lines(10_000), "jsonl")
    job = await importer.ended(job_id)
    assert job.state == imports.IMPORT_STATE_SUCCEEDED, job
    assert counts_of(job) == _expected(10_000)
    assert (job.percent, job.read_bytes) == (100.0, job.size_bytes)
    assert await _logged(database, tenant) == (job.accepted_count, job.accepted_count)
    rejected = await importer.rejections(job_id)
    assert rejected == [(number, "MISSING_IDENTITY", "userId") for number in range(10, 10_001, 10)]
    assert not any(job_id in str(path) for path in place.files())
    async with database.connection() as connection:
        kept = await connection.fetchrow("SELECT wrapped_key, mapping FROM profiles.import_jobs WHERE job_id = $1", job_id)
    assert tuple(kept or ()) == (None, b"")


async def test_the_same_file_again_doubles_nothing_with_ids_and_without(
    importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    rows = "".join(f"u{number % 50},{number},2026-01-01T00:00:{number % 60:02}Z\n" for number in range(4_000))
    content = ("userId,properties.number,timestamp\n" + rows).encode()
    mapping = {"constants": TRACK}
    first = await importer.ended(await importer.send(content, "csv", mapping))
    again = await importer.ended(await importer.send(content, "csv", mapping))
    assert counts_of(first) == (4_000, 4_000, 0, 0)
    assert counts_of(again) == (4_000, 0, 4_000, 0)
    other = await importer.ended(await importer.send(content, "csv", mapping, source="another"))
    assert counts_of(other) == (4_000, 4_000, 0, 0)
    assert (await _logged(database, tenant))[0] == 8_000


async def test_the_same_rows_as_parquet_are_accepted_and_typed_by_their_schema(importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    count = 6_000
    table = pa.table(
        {
            "Customer": [f"u{number % 20}" if number % 4 else None for number in range(count)],
            "properties.total": [float(number) if number % 3 else -1.0 for number in range(count)],
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=1_700)
    mapping = {"columns": {"Customer": "userId"}, "constants": {"type": "track", "event": "Order Completed"}}
    job_id = await importer.send(file.getvalue(), "parquet", mapping)
    job = await importer.ended(job_id)
    assert job.state == imports.IMPORT_STATE_SUCCEEDED, job
    reasons = {reason for _, reason, _ in await importer.rejections(job_id)}
    assert reasons == {"MISSING_IDENTITY", "NEGATIVE_PRICE"}
    assert job.rejected_count == sum(number % 4 == 0 or number % 3 == 0 for number in range(count))
    assert job.accepted_count == count - job.rejected_count


async def test_a_killed_job_goes_on_at_its_row_and_counts_each_row_once(
    place: Place, importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    count = 60_000
    job_id = await importer.send(lines(count), "jsonl")
    killed = 0
    for rows in (1, 15_000, 30_000):
        await importer.reached(job_id, rows)
        for child in place.replicas[0].children():
            # Between the commit of a batch and its count, as often as chance has it.
            await asyncio.sleep(0.03 * killed)
            child.kill()
            killed += 1
    job = await importer.ended(job_id)
    assert killed >= 2
    assert job.state == imports.IMPORT_STATE_SUCCEEDED, job
    assert counts_of(job) == _expected(count)
    assert (await _logged(database, tenant))[0] == job.accepted_count
    assert len(await importer.rejections(job_id)) == job.rejected_count


async def test_a_batch_that_was_taken_and_not_counted_is_counted_once(
    place: Place, importer: Importer, tenant: str, database: Database
) -> None:
    """The worst moment to die: the events are in the log, and the job does not know."""
    await importer.create_tenant(tenant)
    count = 20_000
    job_id = await importer.send(lines(count), "jsonl")
    await importer.reached(job_id, 1)
    (child,) = place.replicas[0].children()
    until = time.monotonic() + 60
    while True:
        with _stopped(child):
            job = await importer.get(job_id)
            events, _ = await _logged(database, tenant)
            if events > job.accepted_count:
                child.kill()
                break
        assert time.monotonic() < until
        assert job.row_count < count, "it was never seen between the two"
        await asyncio.sleep(0.005)
    job = await importer.ended(job_id)
    assert job.state == imports.IMPORT_STATE_SUCCEEDED, job
    assert counts_of(job) == _expected(count)


async def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(place: Place, importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    running = await importer.send(lines(60_000), "jsonl")
    waiting = await importer.send(lines(10), "jsonl")
    await importer.reached(running, 1)
    assert (await importer.get(waiting)).state == imports.IMPORT_STATE_QUEUED
    for job_id in (waiting, running):
        await importer.jobs.CancelImportJob(imports.CancelImportJobRequest(import_job_id=job_id))
    job = await importer.ended(running)
    assert job.state == imports.IMPORT_STATE_CANCELLED
    assert 0 < job.row_count < 60_000
    assert (await importer.get(waiting)).state == imports.IMPORT_STATE_CANCELLED
    assert not any(job_id in str(path) for job_id in (waiting, running) for path in place.files())
    again = await importer.jobs.CancelImportJob(imports.CancelImportJobRequest(import_job_id=running))
    assert again.job == job


@pytest.mark.parametrize(
    ("content", "format_", "mapping", "words"),
    [
        (b"PAR1 and nonsense", "parquet", None, "not Parquet"),
        (b"Total\n1\n", "csv", {"constants": TRACK}, "'Total' is no field"),
        (b"\xff\xfe{\x00", "jsonl", None, "UTF-16"),
    ],
)
async def test_a_file_that_cannot_be_read_is_a_failed_job_with_a_sentence(
    importer: Importer, tenant: str, content: bytes, format_: str, mapping: Mapping[str, Any] | None, words: str
) -> None:
    await importer.create_tenant(tenant)
    job = await importer.ended(await importer.send(content, format_, mapping))
    assert (job.state, job.row_count, job.reason) == (imports.IMPORT_STATE_FAILED, 0, "MALFORMED_FILE")
    assert words in job.message


async def test_nothing_of_a_file_is_on_disk_in_plain(place: Place, importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    await importer.upload(lines(5_000), "jsonl")
    stored = [path.read_bytes() for path in place.files() if tenant in str(path)]
    assert sum(map(len, stored)) > 500_000
    assert not any(b"@example" in each or b"userId" in each for each in stored)


async def test_an_upload_is_no_job_and_what_was_given_up_leaves_nothing(place: Place, importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    upload_id = await importer.upload(b"some", "jsonl")
    with pytest.raises(NotFound):
        await importer.get(upload_id)
    assert not (await importer.jobs.ListImportJobs(imports.ListImportJobsRequest())).jobs
    for size in (3, 5):
        with pytest.raises(InvalidArgument, match="not all of its chunks"):
            await importer.jobs.CreateImportJob(imports.CreateImportJobRequest(upload_id=upload_id, size_bytes=size))
    await importer.jobs.DeleteImportUpload(imports.DeleteImportUploadRequest(upload_id=upload_id))
    assert not any(upload_id in str(path) for path in place.files())
    with pytest.raises(NotFound):
        await importer.jobs.WriteImportChunk(imports.WriteImportChunkRequest(upload_id=upload_id, index=0, content=b"more"))


async def test_an_upload_that_stood_still_is_removed_and_a_young_one_is_not(
    place: Place, importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    old, young = [await importer.upload(b"some", "jsonl") for _ in range(2)]
    spool = Spool(place.folder / "imports")
    long_ago = time.time() - ABANDONED_S - 1
    os.utime(spool.path(tenant, UUID(old)), (long_ago, long_ago))
    spool.write(tenant, uuid4(), AESGCM(bytes(32)), 0, b"of no job at all")
    async with database.connection() as connection:
        await connection.execute("UPDATE profiles.import_jobs SET created_at = 'epoch' WHERE tenant_id = $1", tenant)

    async def no_lag() -> int:
        return 0

    await Jobs(ImportStore(database), spool, {}, Precedence(), no_lag).tidy_once()
    assert [path.stem for path in place.files() if tenant in str(path)] == [young]
    with pytest.raises(NotFound):
        await importer.jobs.WriteImportChunk(imports.WriteImportChunkRequest(upload_id=old, index=0, content=b"x"))


async def test_a_job_whose_process_dies_again_and_again_at_one_place_fails(
    importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    upload_id = await importer.upload(lines(10), "jsonl")
    async with database.connection() as connection:
        await connection.execute("UPDATE profiles.import_jobs SET attempts = $2 WHERE tenant_id = $1", tenant, MAX_ATTEMPTS)
    await importer.jobs.CreateImportJob(imports.CreateImportJobRequest(upload_id=upload_id, size_bytes=len(lines(10))))
    job = await importer.ended(upload_id)
    assert (job.state, job.row_count) == (imports.IMPORT_STATE_FAILED, 0)
    assert "died 5 times" in job.message


async def test_a_job_is_made_once_and_is_nobody_elses(importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    upload_id = await importer.upload(lines(10), "jsonl")
    request = imports.CreateImportJobRequest(upload_id=upload_id, size_bytes=len(lines(10)))
    first, again = [(await importer.jobs.CreateImportJob(request)).job for _ in range(2)]
    assert first.import_job_id == again.import_job_id == upload_id
    with pytest.raises(Conflict):
        await importer.jobs.CreateImportJob(imports.CreateImportJobRequest(upload_id=upload_id, size_bytes=1))
    await importer.ended(upload_id)
    other = f"{tenant}-other"
    from chassis import context

    with context.use(tenant=other):
        await importer.create_tenant(other)
        for call in (importer.get(upload_id), importer.rejections(upload_id)):
            with pytest.raises(NotFound):
                await call


async def test_jobs_are_listed_newest_first(importer: Importer, tenant: str) -> None:
    await importer.create_tenant(tenant)
    sent = [await importer.send(lines(3), "jsonl") for _ in range(3)]
    for job_id in sent:
        await importer.ended(job_id)
    first = await importer.jobs.ListImportJobs(imports.ListImportJobsRequest(page_size=2))
    rest = await importer.jobs.ListImportJobs(imports.ListImportJobsRequest(page_token=first.next_page_token))
    assert [job.import_job_id for job in [*first.jobs, *rest.jobs]] == sent[::-1]
    with pytest.raises(InvalidArgument):
        await importer.jobs.ListImportJobs(imports.ListImportJobsRequest(page_token="nonsense"))


# The last one: it kills a replica that the others need.
async def test_of_two_replicas_one_works_and_the_other_takes_over_when_it_dies(
    place: Place, importer: Importer, tenant: str, database: Database
) -> None:
    await importer.create_tenant(tenant)
    second = place.start()
    client = Importer(second.port)
    await client.answered()
    count = 60_000
    job_id = await client.send(lines(count), "jsonl")
    await client.reached(job_id, 1)
    workers = [replica for replica in place.replicas if replica.children()]
    assert len(workers) == 1
    assert sum(len(replica.children()) for replica in place.replicas) == 1
    (child,) = workers[0].children()
    workers[0].kill()
    # Nobody tells it: it hears that its parent is gone.
    await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert not child.is_running()
    survivor = importer if workers[0] is second else client
    job = await survivor.ended(job_id)
    assert job.state == imports.IMPORT_STATE_SUCCEEDED, job
    assert counts_of(job) == _expected(count)
    assert (await _logged(database, tenant))[0] == job.accepted_count
    await client.close()
