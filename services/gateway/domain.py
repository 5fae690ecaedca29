"""Keys and people, their scopes, the pace at which they may ask, and what a repeated request means."""

import hmac
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum, StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, cast

from chassis.errors import Conflict, Denied, InvalidArgument, Reason, Unauthenticated

TENANT_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
IDEMPOTENCY_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,255}")
# A request under an Idempotency-Key that has not been answered for so long died with its process.
ABANDONED_AFTER: Final = timedelta(minutes=1)

MOST_PER_S: Final = 1e9
MOST_OVERLAP: Final = timedelta(days=90)

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
# No "@", no blank: not an address, and not somebody's whole name.
_OPAQUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._|:-]{0,127}")
_KEY: Final = re.compile(r"(wk|sk)_([0-9a-f]{12})_([0-9a-f]{64})")


class Scope(StrEnum):
    """What a key or a person may do. DEFINE: segments, experiments, surveys, traits; OPERATE: plans, retention, who is who."""

    INGEST = "ingest"
    READ = "read"
    PERSONAL = "personal"
    MANAGE = "manage"
    DEFINE = "define"
    OPERATE = "operate"
    SCORE = "score"
    ANSWERS = "answers"
    MODELS = "models"


class Kind(StrEnum):
    """A write key may be shipped in an app: it can only send events. A private key stays on a server."""

    WRITE = "write"
    PRIVATE = "private"


# Who has the second has the first.
PART_OF: Final = {Scope.DEFINE: Scope.MANAGE, Scope.OPERATE: Scope.MANAGE}


class Role(StrEnum):
    """What a person is, as the identity provider's token says."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    ML_ENGINEER = "ml_engineer"
    OPERATOR = "operator"
    ADMIN = "admin"


# The one table of what a role may do; who has several may do what any of them may.
SCOPES_OF: Final[Mapping[Role, frozenset[Scope]]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({Scope.READ}),
        Role.ANALYST: frozenset({Scope.READ, Scope.SCORE, Scope.ANSWERS, Scope.DEFINE}),
        Role.ML_ENGINEER: frozenset({Scope.READ, Scope.SCORE, Scope.MODELS}),
        Role.OPERATOR: frozenset({Scope.READ, Scope.INGEST, Scope.OPERATE}),
        Role.ADMIN: frozenset(Scope),
    }
)

PREFIXES: Final = {Kind.WRITE: "wk", Kind.PRIVATE: "sk"}
# Personal values are asked for by name, never had by default.
DEFAULT_PRIVATE_SCOPES: Final = frozenset({Scope.READ, Scope.MANAGE, Scope.SCORE, Scope.ANSWERS, Scope.MODELS})


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept: never its text.

    `digest` is the plain SHA-256 of the text. A slow password hash protects what people choose; this text holds 256 random
    bits, which nobody guesses at any speed, and a request must not wait for a hash.
    """

    key_id: str
    tenant_id: str
    kind: Kind
    scopes: frozenset[Scope]
    digest: bytes
    created: datetime
    revoked: datetime | None = None
    last_used: date | None = None
    # Good until then; None: until it is revoked.
    expires: datetime | None = None
    pace: "Pace" = field(default_factory=lambda: Pace())

    @property
    def name(self) -> str:
        """For paces."""
        return self.key_id

    @property
    def actor(self) -> str:
        """For the audit log."""
        return self.key_id


@dataclass(frozen=True, slots=True)
class Pace:
    """What a key may ask for in a second, of all replicas together. None: as many requests as any key, events without limit."""

    requests_per_s: float | None = None
    events_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_s", "events_per_s"):
            value: float | None = getattr(self, name)
            if value is not None and not 0 < value <= MOST_PER_S:
                raise InvalidArgument(f"{name} is over 0 and at most {MOST_PER_S:,.0f}", field=name)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the identity provider knows. `subject` is its own name for them, never an address."""

    tenant_id: str
    subject: str
    roles: frozenset[Role]

    @property
    def scopes(self) -> frozenset[Scope]:
        """What any of the roles may do."""
        return frozenset[Scope]().union(*(SCOPES_OF[role] for role in self.roles))

    @property
    def pace(self) -> Pace:
        """As of a key that has none of its own."""
        return Pace()

    @property
    def name(self) -> str:
        """For paces; of two tenants' people never the same."""
        return f"{self.tenant_id}/{self.subject}"

    @property
    def actor(self) -> str:
        """For the audit log: "sub:248289761001/admin"."""
        return f"sub:{self.subject}/{'+'.join(sorted(self.roles))}"


