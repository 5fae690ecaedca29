"""Import jobs as the gateway knows them: what was sent is kept, and a job has succeeded when it is made."""

from collections import defaultdict
from typing import Any
from uuid import uuid4

from rapport.profiles.v1 import imports_pb2 as imports
from rapport.profiles.v1.imports_pb2_grpc import ImportJobsServicer

from chassis import context
from chassis.errors import InvalidArgument, NotFound, Reason
from tests.integration.gateway.stand_ins import stamp, start_of

CHUNK_BYTES = 64 * 1024
REJECTED_ROWS = 2_500


class ImportJobs(ImportJobsServicer):
    """`uploads` and `jobs` by tenant; `chunks` by upload, in order."""

    def __init__(self) -> None:
        self.asked: dict[str, imports.CreateImportUploadRequest] = {}
        self.chunks: dict[str, list[bytes]] = {}
        self.jobs: dict[str, dict[str, imports.ImportJob]] = defaultdict(dict)
        self.deleted: list[str] = []
        # Chunks are counted and let go.
        self.forgets = False

    async def CreateImportUpload(self, request: Any, call: object) -> imports.CreateImportUploadResponse:
        if request.mapping == "wrong":
            raise InvalidArgument("a mapping is JSON", field="mapping")
        upload_id = str(uuid4())
        self.asked[upload_id], self.chunks[upload_id] = request, []
        return imports.CreateImportUploadResponse(upload_id=upload_id, chunk_bytes=CHUNK_BYTES)

    async def WriteImportChunk(self, request: Any, call: object) -> imports.WriteImportChunkResponse:
        assert request.index == len(self.chunks[request.upload_id])
        self.chunks[request.upload_id].append(b"" if self.forgets else request.content)
        return imports.WriteImportChunkResponse()

    async def DeleteImportUpload(self, request: Any, call: object) -> imports.DeleteImportUploadResponse:
        self.deleted.append(request.upload_id)
        return imports.DeleteImportUploadResponse()

    async def CreateImportJob(self, request: Any, call: object) -> imports.CreateImportJobResponse:
        asked = self.asked[request.upload_id]
        if not request.size_bytes:
            raise InvalidArgument("the file is empty", reason=Reason.MALFORMED_FILE, field="body")
        job = imports.ImportJob(
            import_job_id=request.upload_id,
            state=imports.IMPORT_STATE_SUCCEEDED,
            format=asked.format,
            source=asked.source,
            created=stamp(),
            size_bytes=request.size_bytes,
        )
        self.jobs[context.tenant()][request.upload_id] = job
        return imports.CreateImportJobResponse(job=job)

    def _get(self, job_id: str) -> imports.ImportJob:
        if (job := self.jobs[context.tenant()].get(job_id)) is None:
            raise NotFound("there is no such import job", field="import_job_id")
        return job

    async def GetImportJob(self, request: Any, call: object) -> imports.GetImportJobResponse:
        return imports.GetImportJobResponse(job=self._get(request.import_job_id))

    async def CancelImportJob(self, request: Any, call: object) -> imports.CancelImportJobResponse:
        return imports.CancelImportJobResponse(job=self._get(request.import_job_id))

    async def ListImportJobs(self, request: Any, call: object) -> imports.ListImportJobsResponse:
        start_of(request.page_token)
        return imports.ListImportJobsResponse(jobs=list(self.jobs[context.tenant()].values())[: request.page_size])

    async def ListImportRejections(self, request: Any, call: object) -> imports.ListImportRejectionsResponse:
        self._get(request.import_job_id)
        start = start_of(request.page_token)
        end = min(start + request.page_size, REJECTED_ROWS)
        rows = [
            imports.ImportRejection(row=row, reason="MISSING_IDENTITY", field="userId", message='no, "none"')
            for row in range(start + 1, end + 1)
        ]
        return imports.ListImportRejectionsResponse(rejections=rows, next_page_token=str(end) if end < REJECTED_ROWS else "")
