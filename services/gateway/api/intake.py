"""The door of events: who sends, whether there is room, and only then the body.

A browser's sendBeacon cannot set a header, so that its key comes in the body, Segment's way; it then waits for its turn
like the others before it is read.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from fastapi import Request
from starlette.responses import Response

from chassis import context
from chassis.errors import InvalidArgument, Reason
from services.gateway.api import problems
from services.gateway.api.admission import Handler, HotRoute, admit
from services.gateway.api.bodies import MOST_BYTES, read_body
from services.gateway.capacity import Capacity, Place
from services.gateway.domain import Scope
from services.gateway.keyring import key_text_of

# JSON packs to about an eighth.
_PACKED: Final = 8
# For a body of which nobody says how long it is.
_UNKNOWN_SIZE: Final = 64 * 1024
# For all of a body to come; what comes slower holds memory that others need.
BODY_S: Final = 30.0


class IntakeRoute(HotRoute):
    """A HotRoute whose body is not taken where there is no room for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return _guarded(self.endpoint)


class _Signed(msgspec.Struct, rename="camel"):
    """All that is read of a body here."""

    write_key: str = ""


_decode: Final = msgspec.json.Decoder(_Signed).decode


def _guarded(handler: Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        headers: list[tuple[bytes, bytes]] = []
        capacity: Capacity = request.app.state.capacity
        place: Place | None = None
        try:
            text = key_text_of(request.headers.get("authorization"))
            if text:
                await admit(request, text, Scope.INGEST, headers)
            place = capacity.take(context.current().tenant, expected_bytes(request))
            body = request.state.body = await _in_time(request)
            if not text:
                await admit(request, key_in(body), Scope.INGEST, headers)
            capacity.arrived(place, context.tenant(), len(body))
            response = await handler(request)
        except problems.REFUSALS as refusal:
            response = problems.respond(refusal)
        finally:
            if place is not None:
                capacity.leave(place)
        response.raw_headers.extend(headers)
        return response

    return answer


async def _in_time(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await read_body(request)
    except TimeoutError:
        message = f"a body comes within {BODY_S:.0f} seconds"
        raise InvalidArgument(message, reason=Reason.DEADLINE_EXCEEDED, field="body") from None


def expected_bytes(request: Request) -> int:
    """How large a body will be, by its headers."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return _UNKNOWN_SIZE
    factor = _PACKED if request.headers.get("content-encoding", "") else 1
    return min(MOST_BYTES, int(length[:12]) * factor)


def key_in(body: bytes) -> str:
    """The writeKey of a body; empty where it has none, or is not JSON."""
    try:
        return _decode(body).write_key
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
