"""HTTP with what must not be forgotten: request id, errors as problem+json (RFC 9457), metrics, one log line."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
from opentelemetry.trace import SpanKind

from chassis import context, telemetry, tracing
from chassis.errors import INTERNAL_MESSAGE, Error, Exhausted, Reason, Unavailable, http_status_of, status_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBLEM_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = b"x-request-id"
_TRACEPARENT_HEADER: Final = tracing.TRACEPARENT.encode()
_NO_ROUTE: Final = "unknown"
_CLOSE: Final = (b"connection", b"close")
# Asked every few seconds by a kubelet: told of only where the answer is bad.
_PROBES: Final = frozenset({"/health/live", "/health/ready"})


def problem(error: Error) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of an error for an HTTP caller."""
    known = type(error) is not Error
    status = http_status_of(error) if known else 500
    reason = error.reason if known else Reason.INTERNAL
    body: dict[str, Any] = {
        "type": f"urn:rapport:error:{reason.name}",
        "title": status_of(error).title if known else "Internal error",
        "status": status,
        "code": reason.name,
        "detail": error.message if known else INTERNAL_MESSAGE,
        "requestId": context.current().request_id,
    }
    if error.field:
        body["field"] = error.field
    headers = {"content-type": PROBLEM_TYPE}
    if isinstance(error, Exhausted | Unavailable):
        headers["retry-after"] = str(max(1, round(error.retry_after_s or 1)))
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="rapport", Bearer'
    return status, headers, msgspec.json.encode(body)


class Guard:
    """Outermost ASGI middleware. The route in logs and metrics is the template, never the path: paths hold ids.

    While `is_leaving`, answers tell their callers to open another connection, which another process will take.
    """

    def __init__(self, app: App, *, service: str, is_leaving: Callable[[], bool] = lambda: False) -> None:
        self._app = app
        self._service = service
        self._is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _given_id(scope) or context.new_request_id()
        given = _header(scope, _TRACEPARENT_HEADER) if tracing.on() else ""
        context.enter(context.Call(request_id=request_id, traceparent=given))
        is_probe = scope["path"] in _PROBES
        span = None if is_probe else tracing.enter(SpanKind.SERVER, scope["method"])
        status = 500
        begun = False

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
                message["headers"] = [*headers, _CLOSE] if self._is_leaving() else headers
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as failure:
            error = failure if isinstance(failure, Error) else Error(INTERNAL_MESSAGE)
            if error is not failure:
                telemetry.logger().error("a request failed", route=_route(scope), exc_info=True)
            if not begun:
                await _respond(send_with_id, *problem(error))
        finally:
            elapsed = time.perf_counter() - started
            route = _route(scope)
            telemetry.HTTP_CALLS.labels(self._service, scope["method"], route, str(status)).inc()
            telemetry.HTTP_SECONDS.labels(self._service, route).observe(elapsed)
            if status >= 400 or not is_probe:
                telemetry.log_call(f"{scope['method']} {route}", status, elapsed, service=self._service)
            if span is not None:
                _end(span, scope["method"], route, status)


async def _respond(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(key.encode(), value.encode()) for key, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", _NO_ROUTE)


def _end(span: tracing.Span, method: str, route: str, status: int) -> None:
    known = {} if route == _NO_ROUTE else {"http.route": route}
    span.end(
        {"http.request.method": method, "http.response.status_code": status, **known},
        error=str(status) if status >= 500 else "",
        name=" ".join([method, *known.values()]),
    )


def _given_id(scope: Scope) -> str:
    """The caller's own request id, where it is one that a log line may hold."""
    text = _header(scope, REQUEST_ID_HEADER)
    return text if len(text) <= 64 and text.replace("-", "").isalnum() and text.isascii() else ""


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""
