"""An identity provider with keys of its own, over real HTTP: discovery, keys, authorization code with PKCE. It signs anything.

It asks nobody: whoever comes to /authorize is `person`.
"""

import json
import secrets
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

CLIENT_ID = "rapport"
CLIENT_SECRET = "client-secret-of-a-test"


class SigningKey:
    """One private key. `algorithm` is what it signs with unless something else is asked for."""

    def __init__(self, algorithm: str = "RS256", *, bits: int = 2048) -> None:
        self.kid = secrets.token_hex(8)
        self.algorithm = algorithm
        match algorithm:
            case "ES256":
                self.private: Any = ec.generate_private_key(ec.SECP256R1())
                jwk = ECAlgorithm.to_jwk(self.private.public_key())
            case "EdDSA":
                self.private = ed25519.Ed25519PrivateKey.generate()
                jwk = OKPAlgorithm.to_jwk(self.private.public_key())
            case _:
                self.private = rsa.generate_private_key(65537, bits)
                jwk = RSAAlgorithm.to_jwk(self.private.public_key())
        self.jwk = {**json.loads(jwk), "kid": self.kid, "use": "sig"}


class IdentityProvider:
    """Answers at `issuer` between `start` and `stop`."""

    def __init__(self) -> None:
        self.signing = SigningKey()
        self.published: list[dict[str, Any]] = [self.signing.jwk]
        self.person: dict[str, Any] = {}
        self.says: dict[str, Any] = {}
        self.asked: list[str] = []
        self.issuer = ""
        self._port = 0
        self._codes: dict[str, dict[str, str]] = {}
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, "")

            def do_POST(self) -> None:
                provider.answer(self, self.rfile.read(int(self.headers["content-length"])).decode())

            def log_message(self, *args: Any) -> None: ...

        server = self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = server.server_address[1]
        self.issuer = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def rotate(self, algorithm: str = "RS256") -> None:
        """A new key; the old one is published no more."""
        self.signing = SigningKey(algorithm)
        self.published = [self.signing.jwk]

    def claims(self, tenant: str, /, *roles: str, **changes: Any) -> dict[str, Any]:
        """What a good token says; a claim that is changed to None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "sub": "248289761001", "iat": now, "exp": now + 300, "tenant": tenant,
            "roles": list(roles), "email": "ada.private@example.com", "name": "Ada Private",
        }  # fmt: skip
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, tenant: str, /, *roles: str, **changes: Any) -> str:
        """A token, signed by the present key."""
        return self.sign(self.claims(tenant, *roles, **changes))

    def sign(self, claims: Mapping[str, Any], **headers: Any) -> str:
        """Any claims at all."""
        return jwt.encode(
            dict(claims),
            self.signing.private,
            algorithm=headers.pop("alg", self.signing.algorithm),
            headers={"kid": self.signing.kid, **headers},
        )

    def answer(self, request: BaseHTTPRequestHandler, body: str) -> None:
        url = urlsplit(request.path)
        self.asked.append(url.path)
        match url.path:
            case "/.well-known/openid-configuration":
                _send(request, self._metadata())
            case "/keys":
                _send(request, {"keys": self.published})
            case "/authorize":
                self._authorize(request, {name: values[0] for name, values in parse_qs(url.query).items()})
            case "/token":
                self._exchange(request, dict(parse_qsl(body)))
            case _:
                _send(request, {}, 404)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token", **self.says,
        }  # fmt: skip

    def _authorize(self, request: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        request.send_response(302)
        query = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        request.send_header("location", f"{asked['redirect_uri']}?{query}")
        request.send_header("content-length", "0")
        request.end_headers()

    def _exchange(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
            or _client_of(request.headers.get("authorization", "")) != (CLIENT_ID, CLIENT_SECRET)
        ):
            _send(request, {"error": "invalid_grant"}, 400)
            return
        token = self.sign({"nonce": asked["nonce"], **self.person})
        _send(request, {"id_token": token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 300})


def _client_of(authorization: str) -> tuple[str, ...]:
    decoded = b64decode(authorization.removeprefix("Basic ")).decode()
    return tuple(unquote(part) for part in decoded.split(":", 1))


def _send(request: BaseHTTPRequestHandler, document: Mapping[str, Any], status: int = 200) -> None:
    body = json.dumps(document).encode()
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """One that is up."""
    provider = IdentityProvider()
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
