"""Every refusal as problem+json (RFC 9457), with a code out of the closed list."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import Counter
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chassis.errors import INTERNAL_MESSAGE, Error, InvalidArgument, NotFound, Reason
from chassis.http import problem
from services.gateway.wire import NO_NUL, Answer

REFUSED: Final = Counter("rapport_gateway_refused_requests_total", "Requests that were answered with 429.", ["reason"])

for _reason in (
    Reason.RATE_LIMITED,
    Reason.QUEUE_FULL,
):  # of a series that is born with its first refusal, that one is not seen
    REFUSED.labels(_reason.name)

# What may be refused with a problem; anything else is a bug.
REFUSALS: Final = (Error, HTTPException, RequestValidationError)

_REASONS: Final = {
    "missing": Reason.MISSING_FIELD,
    "extra_forbidden": Reason.UNKNOWN_FIELD,
    "json_invalid": Reason.MALFORMED_JSON,
    "string_unicode": Reason.MALFORMED_TEXT,
    "malformed_text": Reason.MALFORMED_TEXT,
}


class Problem(Answer):
    """RFC 9457. Programs go by `code`, people by `detail`; `requestId` finds the request in the logs."""

    type: str = Field(examples=["urn:rapport:error:INVALID_FIELD"])
    title: str = Field(examples=["Invalid argument"])
    status: int = Field(examples=[400])
    code: str = Field(json_schema_extra={"enum": [reason.name for reason in Reason]}, examples=["INVALID_FIELD"])
    detail: str = Field(examples=["limit: Input should be less than or equal to 1000"])
    request_id: str = Field(examples=["5f0c9d3e8b7a4c21a0f4a1b2c3d4e5f6"])
    message_id: str | None = Field(None, description="Of an event that was rejected: what its receipt is asked for by.")
    field: str | None = Field(None, description="Path of the field that is wrong, where it is one.", examples=["limit"])


def respond(refusal: Exception) -> Response:
    """The answer for one of REFUSALS."""
    error = _error_of(refusal)
    status, own, body = problem(error)
    if status == 429:
        REFUSED.labels(error.reason.name).inc()
    if message_id := error.metadata.get("message_id"):
        body = msgspec.json.encode({**msgspec.json.decode(body), "messageId": message_id})
    kept = dict(refusal.headers or {}) if isinstance(refusal, HTTPException) else {}
    return Response(body, status, headers={**kept, **own})


def _error_of(refusal: Exception) -> Error:
    match refusal:
        case Error():
            return refusal
        case RequestValidationError():
            return of_fields(refusal.errors())
        case HTTPException(status_code=404):
            return NotFound("there is no such path", reason=Reason.ROUTE_NOT_FOUND)
        case HTTPException(status_code=405):
            return InvalidArgument("the path does not have this method", reason=Reason.METHOD_NOT_ALLOWED)
        case HTTPException():
            return InvalidArgument("the body is not JSON, or nested too deep", reason=Reason.MALFORMED_JSON)
        case _:
            return Error(INTERNAL_MESSAGE)


def _methods_of(path: str, routes: Sequence[APIRoute]) -> Sequence[str]:
    """All that a path has: its methods may be spread over several routes."""
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


def of_fields(errors: Sequence[Any]) -> InvalidArgument:
    """The first of pydantic's errors. Its messages hold no values."""
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    if place and place[0] in ("body", "query", "path", "header"):
        place = place[1:] or ["body"]
    if first["type"] == "json_invalid":
        return InvalidArgument("the body is not JSON", reason=Reason.MALFORMED_JSON, field="body")
    field = ".".join(place) or "body"
    if first["type"] == "string_pattern_mismatch" and first["ctx"]["pattern"] == NO_NUL:
        return InvalidArgument(f"{field}: a text may not hold a NUL", reason=Reason.MALFORMED_TEXT, field=field)
    reason = _REASONS.get(first["type"], Reason.INVALID_FIELD)
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidArgument(f"{field}: {first['msg'].removeprefix('Value error, ')}{more}", reason=reason, field=field)


def add_handlers(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """For what is refused outside a guarded route: unknown paths and methods, and bugs."""

    async def answer(request: Request, refusal: Exception) -> Response:
        response = respond(refusal)
        if response.status_code == 405:
            response.headers["allow"] = ", ".join(_methods_of(request.scope["path"], routes))
        return response

    for kind in (*REFUSALS, Exception):
        app.add_exception_handler(kind, answer)
