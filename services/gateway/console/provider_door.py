"""Signing in through the identity provider: authorization code with PKCE (RFC 7636), state and nonce.

What has to be remembered while a browser is at the provider lies in a cookie of that browser, so any process may answer when it
comes back. Nobody else's browser has it: a link with a code of somebody's making signs nobody in.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chassis.errors import Reason, Unauthenticated
from services.gateway.console.pages import Visit
from services.gateway.domain import Person
from services.gateway.people import SignIn

COOKIE: Final = "rapport_sign_in"
PATH: Final = "/console/sign-in"
LASTS_S: Final = 600
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Errand:
    """A browser on its way to the provider and back. `to`: the page that was wanted."""

    state: str
    nonce: str
    verifier: str
    to: str

    @classmethod
    def new(cls, to: str) -> "Errand":
        """With secrets that nobody can guess."""
        state, nonce, verifier = (secrets.token_urlsafe(_BYTES) for _ in range(3))
        return cls(state, nonce, verifier, to)

    @classmethod
    def of(cls, request: Request) -> "Errand | None":
        """As the browser kept it; None where it kept none."""
        kept = dict(parse_qsl(request.cookies.get(COOKIE, "")))
        return cls(**kept) if kept.keys() == {"state", "nonce", "verifier", "to"} else None

    def question(self, redirect_uri: str) -> Mapping[str, str]:
        """What the provider is asked, beside who asks."""
        challenge = urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        return {
            "redirect_uri": redirect_uri, "state": self.state, "nonce": self.nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip


async def leave(visit: Visit, sign_in: SignIn, to: str) -> Response:
    """Sends the browser to the provider. Raises Unavailable where that does not answer."""
    errand = Errand.new(to)
    response = RedirectResponse(await sign_in.provider.authorization_url(errand.question(sign_in.redirect_uri)), 303)
    # Lax: the browser comes back from another site, and brings it.
    response.set_cookie(
        COOKIE, urlencode(asdict(errand)), max_age=LASTS_S, path=PATH, secure=visit.is_secure, httponly=True, samesite="lax"
    )
    return response


async def come_back(visit: Visit, sign_in: SignIn) -> tuple[Person, str]:
    """Who comes back, and the page that was wanted.

    Raises Unauthenticated, Denied where the provider or we say no, Unavailable.
    """
    errand, state = Errand.of(visit.request), visit.asked("state")
    if errand is None or not hmac.compare_digest(errand.state.encode(), state.encode()):
        raise Unauthenticated(visit.words("sign_in.lost"), reason=Reason.INVALID_TOKEN)
    if visit.asked("error") or not visit.asked("code"):
        raise Unauthenticated(visit.words("sign_in.not_let_in"), reason=Reason.INVALID_TOKEN)
    provider = sign_in.provider
    if visit.asked("iss") not in ("", provider.issuer):  # RFC 9207: the answer of another provider
        raise Unauthenticated(visit.words("sign_in.lost"), reason=Reason.INVALID_TOKEN)
    code = visit.asked("code")
    id_token = await provider.exchange(code, verifier=errand.verifier, redirect_uri=sign_in.redirect_uri)
    return await sign_in.people.signed_in(id_token, nonce=errand.nonce), errand.to


def forget(response: Response, *, secure: bool) -> None:
    """The errand is done: its cookie ends."""
    response.delete_cookie(COOKIE, path=PATH, secure=secure, httponly=True, samesite="lax")