def roles_with(scope: Scope) -> list[Role]:
    """The roles that have the scope, in the order of the table."""
    return [role for role, scopes in SCOPES_OF.items() if holds(scopes, scope)]


def roles_in(claim: object) -> frozenset[Role]:
    """The roles that a token names: a list, or one text with blanks or commas between them. Others are not ours."""
    named = re.split(r"[\s,]+", claim) if isinstance(claim, str) else claim
    if not isinstance(named, list):
        return frozenset()
    texts = {text for text in cast("list[object]", named) if isinstance(text, str)}
    return frozenset(role for role in Role if role.value in texts)


def claim_of(claims: Mapping[str, Any], path: str) -> object:
    """The claim of that name; else what a path with dots leads to, as "realm_access.roles". None where there is nothing."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = cast("Mapping[str, Any]", found).get(name)
    return found


def subject_named(subject: str) -> str:
    """A subject as it may be written down: itself where it is an opaque name, else its digest: it may be an address."""
    return subject if _OPAQUE.fullmatch(subject) else sha256(subject.encode()).hexdigest()[:32]


def write_key_text(kind: Kind, *, identity: bytes, secret: bytes) -> str:
    """The text of a new key: kind, public id (ID_BYTES random bytes), secret (SECRET_BYTES)."""
    return f"{PREFIXES[kind]}_{identity.hex()}_{secret.hex()}"


def key_id_of(text: str) -> str | None:
    """The public part of a key's text, "wk_0123456789ab"; None where it is no key."""
    return text[:15] if _KEY.fullmatch(text) else None


def looks_like_token(text: str) -> bool:
    """Whether a text may be a signed JWT: three parts, the first a JSON object in base64."""
    return text.startswith("eyJ") and text.count(".") == 2


def digest_of(text: str) -> bytes:
    """What is kept of a key's text, or of a session's token: 256 random bits need no slow hash."""
    return sha256(text.encode()).digest()


def admits(key: Key | None, text: str, *, at: datetime) -> bool:
    """Whether `text` is that key, and it still counts. Takes as long for a wrong secret as for the right one."""
    known = key.digest if key else bytes(32)
    return hmac.compare_digest(known, digest_of(text)) and key is not None and is_good(key, at=at)


def is_good(key: Key, *, at: datetime) -> bool:
    """Neither revoked nor expired."""
    return key.revoked is None and (key.expires is None or at < key.expires)


def check_overlap(overlap: timedelta) -> timedelta:
    """How long a key that is replaced stays good. Raises InvalidArgument."""
    if not timedelta(0) <= overlap <= MOST_OVERLAP:
        raise InvalidArgument(f"a key that is replaced stays good for 0 to {MOST_OVERLAP.days} days", field="overlap")
    return overlap


def scopes_for(kind: Kind, asked: Sequence[str] = ()) -> frozenset[Scope]:
    """The scopes of a new key; nothing asked for gives the kind's usual ones. Raises InvalidArgument."""
    unknown = sorted(set(asked) - set(Scope))
    if unknown:
        raise InvalidArgument(f"no such scope: {', '.join(unknown)}; there are {', '.join(Scope)}", field="scopes")
    if kind is Kind.WRITE:
        if set(asked) - {Scope.INGEST}:
            raise InvalidArgument("a write key may only ingest; make a private key", field="scopes")
        return frozenset({Scope.INGEST})
    return frozenset(Scope(name) for name in asked) or DEFAULT_PRIVATE_SCOPES


