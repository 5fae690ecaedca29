"""Bodies of requests: read once, with a limit, unpacked with the same limit."""

import zlib
from typing import Final

from starlette.requests import Request
from starlette.types import Message

from chassis.errors import InvalidArgument, Reason

# Segment's limit for a batch; the other requests keep to it too.
MOST_BYTES: Final = 500 * 1024
_GZIP: Final = 31  # zlib's number for gzip's header


async def read_body(request: Request, limit: int = MOST_BYTES) -> bytes:
    """The body, decompressed. Raises InvalidArgument: too large, cut off, or an encoding that is not known."""
    body = await _received(request, limit)
    match request.headers.get("content-encoding", "").strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _inflated(body, limit)
        case _:
            raise InvalidArgument("the body's encoding is not known; gzip and none are", reason=Reason.UNSUPPORTED_ENCODING)


async def _received(request: Request, limit: int) -> bytes:
    if int(request.headers.get("content-length") or 0) > limit:
        raise _too_large(limit)
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(request, bytearray(body), limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _rest(request: Request, body: bytearray, limit: int) -> bytes:
    more = True
    while more:
        if len(body) > limit:
            raise _too_large(limit)
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidArgument("the body was cut off", reason=Reason.MALFORMED_JSON, field="body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _inflated(packed: bytes, limit: int) -> bytes:
    """Stops at the limit, so that a small body cannot unfold into a large one."""
    body = bytearray()
    try:
        while packed:
            inflater = zlib.decompressobj(_GZIP)
            body += inflater.decompress(packed, limit + 1 - len(body))
            if len(body) > limit:
                raise _too_large(limit)
            if not inflater.eof:
                raise zlib.error
            packed = inflater.unused_data
    except zlib.error:
        message = "the body is not gzip, though its Content-Encoding says so, or it was cut off"
        raise InvalidArgument(message, reason=Reason.MALFORMED_JSON, field="body") from None
    return bytes(body)


def _too_large(limit: int) -> InvalidArgument:
    return InvalidArgument(f"a body has at most {limit:,} bytes, decompressed", reason=Reason.BODY_TOO_LARGE, field="body")


def replay(request: Request, body: bytes) -> Request:
    """The same request, for a reader that reads a body for itself. It is JSON, whatever a client calls it: curl says a form."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    return Request({**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}, receive)
