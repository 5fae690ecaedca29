"""People: who has a token of the identity provider, and who is signed in at the console."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from chassis.errors import Denied, Reason, Unauthenticated
from services.gateway.domain import TENANT_PATTERN, Person, Role, claim_of, digest_of, roles_in, subject_named
from services.gateway.provider import ALL_ALGORITHMS, Provider
from services.gateway.store import SessionStore

HasTenant = Callable[[str], Awaitable[bool]]

# Clocks of two machines differ by so much.
LEEWAY_S: Final = 30
MOST_TOKEN_CHARACTERS: Final = 16_384
MOST_SUBJECT_CHARACTERS: Final = 255
# How long a tenant that is there is believed to be there.
FRESH_S: Final = 60.0
MOST_TENANTS: Final = 10_000
# A person signs in again after so long; a role that was taken away at the provider counts no longer from then on.
SESSION_LASTS: Final = timedelta(hours=8)

# RFC 9068's access tokens, and what providers call the others. A logout token, say, signs nobody in.
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_REQUIRED: Final = ("iss", "aud", "exp", "iat", "sub")


class People:
    """Checks tokens."""

    def __init__(
        self,
        provider: Provider,
        has_tenant: HasTenant,
        *,
        tenant_claim: str,
        roles_claim: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._has_tenant = has_tenant
        self._tenant_claim = tenant_claim
        self._roles_claim = roles_claim
        self._clock = clock
        self._tenants: dict[str, float] = {}

    async def __call__(self, token: str) -> Person:
        """Whose token it is. Raises Unauthenticated, Denied without a tenant or role of ours, Unavailable."""
        return await self._person_of(await self._claims_of(token))

    async def signed_in(self, id_token: str, *, nonce: str) -> Person:
        """Whose ID token it is, where it answers our question. Raises as above."""
        claims = await self._claims_of(id_token)
        if claims.get("nonce") != nonce:
            raise _invalid("the token answers another sign-in")
        if claims.get("azp", self._provider.client_id) != self._provider.client_id:
            raise _invalid("the token was issued to another client")
        return await self._person_of(claims)

    async def _claims_of(self, token: str) -> Mapping[str, Any]:
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise _invalid(f"a token has at most {MOST_TOKEN_CHARACTERS:,} characters")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALL_ALGORITHMS:
                raise _invalid(f"the token's algorithm is none of {', '.join(ALL_ALGORITHMS)}")
            if str(header.get("typ") or "").lower() not in _TYPES:
                raise _invalid("the token is of another type; an access token or an ID token is needed")
            # Before a key is looked for: what is of another issuer is signed with a key that ours does not have.
            stranger = jwt.decode(token, options={"verify_signature": False})
            if stranger.get("iss") != self._provider.issuer:
                raise jwt.InvalidIssuerError
            key = await self._provider.key(str(header.get("kid") or ""), algorithm)
            return jwt.decode(
                token, key, algorithms=[algorithm], audience=self._provider.client_id, issuer=self._provider.issuer,
                leeway=LEEWAY_S, options={"require": list(_REQUIRED)},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _invalid(_meaning(error)) from None  # the cause may repeat a claim

    async def _person_of(self, claims: Mapping[str, Any]) -> Person:
        subject, tenant = str(claims["sub"]), claim_of(claims, self._tenant_claim)
        if not 1 <= len(subject) <= MOST_SUBJECT_CHARACTERS:
            raise _invalid(f"the token's claim sub has over {MOST_SUBJECT_CHARACTERS} characters, or none")
        if not isinstance(tenant, str) or not await self._is_known(tenant):
            message = f"the token's claim {self._tenant_claim!r} names no tenant that is here"
            raise Denied(message, reason=Reason.UNKNOWN_TENANT)
        roles = roles_in(claim_of(claims, self._roles_claim))
        if not roles:
            message = f"the token's claim {self._roles_claim!r} names none of the roles {', '.join(Role)}"
            raise Denied(message, reason=Reason.MISSING_ROLE)
        return Person(tenant, subject_named(subject), roles)

    async def _is_known(self, tenant: str) -> bool:
        if not TENANT_PATTERN.fullmatch(tenant):
            return False
        if self._tenants.get(tenant, 0.0) > self._clock():
            return True
        if not await self._has_tenant(tenant):
            return False
        if len(self._tenants) >= MOST_TENANTS:
            self._tenants.clear()
        self._tenants[tenant] = self._clock() + FRESH_S
        return True


@dataclass(frozen=True, slots=True)
class SignIn:
    """What the console signs people in with. `public_url`: where browsers find it."""

    provider: Provider
    people: People
    sessions: SessionStore
    public_url: str

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends a browser back to; it has to know this address."""
        return f"{self.public_url}/console/sign-in/callback"

    async def open(self, person: Person, token: str) -> None:
        """A session, found again by the token, of which only the digest is kept."""
        now = datetime.now(UTC)
        await self.sessions.add(digest_of(token), person, started=now, expires=now + SESSION_LASTS)

    async def find(self, token: str) -> Person | None:
        """Who is signed in with this token. Asked for each page, so a session that ended is over everywhere at once."""
        return await self.sessions.find(digest_of(token), at=datetime.now(UTC)) if token else None

    async def close(self, token: str) -> None:
        """Nothing happens where there is none."""
        await self.sessions.remove(digest_of(token))


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason=Reason.INVALID_TOKEN)


def _meaning(error: Exception) -> str:
    """In our words: the library's may hold what the token says."""
    match error:
        case jwt.ExpiredSignatureError():
            return "the token has expired"
        case jwt.ImmatureSignatureError():
            return "the token is not valid yet"
        case jwt.InvalidIssuerError():
            return "the token is of another issuer"
        case jwt.InvalidAudienceError():
            return "the token is for another audience"
        case jwt.MissingRequiredClaimError():
            return f"the token lacks one of the claims {', '.join(_REQUIRED)}"
        case jwt.InvalidSignatureError():
            return "the token's signature is wrong"
        case _:
            return "the token cannot be read"