def holds(scopes: Set[Scope], needed: Scope) -> bool:
    """Whether the scope is among them, or is part of one."""
    return needed in scopes or PART_OF.get(needed) in scopes


def require(scopes: Set[Scope], needed: Scope, roles: Set[Role] | None = None) -> None:
    """Raises Denied, naming the scope that is missing, and to a person the roles that have it. `roles` None: of a key."""
    if holds(scopes, needed):
        return
    if roles is None:
        raise Denied(f"the key lacks the scope {needed.value!r}", metadata={"scope": needed.value})
    having = ", ".join(roles_with(needed))
    message = f"{', '.join(sorted(roles))} lacks the scope {needed.value!r}; roles that have it: {having}"
    raise Denied(message, metadata={"scope": needed.value, "roles": having})


def check_tenant(name: str) -> str:
    """The name itself. Raises InvalidArgument where it is none: it goes into paths, logs and metrics."""
    if not TENANT_PATTERN.fullmatch(name):
        raise InvalidArgument("a tenant's name is 1 to 40 lower-case letters, digits and -, a letter first", field="tenant_id")
    return name


def unauthenticated(*, given: bool) -> Unauthenticated:
    """The same for an unknown, a revoked and a mistyped key."""
    if given:
        return Unauthenticated("the key is unknown or revoked", reason=Reason.INVALID_KEY)
    message = (
        "send a key: HTTP Basic with the key as user name and no password, Authorization: Bearer <key>, "
        "or, with events, writeKey in the body"
    )
    return Unauthenticated(message, reason=Reason.MISSING_KEY)


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` tokens a second, at most one second's worth kept, and never fewer than one.

    Times are of a monotonic clock, in seconds.
    """

    rate: float
    tokens: float
    filled: float

    def take(self, now: float) -> bool:
        """One token; False where there is none."""
        if not self.has_any(now):
            return False
        self.tokens -= 1.0
        return True

    def has_any(self, now: float) -> bool:
        """Whether there is a token."""
        self.tokens = min(self.most, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        return self.tokens >= 1.0

    def spend(self, count: int) -> None:
        """Takes tokens that were used before anybody knew how many it would be; what is missing is owed."""
        self.tokens -= count

    @property
    def most(self) -> float:
        """Tokens that are kept."""
        return max(1.0, self.rate)

    @property
    def full_in_s(self) -> float:
        """Seconds until the bucket is full again."""
        return (self.most - self.tokens) / self.rate

    @property
    def next_in_s(self) -> float:
        """Seconds until there is a token."""
        return max(0.0, (1.0 - self.tokens) / self.rate)


class Repeat(Enum):
    """What a request under an Idempotency-Key is."""

    FIRST = "first"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier request under the same Idempotency-Key. `answer` is None while it is under way."""

    digest: bytes
    started: datetime
    answer: bytes | None


def judge_repeat(earlier: Attempt | None, digest: bytes, *, at: datetime) -> Repeat:
    """FIRST: do it. ANSWERED: say what was said. Raises Conflict for another request, or one that is still under way."""
    if earlier is None:
        return Repeat.FIRST
    if not hmac.compare_digest(earlier.digest, digest):
        raise Conflict(
            "this Idempotency-Key was used for another request, or with another API key", reason=Reason.IDEMPOTENCY_MISMATCH
        )
    if earlier.answer is not None:
        return Repeat.ANSWERED
    if at - earlier.started < ABANDONED_AFTER:
        raise Conflict("the first request under this Idempotency-Key is still under way", reason=Reason.IDEMPOTENCY_MISMATCH)
    return Repeat.FIRST


def request_digest(api_key: str, method: str, target: str, body: bytes) -> bytes:
    """Tells two requests apart. Keyed by the API key's text, which is stored nowhere, so that nobody can guess at bodies."""
    return hmac.digest(api_key.encode(), b"\n".join((method.encode(), target.encode(), body)), "sha256")
