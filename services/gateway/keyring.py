"""Who asks: keys looked up once in five seconds, and the pace of each."""

import asyncio
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chassis.errors import Exhausted, Reason
from services.gateway.domain import Bucket, Key, Scope, admits, key_id_of, unauthenticated

Find = Callable[[str], Awaitable[Key | None]]

FRESH_S = 5.0
# Of key ids, known and unknown; beyond it all are looked up anew, so nobody can fill the memory with made-up ids.
MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was checked. `text` is the key itself: never logged, never stored."""

    key: Key
    text: str

    @property
    def tenant(self) -> str:
        return self.key.tenant_id

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.key.scopes


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the RateLimit headers say: requests a second, how many are left, seconds until all are back."""

    limit: int
    remaining: int
    reset_s: int


@dataclass(slots=True)
class _Entry:
    key: Key | None
    until: float


class Keyring:
    """Checks keys. A revoked key is refused FRESH_S after its revocation at the latest."""

    def __init__(self, find: Find, *, rate_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._rate = rate_per_s
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lookups: dict[str, asyncio.Task[Key | None]] = {}
        self._buckets: dict[str, Bucket] = {}

    async def caller_of(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header. Raises Unauthenticated; Unavailable where the keys cannot be read."""
        text = key_text_of(authorization)
        key_id = key_id_of(text)
        key = await self._key(key_id) if key_id else None
        if not admits(key, text) or key is None:
            raise unauthenticated(given=bool(text))
        return Caller(key, text)

    def take(self, caller: Caller) -> Allowance:
        """Counts one request. `remaining` is -1 where there was no room for it."""
        now = self._clock()
        bucket = self._buckets.get(caller.key.key_id)
        if bucket is None:
            bucket = self._buckets[caller.key.key_id] = Bucket(self._rate, self._rate, now)
        remaining = int(bucket.tokens) if bucket.take(now) else -1
        return Allowance(int(self._rate), remaining, max(1, round(bucket.full_in_s)))

    async def _key(self, key_id: str) -> Key | None:
        entry = self._entries.get(key_id)
        if entry and entry.until > self._clock():
            return entry.key
        lookup = self._lookups.get(key_id)
        if lookup is None:  # one look for all who wait for the same key
            lookup = self._lookups[key_id] = asyncio.create_task(self._look_up(key_id))
            lookup.add_done_callback(lambda _: self._lookups.pop(key_id, None))
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> Key | None:
        asked = self._clock()
        key = await self._find(key_id)
        if len(self._entries) >= MOST_ENTRIES:
            self._entries.clear()
        self._entries[key_id] = _Entry(key, asked + FRESH_S)
        return key


def key_text_of(authorization: str | None) -> str:
    """The key in "Basic <base64 of key:>" or "Bearer <key>"; empty where there is none."""
    scheme, _, rest = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return b64decode(rest.strip(), validate=True).decode("ascii").partition(":")[0]
            except ValueError:
                return rest.strip()  # not empty: a key was sent, only not a good one
        case _:
            return ""


def refuse_haste(allowance: Allowance) -> None:
    """Raises Exhausted where there was no room."""
    if allowance.remaining < 0:
        raise Exhausted("the key asks too often", reason=Reason.RATE_LIMITED, retry_after_s=1.0)
