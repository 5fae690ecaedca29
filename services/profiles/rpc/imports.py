"""The gRPC service of import jobs."""

from datetime import datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1 import imports_pb2 as pb
from rapport.profiles.v1 import imports_pb2_grpc

from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.imports.manage import Jobs
from services.profiles.imports.receive import Imports
from services.profiles.imports.spool import CHUNK_BYTES
from services.profiles.rpc import paging, wire
from services.profiles.store.imports import JobRow
from services.profiles.tenancy import Tenants

_FORMATS: Final = {pb.IMPORT_FORMAT_JSONL: "jsonl", pb.IMPORT_FORMAT_CSV: "csv", pb.IMPORT_FORMAT_PARQUET: "parquet"}
_NUMBERS: Final = {name: number for number, name in _FORMATS.items()}
_STATES: Final = {
    "queued": pb.IMPORT_STATE_QUEUED,
    "running": pb.IMPORT_STATE_RUNNING,
    "succeeded": pb.IMPORT_STATE_SUCCEEDED,
    "failed": pb.IMPORT_STATE_FAILED,
    "cancelled": pb.IMPORT_STATE_CANCELLED,
}


class ImportJobsRpc(imports_pb2_grpc.ImportJobsServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, imports: Imports, jobs: Jobs) -> None:
        self._tenants = tenants
        self._imports = imports
        self._jobs = jobs

    async def CreateImportUpload(self, request: pb.CreateImportUploadRequest, context: object) -> pb.CreateImportUploadResponse:
        tenant = await self._tenants.present()
        if (format_ := _FORMATS.get(request.format)) is None:
            raise InvalidArgument("there is no such format", field="format")
        upload_id = await self._imports.begin(tenant, format_, request.source, request.mapping)
        return pb.CreateImportUploadResponse(upload_id=str(upload_id), chunk_bytes=CHUNK_BYTES)

    async def WriteImportChunk(self, request: pb.WriteImportChunkRequest, context: object) -> pb.WriteImportChunkResponse:
        tenant = await self._tenants.present()
        await self._imports.write(tenant, _id_of(request.upload_id), request.index, request.content)
        return pb.WriteImportChunkResponse()

    async def DeleteImportUpload(self, request: pb.DeleteImportUploadRequest, context: object) -> pb.DeleteImportUploadResponse:
        tenant = await self._tenants.present()
        await self._imports.abandon(tenant, _id_of(request.upload_id))
        return pb.DeleteImportUploadResponse()

    async def CreateImportJob(self, request: pb.CreateImportJobRequest, context: object) -> pb.CreateImportJobResponse:
        tenant = await self._tenants.present()
        job = await self._imports.queue(tenant, _id_of(request.upload_id), request.size_bytes)
        self._jobs.wake()
        return pb.CreateImportJobResponse(job=_job(job))

    async def GetImportJob(self, request: pb.GetImportJobRequest, context: object) -> pb.GetImportJobResponse:
        tenant = await self._tenants.present()
        return pb.GetImportJobResponse(job=_job(await self._imports.get(tenant, _id_of(request.import_job_id))))

    async def ListImportJobs(self, request: pb.ListImportJobsRequest, context: object) -> pb.ListImportJobsResponse:
        tenant = await self._tenants.present()
        size, (moment, row_id) = paging.page_size(request.page_size), paging.moment_before(request.page_token)
        if len(row_id) not in (16, 32):
            raise _bad_token()
        rows = await self._imports.page(tenant, (moment, UUID(bytes=row_id[:16])), size + 1)
        more = paging.moment_token(rows[size - 1].created, rows[size - 1].job_id.bytes) if len(rows) > size else ""
        return pb.ListImportJobsResponse(jobs=[_job(row) for row in rows[:size]], next_page_token=more)

    async def CancelImportJob(self, request: pb.CancelImportJobRequest, context: object) -> pb.CancelImportJobResponse:
        tenant = await self._tenants.present()
        return pb.CancelImportJobResponse(job=_job(await self._imports.cancel(tenant, _id_of(request.import_job_id))))

    async def ListImportRejections(
        self, request: pb.ListImportRejectionsRequest, context: object
    ) -> pb.ListImportRejectionsResponse:
        tenant = await self._tenants.present()
        size, after = paging.page_size(request.page_size), _row_after(request.page_token)
        rows = await self._imports.rejections(tenant, _id_of(request.import_job_id), after, size + 1)
        found = [
            pb.ImportRejection(row=row.row_number, reason=row.reason, field=row.field, message=row.message)
            for row in rows[:size]
        ]
        more = str(rows[size - 1].row_number) if len(rows) > size else ""
        return pb.ListImportRejectionsResponse(rejections=found, next_page_token=more)


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("there is no such import job", field="import_job_id") from None


def _bad_token() -> InvalidArgument:
    return InvalidArgument("the page token is not one of ours", reason=Reason.INVALID_CURSOR, field="page_token")


def _row_after(token: str) -> int:
    if token and not (token.isascii() and token.isdecimal() and len(token) < 19):
        raise _bad_token()
    return int(token or 0)


def _job(row: JobRow) -> pb.ImportJob:
    is_whole = row.state == "succeeded"
    share = 1.0 if is_whole else min(1.0, row.place / row.total) if row.total else 0.0
    return pb.ImportJob(
        import_job_id=str(row.job_id),
        state=_STATES[row.state],
        format=_NUMBERS[row.format],
        source=row.source,
        created=wire.timestamp(row.created),
        started=_moment(row.started),
        ended=_moment(row.ended),
        row_count=row.row_count,
        accepted_count=row.accepted_count,
        duplicate_count=row.duplicate_count,
        rejected_count=row.rejected_count,
        quarantined_count=row.quarantined_count,
        size_bytes=row.size_bytes,
        read_bytes=round(row.size_bytes * share),
        percent=round(100 * share, 2),
        rows_per_s=round(row.rows_per_s, 1),
        reason=row.reason,
        field=row.field,
        message=row.message,
        cancel_requested=row.cancel_requested,
    )


def _moment(value: datetime | None) -> Timestamp | None:
    return wire.timestamp(value) if value is not None else None
