"""The way into the console: a key or the identity provider's word for a session, a session for each page.

And what a reader sees instead of an error.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chassis import context, telemetry
from chassis.errors import (
    INTERNAL_MESSAGE,
    Denied,
    Error,
    InvalidArgument,
    NotFound,
    Reason,
    Unauthenticated,
    Unavailable,
    http_status_of,
)
from services.gateway.console import provider_door, sessions
from services.gateway.console.pages import HEADERS, Pages, View, Visit
from services.gateway.console.sessions import Sessions
from services.gateway.domain import Scope, require
from services.gateway.keyring import Caller, Keyring, refuse_haste
from services.gateway.people import SESSION_LASTS

Handler = Callable[[Visit], Awaitable[View | Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

HOME: Final = "/console"
SIGN_IN: Final = "/console/sign-in"
# For all that a page asks of the services; what has not answered by then is shown as missing.
PAGE_DEADLINE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """Lets readers in and keeps everybody else out."""

    pages: Pages
    sessions: Sessions

    def open_to_all(self, handler: Handler) -> Endpoint:
        """A page that needs no key."""

        async def endpoint(request: Request) -> Response:
            return await self._answer(Visit.of(request), handler)

        return endpoint

    def guarded(self, handler: Handler, scope: Scope = Scope.READ) -> Endpoint:
        """A page for readers whose key has the scope; others are asked to sign in."""

        async def admitted(visit: Visit) -> View | Response:
            try:
                caller = await self._caller_of(visit)
            except Unauthenticated:
                return _to_sign_in(visit)
            _admit(visit, caller)
            require(caller.scopes, scope, caller.roles)
            return await handler(visit)

        async def endpoint(request: Request) -> Response:
            return await self._answer(Visit.of(request), admitted)

        return endpoint

    async def show_sign_in(self, visit: Visit) -> View | Response:
        """The form; whoever is signed in goes on."""
        try:
            await self._caller_of(visit)
        except Unauthenticated:
            return View("sign_in.html", {"to": _within(visit.asked("to")), "trouble": ""})
        return RedirectResponse(_within(visit.asked("to")), 303)

    async def leave(self, visit: Visit) -> Response:
        """To the identity provider."""
        if visit.sign_in is None:
            raise NotFound(visit.words("trouble.no_page"), reason=Reason.ROUTE_NOT_FOUND)
        return await provider_door.leave(visit, visit.sign_in, _within(visit.asked("to")))

    async def come_back(self, visit: Visit) -> View | Response:
        """From the identity provider: its word for a session."""
        sign_in = visit.sign_in
        if sign_in is None:
            raise NotFound(visit.words("trouble.no_page"), reason=Reason.ROUTE_NOT_FOUND)
        try:
            person, to = await provider_door.come_back(visit, sign_in)
            _admit(visit, Caller(person, ""))
            require(person.scopes, Scope.READ, person.roles)
        except (Unauthenticated, Denied) as refusal:
            return View("sign_in.html", {"to": HOME, "trouble": refusal.message}, http_status_of(refusal))
        await sign_in.close(visit.token)
        token = sessions.new_token()
        await sign_in.open(person, token)
        response = RedirectResponse(_within(to), 303)
        lasts_s = SESSION_LASTS.total_seconds()
        sessions.give(response, token, secure=visit.is_secure, lasts_s=lasts_s, comes_back=True)
        provider_door.forget(response, secure=visit.is_secure)
        return response

    async def sign_in(self, visit: Visit) -> View | Response:
        """A key for a session; not where people sign in for themselves."""
        if visit.sign_in is not None:
            raise Denied(visit.words("sign_in.no_keys"))
        form = await visit.form()
        to, key_text = _within(form.get("to", "")), form.get("key", "").strip()
        try:
            caller = await _keyring(visit).caller_of(f"Bearer {key_text}")
            _admit(visit, caller)
            require(caller.scopes, Scope.READ)
        except Unauthenticated:
            trouble = "sign_in.unknown" if key_text else "sign_in.nothing"
            return View("sign_in.html", {"to": to, "trouble": visit.words(trouble)}, 401)
        except Denied:
            return View("sign_in.html", {"to": to, "trouble": visit.words("sign_in.may_not_read")}, 403)
        response = RedirectResponse(to, 303)
        sessions.give(response, self.sessions.open(key_text), secure=visit.is_secure)
        return response

    async def sign_out(self, visit: Visit) -> Response:
        """Ends the session, here and in the browser."""
        if visit.sign_in is not None:
            await visit.sign_in.close(visit.token)
        self.sessions.close(visit.token)
        response = RedirectResponse(SIGN_IN, 303)
        sessions.take_back(response, secure=visit.is_secure)
        return response

    async def _caller_of(self, visit: Visit) -> Caller:
        """Raises Unauthenticated where there is no session, or its key counts no more."""
        if visit.sign_in is not None:
            if (person := await visit.sign_in.find(visit.token)) is None:
                raise Unauthenticated("nobody is signed in")
            return Caller(person, "")
        session = self.sessions.find(visit.token)
        if session is None:
            raise Unauthenticated("nobody is signed in")
        return await _keyring(visit).caller_of(f"Bearer {session.key_text}")

    async def _answer(self, visit: Visit, handler: Handler) -> Response:
        try:
            if visit.request.method == "POST" and sessions.is_foreign(visit.request):
                raise Denied("the form was sent from another site's page")
            answer = await handler(visit)
            response = self.pages.response(visit, answer) if isinstance(answer, View) else answer
        except Error as error:
            response = self.pages.response(visit, _trouble(visit, error))
        except Exception:
            telemetry.logger().error("a page failed", route=visit.request.scope["route"].path, exc_info=True)
            response = self.pages.response(visit, _trouble(visit, Error(INTERNAL_MESSAGE)))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _keyring(visit: Visit) -> Keyring:
    return visit.request.app.state.keyring


def _admit(visit: Visit, caller: Caller) -> None:
    """From here on the call has a tenant, an actor and a deadline. Raises Exhausted where the key asks too often."""
    visit.request.state.caller = caller
    deadline = time.monotonic() + PAGE_DEADLINE_S
    context.enter(replace(context.current(), tenant=caller.tenant, actor=caller.actor, deadline=deadline))
    refuse_haste(_keyring(visit).take(caller))


def _to_sign_in(visit: Visit) -> Response:
    """Back to where the reader was, afterwards. htmx follows a header; a redirect it would put into the page."""
    if visit.wants_part:
        return Response(status_code=204, headers={"hx-redirect": SIGN_IN})
    here = visit.request.url.path if visit.request.method == "GET" else HOME
    return RedirectResponse(SIGN_IN if here == HOME else f"{SIGN_IN}?to={quote(here)}", 303)


def _within(to: str) -> str:
    """`to` where it is a page of ours: nobody is sent elsewhere by a link to the sign-in."""
    return to if to == HOME or (to.startswith(f"{HOME}/") and "\\" not in to and ".." not in to) else HOME


def _trouble(visit: Visit, error: Error) -> View:
    values = {"sentence": sentence_of(visit, error), "request_id": context.current().request_id}
    status = 500 if type(error) is Error else http_status_of(error)
    return View("trouble_part.html" if visit.wants_part else "trouble.html", values, status)


def sentence_of(visit: Visit, error: Error) -> str:
    """An error in the reader's language: as far as the console has words for it, else as the service said it."""
    match error:
        case Unavailable():
            return visit.words("trouble.unavailable", said=error.message)
        case NotFound():
            return visit.words("trouble.not_found", said=error.message)
        case Denied() if roles := error.metadata.get("roles"):
            return visit.words("trouble.role", scope=error.metadata["scope"], roles=roles)
        case Denied() if scope := error.metadata.get("scope"):
            return visit.words("trouble.scope", scope=scope)
        case InvalidArgument() | Denied():
            return visit.words("trouble.refused", said=error.message)
        case _ if type(error) is Error:
            return visit.words("trouble.internal", request_id=context.current().request_id)
        case _:
            return error.message
