"""Files of events as jobs."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Depends, Path, Query, Request
from pydantic import Field
from rapport.profiles.v1 import imports_pb2
from starlette.responses import Response, StreamingResponse

from chassis.errors import Denied, InvalidArgument, Reason
from services.gateway.api.admission import caller, needs, router
from services.gateway.api.serving import Services
from services.gateway.domain import Key, Kind, Scope
from services.gateway.uploading import Uploads
from services.gateway.wire import UUID, WORD, Answer, Cursor, Limit, Lower, Page, enum_number

_FORMAT: Final = imports_pb2.ImportFormat.DESCRIPTOR
_BY_CONTENT_TYPE: Final = {
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/json-lines": "jsonl",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
}
_DOWNLOADS: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
_PAGE: Final = 1000
_ABOUT: Final = """
Takes a file of events of any size, and answers when it is on disk, encrypted; its rows are then read in the background. The
body is the file itself, plain or with `Content-Encoding: gzip`.

- `jsonl`: one Segment call a line, as in a batch, UTF-8.
- `csv`: UTF-8, commas, quotes as in RFC 4180, a header. `parquet`: any Parquet file.

Columns go by their names: `type`, `messageId`, `userId`, `anonymousId`, `previousId`, `groupId`, `event`, `name`, `category`,
`channel`, `timestamp`, `originalTimestamp`, `sentAt`, and with dots `properties.total`, `traits.email`, `context.locale`.
`mapping` renames columns, leaves some out, says what their values are, and gives what is the same in all rows:
`{"columns": {"Customer": "userId", "Total": {"field": "properties.total", "type": "number"}, "Junk": null},
"constants": {"type": "track", "event": "Order Completed"}}`. Every column is a field of a call or is left out by null.

A value of a CSV is text, also where it looks like a number, unless the mapping says `number` (12.5, -3, 1e6), `integer`,
`boolean` (true, false, 1, 0) or `json`; nothing else is guessed, and a value that is not what was said rejects its row. A value
of a Parquet file is what its schema says: numbers, truth values, texts, times (without a zone: UTC), lists and structs; the
mapping may say otherwise. An empty cell, null and not-a-number are absent.

