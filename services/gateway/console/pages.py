"""What a handler is given, what it gives back, and how that becomes a response."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from chassis.errors import InvalidArgument, Reason
from services.gateway.clients import Services
from services.gateway.console import sessions, words
from services.gateway.console.assets import Assets
from services.gateway.console.figures import Figures
from services.gateway.console.words import Words
from services.gateway.domain import Scope
from services.gateway.keyring import Caller
from services.gateway.people import SignIn

TEMPLATES: Final = Path(__file__).parent / "templates"
LANGUAGE_COOKIE: Final = "rapport_language"
_YEAR_S: Final = 365 * 86400
_MOST_FORM_BYTES: Final = 8192

# Scripts and styles are files of ours; nothing inline, nothing from elsewhere, nobody may frame us.
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of one reader."""

    request: Request
    words: Words

    @classmethod
    def of(cls, request: Request) -> "Visit":
        """In the language that the reader wants."""
        asked, kept = request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)
        return cls(request, words.choose(asked, kept, request.headers.get("accept-language")))

    @property
    def caller(self) -> Caller | None:
        """Who reads; None before somebody has signed in."""
        return getattr(self.request.state, "caller", None)

    @property
    def services(self) -> Services:
        """The six behind the gateway."""
        return self.request.app.state.services

    @property
    def is_secure(self) -> bool:
        """Whether a cookie may be kept to HTTPS, which may end before this process."""
        return "https" in (self.request.url.scheme, self.request.app.state.public_url.partition(":")[0])

    @property
    def token(self) -> str:
        """What the reader's cookie holds; empty where there is none."""
        return self.request.cookies.get(sessions.COOKIE, "")

    @property
    def sign_in(self) -> SignIn | None:
        """How people sign in; None: with keys."""
        return self.request.app.state.sign_in

    @property
    def wants_part(self) -> bool:
        """Whether htmx asks, for a part of the page."""
        return self.request.headers.get("hx-request") == "true"

    def may(self, scope: Scope) -> bool:
        """Whether the reader has the scope."""
        return self.caller is not None and scope in self.caller.scopes

    def asked(self, name: str) -> str:
        """A parameter of the address; empty where there is none. Raises InvalidArgument for what cannot be meant."""
        value = self.request.query_params.get(name, "")
        if len(value) > 2048 or "\x00" in value:
            raise InvalidArgument("a parameter is too long, or holds a NUL", reason=Reason.MALFORMED_TEXT, field=name)
        return value

    async def form(self) -> dict[str, str]:
        """The fields of a posted form. Raises InvalidArgument where it is too large to be one of ours."""
        body = b""
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > _MOST_FORM_BYTES:
                raise InvalidArgument("the form is over 8 KB", reason=Reason.BODY_TOO_LARGE)
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20))


@dataclass(frozen=True, slots=True)
class View:
    """A template and what stands in it."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200


class Pages:
    """Turns views into responses."""

    def __init__(self, assets: Assets) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(asset=assets.address, languages=words.LANGUAGES, Scope=Scope)
        self._environment.filters["segment_of_path"] = lambda text: quote(text, safe="")

    def response(self, visit: Visit, view: View) -> Response:
        """The page, in the reader's language."""
        template = self._environment.get_template(view.template)
        body = template.render(
            view.values,
            t=visit.words,
            f=Figures(visit.words),
            visit=visit,
            in_language=lambda language: _in_language(visit.request, language),
        )
        response = Response(body, view.status, media_type="text/html")
        if "lang" in visit.request.query_params:
            response.set_cookie(
                LANGUAGE_COOKIE, visit.words.language, max_age=_YEAR_S, path="/console", secure=visit.is_secure, samesite="lax"
            )
        return response


def _in_language(request: Request, language: str) -> str:
    """The same page in another language."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    return "?" + urlencode([*query, ("lang", language)])
