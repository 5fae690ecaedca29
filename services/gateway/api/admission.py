"""What no route may forget: who asks, what for, how often, how much, and whether it was asked before.

A route says what it needs with `@needs(Scope.READ)`; one that says nothing cannot be added.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from chassis import context
from chassis.errors import Error, InvalidArgument
from services.gateway.api import audited, bound, problems
from services.gateway.api.bodies import read_body, replay
from services.gateway.api.bound import People
from services.gateway.domain import IDEMPOTENCY_KEY_PATTERN, Scope, request_digest, require
from services.gateway.keyring import Allowance, Caller, Keyring, key_text_of, refuse_haste
from services.gateway.store import AnswerStore

Handler = Callable[[Request], Awaitable[Response]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

READS: Final = frozenset({Scope.READ, Scope.PERSONAL, Scope.SCORE})
CHANGES: Final = frozenset({Scope.MANAGE, Scope.DEFINE, Scope.OPERATE, Scope.MODELS})
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
_NAMES_HERE: Final = {"page_token": "next", "page_size": "limit", "profile_id": "ref", "profile_ids": "refs"}


@dataclass(frozen=True, slots=True)
class Need:
    """What a route needs. `scope` None: no key. `creates`: an Idempotency-Key is honoured.

    `streams`: the endpoint reads its body for itself, however long it is. `discloses`: it shows everything of a person.
    `people`: whom it shows, and may be asked for a purpose; see bound.py.
    """

    scope: Scope | None
    creates: bool = False
    streams: bool = False
    discloses: bool = False
    people: People | None = None

    def is_written_down(self, method: str) -> bool:
        """Whether the audit log has the request: it changes what others rely on, or discloses."""
        return self.discloses or (self.scope in CHANGES and method != "GET")


def needs(
    scope: Scope | None,
    *,
    creates: bool = False,
    streams: bool = False,
    discloses: bool = False,
    people: People | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Marks an endpoint."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["need"] = Need(scope, creates, streams, discloses, people)
        return endpoint

    return mark


class GuardedRoute(APIRoute):
    """A route behind the door. Its operation is named as its function: get_profile is GetProfile."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.need: Need = endpoint.__dict__["need"]
        if self.need.people is None and self.need.scope in READS and "{ref}" in path:
            self.need = replace(self.need, people=People.IN_PATH)
        if not options.get("operation_id"):
            options["operation_id"] = "".join(word.capitalize() for word in endpoint.__name__.split("_"))
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                is_read = has_body(request) and not self.need.streams
                return await inner(replay(request, request.state.body) if is_read else request)
            except Error as error:
                error.field = named_here(error.field)
                raise

        return guarded(handle, self.need)


class HotRoute(GuardedRoute):
    """An endpoint `(Request) -> Response` that reads `request.state.body` for itself.

    FastAPI's own work for a request (dependencies, validation, exit stacks) takes three times what the rest of the way
    through this process does; the front calls these handlers without it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return guarded(self.endpoint, self.need)


def named_here(field: str) -> str:
    """A field of the contracts by its name in this API: "as_of" is "asOf", "page_token" is "next"."""
    if field.startswith("/"):  # a JSON pointer into what was sent
        return field
    return ".".join(_NAMES_HERE.get(part) or to_camel(part) for part in field.split("."))


def router(tag: str, route_class: type[GuardedRoute] = GuardedRoute) -> APIRouter:
    """The routes of one noun."""
    return APIRouter(tags=[tag], route_class=route_class)


def has_body(request: Request) -> bool:
    """Whether the method takes one."""
    return request.method in ("POST", "PUT", "PATCH")


def caller(request: Request) -> Caller:
    """Who asks, inside a guarded route."""
    return request.state.caller


def guarded(handler: Handler, need: Need) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """The handler behind the door."""

    async def answer(request: Request) -> Response:
        headers: list[tuple[bytes, bytes]] = []
        try:
            if need.scope is not None:
                await admit(request, key_text_of(request.headers.get("authorization")), need.scope, headers)
            if has_body(request) and not need.streams:
                request.state.body = await read_body(request)
            serve = partial(_once, handler) if need.creates and IDEMPOTENCY_HEADER in request.headers else handler
            if need.scope is not None and request.scope["query_string"]:
                serve = bound.to_purpose(serve, need.people, request)
            is_written_down = need.is_written_down(request.method)
            response = await (audited.recorded(serve, request) if is_written_down else serve(request))
        except problems.REFUSALS as refusal:
            response = problems.respond(refusal)
        response.raw_headers.extend(headers)
        return response

    return answer


async def admit(request: Request, text: str, needed: Scope, headers: list[tuple[bytes, bytes]]) -> None:
    """Knows the caller, from here on in the context too; adds the RateLimit headers. Raises what stands against it."""
    keyring: Keyring = request.app.state.keyring
    found = await keyring.caller_by(text)
    request.state.caller = found
    context.enter(replace(context.current(), tenant=found.tenant, actor=found.actor))
    allowance = keyring.take(found)
    headers += _rate_headers(allowance)
    refuse_haste(allowance)
    require(found.scopes, needed, found.roles)


def _rate_headers(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    return [
        (b"ratelimit-limit", b"%d" % allowance.limit),
        (b"ratelimit-remaining", b"%d" % max(0, allowance.remaining)),
        (b"ratelimit-reset", b"%d" % allowance.reset_s),
    ]


async def _once(handler: Handler, request: Request) -> Response:
    """Does it, or says again what was said. What failed made nothing, and may be tried again under the same key."""
    answers: AnswerStore = request.app.state.answers
    key, who = request.headers[IDEMPOTENCY_HEADER], caller(request)
    if not IDEMPOTENCY_KEY_PATTERN.fullmatch(key):
        raise InvalidArgument("an Idempotency-Key is 1 to 255 visible ASCII characters", field=IDEMPOTENCY_HEADER)
    target = f"{request.url.path}?{request.url.query}"
    digest = request_digest(who.text, request.method, target, request.state.body)
    if (earlier := await answers.begin(who.tenant, key, digest, at=datetime.now(UTC))) is not None:
        return Response(earlier, media_type="application/json", headers={"idempotent-replayed": "true"})
    try:
        response = await handler(request)
    except BaseException:
        await answers.forget(who.tenant, key)
        raise
    await answers.finish(who.tenant, key, bytes(response.body))
    return response