A row without messageId gets one made of `source` and its content. So the same file again, or a part of it, changes nothing, and
two rows alike in all columns count once: give such rows a messageId of their own.
"""

routes = router("Imports")


async def _private(request: Request) -> None:
    who = caller(request).who
    if isinstance(who, Key) and who.kind is not Kind.PRIVATE:
        raise Denied("import jobs need a private key with the scope 'ingest'", metadata={"scope": Scope.INGEST.value})


async def _uploads(request: Request) -> Uploads:
    return request.app.state.uploads


PrivateKey = Depends(_private)
ImportJobId = Annotated[str, Path(alias="importJobId", pattern=UUID)]


class Failure(Answer):
    """Why a job failed."""

    reason: str
    field: str
    message: str


class ImportJob(Answer):
    """A job. `rowCount` is the sum of the four counts below it."""

    import_job_id: str
    state: Annotated[Literal["queued", "running", "succeeded", "failed", "cancelled"], Lower]
    format: Annotated[Literal["jsonl", "csv", "parquet"], Lower]
    source: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    row_count: int = Field(description="Rows whose fate is known.")
    accepted_count: int
    duplicate_count: int
    rejected_count: int
    quarantined_count: int
    size_bytes: int
    read_bytes: int
    percent: float
    rows_per_s: float
    cancel_requested: bool
    error: Failure | None = Field(description="Set where it failed. What was accepted before stays accepted.")


class ImportRejection(Answer):
    """A row that was not taken, without what was in it."""

    row: int = Field(description="The first row is 1; a CSV's header and empty lines are no rows.")
    reason: str
    field: str
    message: str


_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@routes.post(
    "/v1/import-jobs",
    status_code=202,
    description=_ABOUT.strip(),
    openapi_extra=_FILE,
    dependencies=[PrivateKey],
)
@needs(Scope.INGEST, streams=True)
async def create_import_job(
    request: Request,
    response: Response,
    uploads: Annotated[Uploads, Depends(_uploads)],
    format_: Annotated[
        Literal["jsonl", "csv", "parquet"] | None, Query(alias="format", description="The Content-Type says it too.")
    ] = None,
    source: Annotated[str, Query(pattern=WORD, description="Where the rows come from.")] = "import",
    mapping: Annotated[str, Query(max_length=4_096, description="JSON, for CSV and Parquet.")] = "",
) -> ImportJob:
    """Import a file"""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (found := format_ or _BY_CONTENT_TYPE.get(content_type)) is None:
        message = "say what the file is: format=jsonl, csv or parquet"
        raise InvalidArgument(message, reason=Reason.MISSING_FIELD, field="format")
    asked = imports_pb2.CreateImportUploadRequest(source=source, mapping=mapping)
    asked.format = enum_number(_FORMAT, found)
    job = _job(await uploads.take(request, asked))
    response.headers["location"] = f"/v1/import-jobs/{job.import_job_id}"
    return job


@routes.get("/v1/import-jobs", dependencies=[PrivateKey])
@needs(Scope.INGEST)
async def list_import_jobs(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[ImportJob]:
    """Jobs of the last 30 days, newest first."""
    answer = await services.imports.ListImportJobs(imports_pb2.ListImportJobsRequest(page_size=limit, page_token=cursor))
    return Page[ImportJob].of_items([_job(each) for each in answer.jobs], answer.next_page_token)


@routes.get("/v1/import-jobs/{importJobId}", dependencies=[PrivateKey])
@needs(Scope.INGEST)
async def get_import_job(services: Services, import_job_id: ImportJobId) -> ImportJob:
    """How far a job is, and what became of its rows."""
    return _job((await services.imports.GetImportJob(imports_pb2.GetImportJobRequest(import_job_id=import_job_id))).job)


@routes.post("/v1/import-jobs/{importJobId}:cancel", dependencies=[PrivateKey])
@needs(Scope.INGEST)
async def cancel_import_job(services: Services, import_job_id: ImportJobId) -> ImportJob:
    """Ends a job after its present batch. What was accepted stays; a job that has ended stays as it is."""
    request = imports_pb2.CancelImportJobRequest(import_job_id=import_job_id)
    return _job((await services.imports.CancelImportJob(request)).job)


@routes.get(
    "/v1/import-jobs/{importJobId}/rejections",
    response_model=Page[ImportRejection],
    responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("application/x-ndjson", "text/csv")}}},
    dependencies=[PrivateKey],
)
@needs(Scope.INGEST)
async def list_import_rejections(
    services: Services,
    import_job_id: ImportJobId,
    limit: Limit = 100,
    cursor: Cursor = "",
    format_: Annotated[
        Literal["json", "jsonl", "csv"], Query(alias="format", description="json is paged; the others are all of them.")
    ] = "json",
) -> Any:
    """Rows that were not taken and why, in their order."""
    is_page = format_ == "json"
    request = imports_pb2.ListImportRejectionsRequest(
        import_job_id=import_job_id, page_size=limit if is_page else _PAGE, page_token=cursor
    )
    answer = await services.imports.ListImportRejections(request)
    if is_page:
        rows = [ImportRejection.of(each) for each in answer.rejections]
        return Page[ImportRejection].of_items(rows, answer.next_page_token)
    name = f"import-{import_job_id}-rejections.{format_}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_all(services, request, answer, format_), media_type=_DOWNLOADS[format_], headers=headers)


async def _all(
    services: Services,
    request: imports_pb2.ListImportRejectionsRequest,
    page: imports_pb2.ListImportRejectionsResponse,
    format_: str,
) -> AsyncIterator[bytes]:
    if format_ == "csv":
        yield _csv([("row", "reason", "field", "message")])
    while True:
        rows = [(each.row, each.reason, each.field, each.message) for each in page.rejections]
        yield _csv(rows) if format_ == "csv" else _lines(rows)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
        page = await services.imports.ListImportRejections(request)


def _csv(rows: Sequence[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _lines(rows: Sequence[tuple[int, str, str, str]]) -> bytes:
    named = [dict(zip(("row", "reason", "field", "message"), row, strict=True)) for row in rows]
    return b"".join(msgspec.json.encode(each) + b"\n" for each in named)


def _job(message: imports_pb2.ImportJob) -> ImportJob:
    error = Failure(reason=message.reason, field=message.field, message=message.message) if message.reason else None
    return ImportJob.of(message, error=error)
