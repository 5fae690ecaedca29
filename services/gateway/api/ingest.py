"""Events in, as Segment's SDKs send them. Bodies go on unread: profiles reads, judges and stores them."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec
from fastapi import Request
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field
from rapport.profiles.v1 import profiles_pb2
from starlette.responses import Response

from services.gateway.api.admission import caller, needs, router
from services.gateway.api.document import body_of
from services.gateway.api.events import BODIES
from services.gateway.api.intake import IntakeRoute
from services.gateway.api.serving import Services
from services.gateway.domain import Scope
from services.gateway.gathering import Submissions, refusal
from services.gateway.wire import Answer, Cursor, Limit, Page, moment_of

events = router("Events", IntakeRoute)
reads = router("Events")

_WITH_MANY: Final = ("batch", "import")
_STATUSES: Final = {
    profiles_pb2.RECEIPT_STATUS_ACCEPTED: "accepted",
    profiles_pb2.RECEIPT_STATUS_DUPLICATE: "duplicate",
    profiles_pb2.RECEIPT_STATUS_REJECTED: "rejected",
    profiles_pb2.RECEIPT_STATUS_QUARANTINED: "quarantined",
}


class Receipt(Answer):
    """What became of one event. An accepted one is on disk."""

    message_id: str
    status: Literal["accepted", "duplicate", "rejected", "quarantined"]
    reason: str | None = Field(None, description="Set where rejected or quarantined: a code of the closed list.")
    field: str | None = None
    message: str | None = None
    first_received: datetime | None = Field(None, description="Of a duplicate: when the first was received.")
    plan_version: int | None = Field(None, description="Where the tracking plan was violated: which version of it,")
    rule: str | None = Field(None, description="and which rule, as a JSON pointer into the event's schema.")


class Receipts(Answer):
    """One receipt for each event, in order."""

    success: Literal[True]
    receipts: list[Receipt]


class Rejection(Answer):
    """An event that was refused, without anything personal."""

    received: datetime
    type: str
    reason: str
    field: str
    message: str


class _Line(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A Receipt as it is written."""

    message_id: str
    status: str
    reason: str = ""
    field: str = ""
    message: str = ""
    first_received: datetime | None = None
    plan_version: int = 0
    rule: str = ""


class _Lines(msgspec.Struct):
    success: bool
    receipts: list[_Line]


_encode: Final = msgspec.json.Encoder().encode


async def submit(request: Request, kind: str) -> Response:
    """One body to its receipts. Raises InvalidArgument where it cannot be read, or where its only event is rejected."""
    submissions: Submissions = request.app.state.submissions
    now = time.time_ns()
    received = Timestamp(seconds=now // 1_000_000_000, nanos=now % 1_000_000_000)
    receipts = await submissions.submit(profiles_pb2.Submission(type=kind, body=request.state.body, received=received))
    request.app.state.keyring.spend(caller(request), len(receipts))
    if kind not in _WITH_MANY and receipts[0].status == profiles_pb2.RECEIPT_STATUS_REJECTED:
        raise refusal(receipts[0].reason, receipts[0].message, receipts[0].field, receipts[0].message_id)
    return Response(written(receipts), media_type="application/json")


def written(receipts: Sequence[profiles_pb2.Receipt]) -> bytes:
    """Receipts as JSON."""
    return _encode(_Lines(True, [_line(each) for each in receipts]))


def _line(receipt: profiles_pb2.Receipt) -> _Line:
    if receipt.status == profiles_pb2.RECEIPT_STATUS_ACCEPTED:
        return _Line(receipt.message_id, "accepted")
    return _Line(
        receipt.message_id,
        _STATUSES[receipt.status],
        receipt.reason,
        receipt.field,
        receipt.message,
        moment_of(receipt, "first_received"),
        receipt.plan_version,
        receipt.rule,
    )


def _endpoint(kind: str) -> Callable[[Request], Awaitable[Response]]:
    @needs(Scope.INGEST)
    async def endpoint(request: Request) -> Response:
        return await submit(request, kind)

    endpoint.__name__ = {"batch": "ingest_batch", "import": "import_batch"}.get(kind, kind)
    endpoint.__doc__ = BODIES[kind].__doc__
    return endpoint


for _kind, _body in BODIES.items():
    events.add_api_route(
        f"/v1/{_kind}",
        _endpoint(_kind),
        methods=["POST"],
        summary="Many calls in one body" if _kind in _WITH_MANY else f"Segment's {_kind}",
        responses={200: {"model": Receipts}},
        openapi_extra=body_of(_body),
    )


# Segment's browser SDK calls them by their first letters.
for _kind in ("identify", "track", "page", "screen", "group", "alias", "batch"):
    events.add_api_route(f"/v1/{_kind[0]}", _endpoint(_kind), methods=["POST"], include_in_schema=False)


@reads.get("/v1/rejections")
@needs(Scope.READ)
async def list_rejections(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[Rejection]:
    """Events that were refused, newest first."""
    answer = await services.profiles.ListRejections(profiles_pb2.ListRejectionsRequest(page_size=limit, page_token=cursor))
    return Page[Rejection].of_items([Rejection.of(each) for each in answer.rejections], answer.next_page_token)
