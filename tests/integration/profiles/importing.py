"""What tests of import jobs need: replicas of profiles, a client of theirs, and files."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rapport.profiles.v1 import imports_pb2 as imports
from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.imports_pb2_grpc import ImportJobsStub
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import rpc
from chassis.errors import InvalidArgument, NotFound, Unavailable
from infra.ports import free_port
from infra.postgres import Temporary

TRACK = {"type": "track", "event": "Seen"}
_ENDED = {imports.IMPORT_STATE_SUCCEEDED, imports.IMPORT_STATE_FAILED, imports.IMPORT_STATE_CANCELLED}
# A name of the command line of a job's process.
_RUN = "services.profiles.imports.run"


@dataclass(slots=True)
class Replica:
    """A process of profiles, and what its jobs run in."""

    process: subprocess.Popen[bytes]
    port: int

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [each for each in psutil.Process(self.process.pid).children() if _RUN in " ".join(each.cmdline())]
        return []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(slots=True)
class Place:
    """Where replicas run: one database, one folder."""

    database: Temporary
    folder: Path
    replicas: list[Replica] = field(default_factory=list[Replica])

    def start(self) -> Replica:
        port = free_port()
        settings = {
            "DATABASE_URL": self.database.dsn("rapport_profiles"),
            "LISTEN": f"127.0.0.1:{port}",
            "METRICS_LISTEN": f"127.0.0.1:{free_port()}",
            "MASTER_KEY_FILE": str(self.folder / "master.key"),
            "ARCHIVE_FOLDER": str(self.folder / "archive"),
            "IMPORT_FOLDER": str(self.folder / "imports"),
        }
        environment = os.environ | {f"RAPPORT_PROFILES_{name}": value for name, value in settings.items()}
        with (self.folder / "imports.log").open("ab") as log:
            command = [sys.executable, "-m", "services.profiles.main"]
            replica = Replica(subprocess.Popen(command, env=environment, stdout=log, stderr=log), port)
        self.replicas.append(replica)
        return replica

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "imports").rglob("*") if path.is_file()]


class Importer:
    """What a client does, for the tenant of the present call."""

    def __init__(self, port: int) -> None:
        self._channel = rpc.channel("profiles", f"127.0.0.1:{port}", pb.DESCRIPTOR, imports.DESCRIPTOR)
        self.profiles: Any = ProfilesStub(self._channel)
        self.jobs: Any = ImportJobsStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def answered(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                await self.jobs.ListImportJobs(imports.ListImportJobsRequest())
                return
            except (InvalidArgument, NotFound):  # of the tenant: it answers
                return
            except Unavailable:
                assert time.monotonic() < until, "the process does not answer"
                await asyncio.sleep(0.1)

    async def create_tenant(self, name: str) -> None:
        await self.answered()
        await self.profiles.CreateTenant(pb.CreateTenantRequest(tenant_id=name, clock=pb.CLOCK_KIND_EVENTS))

    async def upload(self, content: bytes, format_: str, mapping: Mapping[str, Any] | None = None, source: str = "test") -> str:
        text = json.dumps(mapping) if mapping else ""
        kind = imports.ImportFormat.Value(f"IMPORT_FORMAT_{format_.upper()}")
        request = imports.CreateImportUploadRequest(format=kind, source=source, mapping=text)
        upload = await self.jobs.CreateImportUpload(request)
        for index, at in enumerate(range(0, len(content), upload.chunk_bytes)):
            chunk = imports.WriteImportChunkRequest(
                upload_id=upload.upload_id, index=index, content=content[at : at + upload.chunk_bytes]
            )
            await self.jobs.WriteImportChunk(chunk)
        return upload.upload_id

    async def send(self, content: bytes, format_: str, mapping: Mapping[str, Any] | None = None, source: str = "test") -> str:
        upload_id = await self.upload(content, format_, mapping, source)
        request = imports.CreateImportJobRequest(upload_id=upload_id, size_bytes=len(content))
        return (await self.jobs.CreateImportJob(request)).job.import_job_id

    async def get(self, job_id: str) -> imports.ImportJob:
        return (await self.jobs.GetImportJob(imports.GetImportJobRequest(import_job_id=job_id))).job

    async def ended(self, job_id: str, patience_s: float = 120) -> imports.ImportJob:
        until = time.monotonic() + patience_s
        while (job := await self.get(job_id)).state not in _ENDED:
            assert sum_of(job) == job.row_count
            assert time.monotonic() < until, f"the job does not end: {job}"
            await asyncio.sleep(0.05)
        assert sum_of(job) == job.row_count
        return job

    async def reached(self, job_id: str, rows: int) -> None:
        until = time.monotonic() + 60
        while (await self.get(job_id)).row_count < rows:
            assert time.monotonic() < until, "the job does not get on"
            await asyncio.sleep(0.01)

    async def rejections(self, job_id: str) -> list[tuple[int, str, str]]:
        found: list[tuple[int, str, str]] = []
        token = ""
        while True:
            page = await self.jobs.ListImportRejections(
                imports.ListImportRejectionsRequest(import_job_id=job_id, page_size=2, page_token=token)
            )
            found += [(each.row, each.reason, each.field) for each in page.rejections]
            if not (token := page.next_page_token):
                return found


def sum_of(job: imports.ImportJob) -> int:
    return job.accepted_count + job.duplicate_count + job.rejected_count + job.quarantined_count


def counts_of(job: imports.ImportJob) -> tuple[int, int, int, int]:
    return job.row_count, job.accepted_count, job.duplicate_count, job.rejected_count


def lines(count: int, start: int = 0) -> bytes:
    """Calls with ids; each tenth is rejected, each seventh comes twice."""
    found: list[bytes] = []
    for number in range(start, start + count):
        call: dict[str, Any] = {**TRACK, "userId": f"u{number % 500}", "messageId": f"m{number - (number % 7 == 1)}"}
        call["properties"] = {"number": number, "email": f"ann{number}@example.com"}
        if number % 10 == 9:
            del call["userId"]
        found.append(json.dumps(call).encode() + b"\n")
    return b"".join(found)
