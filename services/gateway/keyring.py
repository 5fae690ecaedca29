"""Who asks: keys looked up once in five seconds, and the pace of each."""

import asyncio
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import ceil

from chassis import context
from chassis.errors import Error, Exhausted, Reason
from services.gateway.domain import Bucket, Key, Person, Role, Scope, admits, key_id_of, looks_like_token, unauthenticated

Find = Callable[[str], Awaitable[Key | None]]
Mark = Callable[[str], Awaitable[None]]
Know = Callable[[str], Awaitable[Person]]

FRESH_S = 5.0
# Of key ids, known and unknown; beyond it all are looked up anew, so nobody can fill the memory with made-up ids.
MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A key or a person, checked. `text` is the key or the token itself: never logged, never stored."""

    who: Key | Person
    text: str

    @property
    def tenant(self) -> str:
        return self.who.tenant_id

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.who.scopes

    @property
    def roles(self) -> frozenset[Role] | None:
        """None: a key."""
        return self.who.roles if isinstance(self.who, Person) else None

    @property
    def actor(self) -> str:
        return self.who.actor


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the RateLimit headers say: requests a second of this process, how many are left, seconds until all are back.

    Where there is no room, `reset_s` is until there is some.
    """

    limit: int
    remaining: int
    reset_s: int


@dataclass(slots=True)
class _Entry:
    key: Key | None
    until: float


class Keyring:
    """Checks keys, and has people checked. A revoked key is refused FRESH_S after its revocation at the latest."""

    def __init__(
        self,
        find: Find,
        *,
        rate_per_s: float,
        mark_used: Mark | None = None,
        people: Know | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        # Who has this token; None: only keys count.
        self._people = people
        self._mark_used = mark_used
        self._marked: set[tuple[str, date]] = set()
        self._marking: set[asyncio.Task[None]] = set()
        self._rate = rate_per_s
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lookups: dict[str, asyncio.Task[Key | None]] = {}
        self._requests: dict[str, Bucket] = {}
        self._events: dict[str, Bucket] = {}
        # Processes that serve; each gives a key its share of the key's pace.
        self.replicas = 1

    async def caller_of(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header. Raises Unauthenticated; Unavailable where the keys cannot be read."""
        return await self.caller_by(key_text_of(authorization))

    async def caller_by(self, text: str) -> Caller:
        """Who has the key with this text. Raises as `caller_of` does."""
        key_id = key_id_of(text)
        if key_id is None and self._people is not None and looks_like_token(text):
            return Caller(await self._people(text), text)
        key = await self._key(key_id) if key_id else None
        now = datetime.now(UTC)
        if not admits(key, text, at=now) or key is None:
            raise unauthenticated(given=bool(text))
        if self._mark_used is not None and key.last_used != now.date():
            self._mark(self._mark_used, key, now.date())
        return Caller(key, text)

    def _mark(self, mark_used: Mark, key: Key, today: date) -> None:
        """Once a day and process, beside the request: it does not wait for it, and does not fail with it."""
        if (key.key_id, today) in self._marked:
            return
        if len(self._marked) >= MOST_ENTRIES:
            self._marked.clear()
        self._marked.add((key.key_id, today))

        async def mark() -> None:
            try:
                with context.use(tenant=key.tenant_id):
                    await mark_used(key.key_id)
            except Error:
                self._marked.discard((key.key_id, today))

        task = asyncio.create_task(mark())
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    def take(self, caller: Caller) -> Allowance:
        """Counts one request. `remaining` is -1 where there was no room for it, or where the key has sent too many events."""
        now = self._clock()
        who = caller.who
        bucket = self._bucket(self._requests, who.name, who.pace.requests_per_s or self._rate, now)
        if (events_per_s := who.pace.events_per_s) is not None:
            events = self._bucket(self._events, who.name, events_per_s, now)
            if not events.has_any(now):
                return Allowance(int(events_per_s), -1, ceil(events.next_in_s))
        remaining = int(bucket.tokens) if bucket.take(now) else -1
        waiting_s = bucket.full_in_s if remaining >= 0 else bucket.next_in_s
        return Allowance(max(1, int(bucket.rate)), remaining, max(1, round(waiting_s)))

    def spend(self, caller: Caller, events: int) -> None:
        """Counts the events of a body. A body may hold more than the key has left: the next ones then wait longer."""
        if bucket := self._events.get(caller.who.name):
            bucket.spend(events)

    def _bucket(self, buckets: dict[str, Bucket], name: str, whole: float, now: float) -> Bucket:
        rate = whole / self.replicas
        bucket = buckets.get(name)
        if bucket is None:
            bucket = buckets[name] = Bucket(rate, max(1.0, rate), now)
        bucket.rate = rate  # the key's pace, or the number of replicas, may have changed
        return bucket

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
        raise Exhausted("the key asks too often", reason=Reason.RATE_LIMITED, retry_after_s=float(allowance.reset_s))
