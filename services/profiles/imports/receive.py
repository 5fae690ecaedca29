"""Uploads become jobs; jobs are asked for and cancelled."""

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from chassis.errors import Conflict, Exhausted, InvalidArgument, NotFound, Reason
from services.profiles.imports.mapping import read_mapping
from services.profiles.imports.spool import CHUNK_BYTES, Spool, binding
from services.profiles.store.imports import ImportStore, JobRow, RowRejection
from services.profiles.tenancy import Tenant
from services.profiles.vault import seal

FORMATS: Final = ("jsonl", "csv", "parquet")
MAX_SOURCE_LENGTH: Final = 64
MAX_UPLOADS: Final = 8
MAX_QUEUED: Final = 100


class Imports:
    """All for one tenant."""

    def __init__(self, store: ImportStore, spool: Spool, max_bytes: int) -> None:
        self._store = store
        self._spool = spool
        self._max_bytes = max_bytes

    async def begin(self, tenant: Tenant, format_: str, source: str, mapping: str) -> UUID:
        """An upload. Raises InvalidArgument where the mapping or the source is none; Exhausted where there are too many."""
        if not 0 < len(source) <= MAX_SOURCE_LENGTH or not source.isprintable():
            raise InvalidArgument(f"a source has 1 to {MAX_SOURCE_LENGTH} characters", field="source")
        text = mapping.encode()
        if text and format_ == "jsonl":
            raise InvalidArgument("a mapping is for the columns of CSV and Parquet", field="mapping")
        read_mapping(text)
        uploading, queued = await self._store.opened(tenant.tenant_id)
        if uploading >= MAX_UPLOADS or queued >= MAX_QUEUED:
            message = f"at most {MAX_UPLOADS} uploads at a time, and {MAX_QUEUED} jobs that wait"
            raise Exhausted(message, reason=Reason.QUEUE_FULL, retry_after_s=10.0)
        job_id = uuid4()
        wrapped_key, cipher = tenant.keys.new_wrapped_key(job_id)
        sealed = seal(cipher, text, binding(tenant.tenant_id, job_id))
        await self._store.add(tenant.tenant_id, job_id, format_=format_, source=source, mapping=sealed, wrapped_key=wrapped_key)
        return job_id

    async def write(self, tenant: Tenant, upload_id: UUID, index: int, content: bytes) -> None:
        """On disk when this returns. Raises NotFound, InvalidArgument, Exhausted."""
        if not 0 < len(content) <= CHUNK_BYTES or index < 0:
            raise InvalidArgument(f"a chunk has 1 to {CHUNK_BYTES:,} bytes", field="content")
        if index * CHUNK_BYTES + len(content) > self._max_bytes:
            message = f"a file has at most {self._max_bytes:,} bytes, decompressed"
            raise InvalidArgument(message, reason=Reason.BODY_TOO_LARGE, field="body")
        job = await self._found(tenant, upload_id)
        if job.state != "uploading" or job.wrapped_key is None:
            raise _no_upload()
        cipher = tenant.keys.unwrap(upload_id, job.wrapped_key)
        await asyncio.to_thread(self._spool.write, tenant.tenant_id, upload_id, cipher, index, content)

    async def abandon(self, tenant: Tenant, upload_id: UUID) -> None:
        """Nothing of it stays. Not of a job: that is cancelled."""
        if await self._store.delete_upload(tenant.tenant_id, upload_id):
            self._spool.remove(tenant.tenant_id, upload_id)

    async def queue(self, tenant: Tenant, upload_id: UUID, size_bytes: int) -> JobRow:
        """The job; again is the same. Raises NotFound, InvalidArgument where there are not all chunks."""
        job = await self._found(tenant, upload_id)
        if job.state != "uploading":
            if job.size_bytes != size_bytes:
                raise Conflict("the upload is a job already, of another size", field="size_bytes")
            return job
        if size_bytes <= 0:
            raise InvalidArgument("the file is empty", reason=Reason.MALFORMED_FILE, field="body")
        await asyncio.to_thread(self._spool.settle, tenant.tenant_id, upload_id, size_bytes)
        return await self._store.queue(tenant.tenant_id, upload_id, size_bytes) or await self._found(tenant, upload_id)

    async def get(self, tenant: Tenant, job_id: UUID) -> JobRow:
        """Raises NotFound; an upload is no job yet."""
        job = await self._found(tenant, job_id)
        if job.state == "uploading":
            raise _no_job()
        return job

    async def page(self, tenant: Tenant, before: tuple[datetime, UUID], limit: int) -> list[JobRow]:
        """Newest first."""
        return await self._store.page(tenant.tenant_id, before, limit)

    async def cancel(self, tenant: Tenant, job_id: UUID) -> JobRow:
        """As it is now: one that runs ends a little later. Raises NotFound."""
        job = await self._store.cancel(tenant.tenant_id, job_id)
        if job is None:
            return await self.get(tenant, job_id)
        if job.ended is not None:
            self._spool.remove(tenant.tenant_id, job_id)
        return job

    async def rejections(self, tenant: Tenant, job_id: UUID, after: int, limit: int) -> list[RowRejection]:
        """Raises NotFound."""
        await self.get(tenant, job_id)
        return await self._store.rejections(tenant.tenant_id, job_id, after, limit)

    async def _found(self, tenant: Tenant, job_id: UUID) -> JobRow:
        if (job := await self._store.find(tenant.tenant_id, job_id)) is None:
            raise _no_job()
        return job


def _no_job() -> NotFound:
    return NotFound("there is no such import job", field="import_job_id")


def _no_upload() -> NotFound:
    return NotFound("there is no such upload: it is a job already, or stood still for too long", field="upload_id")
