"""The outermost layer of our own: paths put in order, and the short way to the routes that are asked most."""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Set
from typing import Any, Final
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from chassis.errors import Exhausted, InvalidArgument, Reason
from services.gateway.api import problems
from services.gateway.api.admission import Handler, HotRoute
from services.gateway.wire import SLASH

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_ALL: Final = "*"
_PREFLIGHT: Final = {
    "access-control-allow-methods": "POST",
    # anonymousid: RudderStack's browser SDK sends it.
    "access-control-allow-headers": "authorization, content-type, content-encoding, anonymousid, x-request-id",
    "access-control-max-age": "86400",
}
_EXPOSED: Final = "retry-after, x-request-id, ratelimit-limit, ratelimit-remaining, ratelimit-reset"
# Of all paths but health; who comes later is told to come back.
MOST_UNDER_WAY: Final = 4_096


class Front:
    """ASGI. Everything that is not hot goes on to FastAPI."""

    def __init__(
        self, app: FastAPI, hot: Iterable[HotRoute], open_to_browsers: Iterable[str], origins: Set[str] = frozenset({_ALL})
    ) -> None:
        self._app = app
        self._origins = origins
        self._under_way = 0
        self._fixed: dict[tuple[str, str], tuple[HotRoute, Handler]] = {}
        self._patterns: list[tuple[str, re.Pattern[str], HotRoute, Handler]] = []
        self._open = frozenset(open_to_browsers)
        for route in hot:
            handler = route.get_route_handler()
            for method in route.methods or ():
                if route.param_convertors:
                    self._patterns.append((method, route.path_regex, route, handler))
                else:
                    self._fixed[method, route.path] = (route, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            path = scope["path"] = tidy(scope)
        except InvalidArgument as refusal:
            await problems.respond(refusal)(scope, receive, send)
            return
        if self._under_way >= MOST_UNDER_WAY and not path.startswith("/health/"):
            full = Exhausted("too many requests are under way", reason=Reason.QUEUE_FULL, retry_after_s=1.0)
            await problems.respond(full)(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._answer(path, scope, receive, send)
        finally:
            self._under_way -= 1

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS" and path in self._open:
            response = Response(status_code=204, headers=_PREFLIGHT)
            self._admit_origin(Request(scope), response)
            await response(scope, receive, send)
            return
        found = self._fixed.get((scope["method"], path)) or self._match(scope["method"], path, scope)
        if not found:
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, found[0]
        request = Request(scope, receive)
        response = await found[1](request)
        if path in self._open:
            self._admit_origin(request, response)
        await response(scope, receive, send)

    def _admit_origin(self, request: Request, response: Response) -> None:
        """Lets the page read the answer where its origin is allowed. Events of others are not refused: the key decides."""
        origin = request.headers.get("origin")
        if origin is None:
            return
        if _ALL in self._origins:
            response.headers["access-control-allow-origin"] = _ALL
        else:
            response.headers["vary"] = "Origin"
            if origin not in self._origins:
                return
            response.headers["access-control-allow-origin"] = origin
        response.headers["access-control-expose-headers"] = _EXPOSED

    def _match(self, method: str, path: str, scope: Scope) -> tuple[HotRoute, Handler] | None:
        for its_method, pattern, route, handler in self._patterns:
            if method == its_method and (match := pattern.match(path)):
                scope["path_params"] = match.groupdict()
                return route, handler
        return None


def tidy(scope: Scope) -> str:
    """The path without a slash at its end; encoded slashes stay apart, as SLASH. Raises InvalidArgument for a NUL."""
    path: str = scope["path"]
    raw: bytes = scope["raw_path"]
    if b"%" in raw:
        if b"%00" in raw:
            raise _nul()
        if b"%2f" in raw.lower():
            path = "/".join(unquote(part).replace("/", SLASH) for part in raw.decode("latin-1").split("/"))
    if b"%00" in scope["query_string"]:
        raise _nul()
    return path.rstrip("/") or "/"


def _nul() -> InvalidArgument:
    return InvalidArgument("an address may not hold a NUL", reason=Reason.MALFORMED_TEXT)
