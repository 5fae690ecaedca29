"""Who is signed in with a key. Such a session lives in this process: after a restart one signs in again.

People's sessions are in the database (people.py); the cookie is the same.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.domain import digest_of

COOKIE: Final = "rapport_console"
PATH: Final = "/console"
LASTS_S: Final = 12 * 3600.0
# Of one process; beyond it the oldest end, so that nobody can fill the memory.
MOST_SESSIONS: Final = 10_000
_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """`key_text` is the key itself, checked anew for each page, so a revoked key ends its sessions. It never leaves memory."""

    key_text: str
    until: float


class Sessions:
    """Sessions by the digest of what the cookie holds: a random token that says nothing about the key."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def open(self, key_text: str) -> str:
        """The token of a new session."""
        if len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        token = new_token()
        self._sessions[digest_of(token)] = Session(key_text, self._clock() + LASTS_S)
        return token

    def find(self, token: str) -> Session | None:
        """None: unknown, or over."""
        session = self._sessions.get(digest_of(token))
        if session is None or session.until > self._clock():
            return session
        self.close(token)
        return None

    def close(self, token: str) -> None:
        """Nothing happens where there is none."""
        self._sessions.pop(digest_of(token), None)


def new_token() -> str:
    """What a cookie holds."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def give(response: Response, token: str, *, secure: bool, lasts_s: float = LASTS_S, comes_back: bool = False) -> None:
    """The cookie: out of reach of scripts and of other sites, whose forms and parts do not bring it.

    `comes_back`: a browser that another site sends here to read a page brings it: it does so from the identity provider.
    """
    same_site = "lax" if comes_back else "strict"
    response.set_cookie(COOKIE, token, max_age=int(lasts_s), path=PATH, secure=secure, httponly=True, samesite=same_site)


def take_back(response: Response, *, secure: bool) -> None:
    """Ends the cookie."""
    response.delete_cookie(COOKIE, path=PATH, secure=secure, httponly=True, samesite="strict")


def is_foreign(request: Request) -> bool:
    """Whether a browser sent this form from another site's page. What is no browser sends neither header, nor our cookie.

    Fetch metadata (https://www.w3.org/TR/fetch-metadata/) where the browser has it, else the Origin.
    """
    if site := request.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")
