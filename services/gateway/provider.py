"""The identity provider: what it says of itself, its keys, and a code exchanged for a token. OpenID Connect Discovery 1.0.

Keys are kept: a provider that is down stops nobody whose token is signed by a key that was seen. They are fetched anew every
FRESH_S beside the requests, and at once for a key that was never seen, but never more than once in RETRY_S.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from prometheus_client import Counter

from chassis import telemetry
from chassis.errors import Reason, Unauthenticated, Unavailable

FRESH_S: Final = 600.0
RETRY_S: Final = 5.0
TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 1_000_000
MOST_KEYS: Final = 100
# Of codes that are being exchanged; others wait.
MOST_EXCHANGES: Final = 16
LEAST_RSA_BITS: Final = 2048

# Asymmetric ones only: with a shared secret whoever checks a token could also make it.
# By kind and curve of the key.
ALGORITHMS: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALL_ALGORITHMS: Final = tuple(name for names in ALGORITHMS.values() for name in names)

FETCHES: Final = Counter(
    "rapport_gateway_provider_fetches_total", "Times that the identity provider's keys were asked for.", ["outcome"]
)
for _outcome in ("ok", "failed"):
    FETCHES.labels(_outcome)


class _Metadata(msgspec.Struct):
    """What is read of /.well-known/openid-configuration."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    token_endpoint_auth_methods_supported: Sequence[str] = ("client_secret_basic",)


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct):
    id_token: str


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of the provider, and what it may have signed with."""

    kid: str
    algorithms: Sequence[str]
    key: Any


@dataclass(frozen=True, slots=True)
class _Known:
    metadata: _Metadata
    keys: Sequence[VerificationKey]
    fetched: float


class Provider:
    """One issuer, and what we are to it."""

    def __init__(
        self, issuer: str, client_id: str, *, client_secret: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret = client_secret
        self._clock = clock
        # A provider on this machine is not behind a proxy.
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=not is_local(issuer))
        self._known: _Known | None = None
        self._tried: float | None = None
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None
        self._exchanges = asyncio.Semaphore(MOST_EXCHANGES)

    async def key(self, kid: str, algorithm: str) -> Any:
        """The key that signed. Raises Unauthenticated where there is none such, Unavailable where the provider is gone."""
        if (found := self._find(kid, algorithm)) is None:
            await self._fetch_soon()
            found = self._find(kid, algorithm)
        elif self._known and self._clock() - self._known.fetched > FRESH_S:
            self._start_fetch()  # beside the request: the provider may be slow, or gone
        if found is not None:
            return found.key
        if self._failed:
            raise self._gone()
        raise Unauthenticated("the token is signed with a key that its issuer does not publish", reason=Reason.INVALID_TOKEN)

    async def authorization_url(self, parameters: Mapping[str, str]) -> str:
        """Where a browser is sent to sign in. Raises Unavailable."""
        where = (await self._metadata()).authorization_endpoint
        query = urlencode({"client_id": self.client_id, "response_type": "code", "scope": "openid", **parameters})
        return f"{where}{'&' if urlsplit(where).query else '?'}{query}"

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> str:
        """The ID token for a code. Raises Unauthenticated where the provider refuses, Unavailable where it does not answer."""
        metadata = await self._metadata()
        form = {
            "grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect_uri,
            "client_id": self.client_id,
        }  # fmt: skip
        basic = httpx.USE_CLIENT_DEFAULT
        if self._secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            basic = httpx.BasicAuth(self.client_id, self._secret)
        elif self._secret:
            form["client_secret"] = self._secret
        try:
            async with self._exchanges, asyncio.timeout(TIMEOUT_S):
                response = await self._http.post(metadata.token_endpoint, data=form, auth=basic)
            if response.status_code in (400, 401, 403):
                raise Unauthenticated("the identity provider refused the code", reason=Reason.INVALID_TOKEN)
            response.raise_for_status()
            return msgspec.json.decode(response.content, type=_Tokens).id_token
        except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError) as error:
            raise self._gone() from error

    async def aclose(self) -> None:
        """Ends connections."""
        if self._fetching is not None:
            self._fetching.cancel()
        await self._http.aclose()

    def _find(self, kid: str, algorithm: str) -> VerificationKey | None:
        """By its id; a token that names none is signed by the only key there is."""
        fitting = [each for each in (self._known.keys if self._known else ()) if algorithm in each.algorithms]
        if not kid:
            return fitting[0] if len(fitting) == 1 else None
        return next((each for each in fitting if each.kid == kid), None)

    async def _metadata(self) -> _Metadata:
        if self._known is None:
            await self._fetch_soon()
        if self._known is None:
            raise self._gone()
        if not self._known.metadata.authorization_endpoint or not self._known.metadata.token_endpoint:
            raise Unavailable("the identity provider lets nobody sign in", reason=Reason.PROVIDER_UNAVAILABLE)
        return self._known.metadata

    async def _fetch_soon(self) -> None:
        """Fetches, unless that was done just now; one fetch for all who wait."""
        self._start_fetch()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _start_fetch(self) -> None:
        now = self._clock()
        if self._fetching is not None or (self._tried is not None and now - self._tried < RETRY_S):
            return
        self._tried = now
        self._fetching = asyncio.create_task(self._fetch())
        self._fetching.add_done_callback(self._fetched)

    def _fetched(self, _: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        """Never raises: what was known stays."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                metadata = await self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration", _Metadata)
                _check(metadata, self.issuer)
                keys = (await self._get(metadata.jwks_uri, _KeySet)).keys
            self._known = _Known(metadata, [key for each in keys[:MOST_KEYS] if (key := _key_of(each))], self._clock())
            self._failed = False
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, msgspec.MsgspecError, ValueError) as error:
            self._failed = True
            telemetry.logger().warning("the identity provider did not answer as it should", error=type(error).__name__)
        FETCHES.labels("failed" if self._failed else "ok").inc()

    async def _get(self, url: str, shape: type[Any]) -> Any:
        async with self._http.stream("GET", url) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError(url)
        return msgspec.json.decode(body, type=shape)

    def _gone(self) -> Unavailable:
        passed = self._clock() - (self._tried or 0.0)
        wait_s = float(max(1, ceil(RETRY_S - passed)))
        return Unavailable("the identity provider does not answer", reason=Reason.PROVIDER_UNAVAILABLE, retry_after_s=wait_s)


def is_local(url: str) -> bool:
    """Whether it is on this machine."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def is_safe(url: str) -> bool:
    """Whether what is asked there cannot be read or changed on the way."""
    return urlsplit(url).scheme == "https" or (urlsplit(url).scheme == "http" and is_local(url))


def _check(metadata: _Metadata, issuer: str) -> None:
    """Raises ValueError where the provider is another one than it should be, or speaks in the clear."""
    if metadata.issuer != issuer:
        raise ValueError("issuer")
    named = (metadata.jwks_uri, metadata.authorization_endpoint, metadata.token_endpoint)
    if not all(is_safe(url) for url in named if url):
        raise ValueError("scheme")


def _key_of(jwk: Mapping[str, Any]) -> VerificationKey | None:
    """None where it is no key that may sign for us: secret, for encryption, too short, or of a kind we do not know."""
    allowed = ALGORITHMS.get((str(jwk.get("kty")), str(jwk.get("crv", ""))), ())
    algorithms = [name for name in allowed if jwk.get("alg", name) == name]
    if not algorithms or jwk.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return None
    return VerificationKey(str(jwk.get("kid", "")), algorithms, key)
