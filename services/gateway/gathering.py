"""Many small requests, one call: what arrives together for one tenant travels together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from rapport.profiles.v1 import identities_pb2 as identities
from rapport.profiles.v1 import profiles_pb2 as profiles
from rapport.scoring.v1 import scoring_pb2 as scoring

from chassis import context
from chassis.errors import Error, Exhausted, InvalidArgument, Reason, Unavailable
from chassis.gather import Gather
from services.gateway.capacity import BODY_WEIGHT, Capacity
from services.gateway.clients import Services, unknown_profile

SUBMISSIONS_A_CALL: Final = 256
# A longer call would make those wait that come after it.
WEIGHT_A_CALL: Final = 512 << 10
# To profiles, for all tenants together.
CALLS_IN_FLIGHT: Final = 8
SCORES_A_CALL: Final = 256
# As many references as profiles takes.
READS_A_CALL: Final = 1_000
# Of one kind, for one tenant.
READS_IN_FLIGHT: Final = 4
FEW: Final = 100
SINGLES_AT_ONCE: Final = 8
# Asking such a service again, for each, would only be more for it to do.
_BUSY: Final = (Unavailable, Exhausted)


Item = TypeVar("Item")
Answer = TypeVar("Answer")
Sent = TypeVar("Sent", covariant=True)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Item]):
    item: Item
    request_id: str


def _request_id(asked: Sequence[_Asked[Item]]) -> str:
    """A call for one request keeps its id; a call for many has one of its own."""
    return asked[0].request_id if len(asked) == 1 else context.new_request_id()


class _Sender(Protocol[Item, Sent]):
    """Asks for one tenant."""

    async def send(self, items: Sequence[_Asked[Item]], /) -> Sequence[Sent | Error]: ...


class _Gathers(Generic[Item, Answer]):
    """One for each tenant: what is one's travels with no other's."""

    def __init__(self, sender: Callable[[str], _Sender[Item, Answer]], **limits: int) -> None:
        self._sender = sender
        self._limits = limits
        self._by_tenant: dict[str, Gather[_Asked[Item], Answer]] = {}

    async def ask(self, item: Item, *, weight: int = 1) -> Answer:
        """Of the present call's tenant."""
        tenant = context.tenant()
        if (gather := self._by_tenant.get(tenant)) is None:
            gather = self._by_tenant[tenant] = Gather(self._sender(tenant).send, **self._limits)
        return await gather.ask(_Asked(item, context.current().request_id), weight=weight)


class Submissions:
    """Bodies on their way to profiles.Ingest."""

    def __init__(self, services: Services, capacity: Capacity) -> None:
        calls = asyncio.Semaphore(CALLS_IN_FLIGHT)

        def sender(tenant: str) -> _Ingest:
            return _Ingest(services, tenant, capacity, calls)

        self._gathers = _Gathers(sender, size=SUBMISSIONS_A_CALL, weight=WEIGHT_A_CALL)

    async def submit(self, submission: profiles.Submission) -> Sequence[profiles.Receipt]:
        """The receipts of one body. Raises InvalidArgument where it cannot be read."""
        weight = BODY_WEIGHT + len(submission.body)
        return await self._gathers.ask(submission, weight=weight)


@dataclass(frozen=True, slots=True)
class _Ingest:
    services: Services
    tenant: str
    capacity: Capacity
    calls: asyncio.Semaphore

    async def send(self, items: Sequence[_Asked[profiles.Submission]]) -> Sequence[Sequence[profiles.Receipt] | Error]:
        request = profiles.IngestRequest(submissions=[each.item for each in items])
        weight = sum(BODY_WEIGHT + len(each.item.body) for each in items)
        is_done = is_lost = False
        async with self.calls:
            flight = self.capacity.send(weight)
            try:
                with context.use(tenant=self.tenant, request_id=_request_id(items), actor="gateway"):
                    answer = await self.services.profiles.Ingest(request)
                is_done = True
            except Unavailable as error:
                is_lost = error.reason is not Reason.DEADLINE_EXCEEDED  # that is what too much work looks like
                raise
            finally:
                self.capacity.end(flight, done=is_done, lost=is_lost)
        return [_receipts(result) for result in answer.submissions]


def _receipts(result: profiles.SubmissionResult) -> Sequence[profiles.Receipt] | Error:
    if not result.HasField("malformed"):
        return result.receipts.receipts
    return refusal(result.malformed.reason, result.malformed.message, result.malformed.field, result.malformed.message_id)


def refusal(reason: str, message: str, field: str, message_id: str = "") -> InvalidArgument:
    """A rejected event or body as an error of its sender's, who may ask for its receipt by `message_id`."""
    known = Reason[reason] if reason in Reason.__members__ else Reason.INVALID_FIELD
    return InvalidArgument(message or known.value, reason=known, field=field, metadata={"message_id": message_id})


@dataclass(frozen=True, slots=True)
class Question:
    """One profile to score. `at` None: by the tenant's clock."""

    ref: str
    model: str
    at: datetime | None
    version: str


class Scores:
    """Questions on their way to scoring.ScoreProfiles."""

    def __init__(self, services: Services) -> None:
        self._gathers = _Gathers(lambda tenant: _Score(services, tenant), size=SCORES_A_CALL)

    async def ask(self, question: Question) -> scoring.ScoreResult:
        """The answer for one profile, with a score or with why there is none."""
        return await self._gathers.ask(question)


@dataclass(frozen=True, slots=True)
class _Score:
    services: Services
    tenant: str

    async def send(self, asked: Sequence[_Asked[Question]]) -> Sequence[scoring.ScoreResult | Error]:
        """One call for each (model, at, version) among the questions: usually one."""
        groups: dict[tuple[str, datetime | None, str], list[str]] = {}
        items = [each.item for each in asked]
        for item in items:
            groups.setdefault((item.model, item.at, item.version), []).append(item.ref)
        with context.use(tenant=self.tenant, request_id=_request_id(asked), actor="gateway"):
            calls = [self._score(*key, refs) for key, refs in groups.items()]
            answers = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        found = dict(zip(groups, map(iter, answers), strict=True))
        return [next(found[item.model, item.at, item.version]) for item in items]

    async def _score(
        self, model: str, at: datetime | None, version: str, refs: Sequence[str]
    ) -> Sequence[scoring.ScoreResult | Error]:
        unique = list(dict.fromkeys(refs))
        request = scoring.ScoreProfilesRequest(model=model, refs=unique, version=version)
        if at is not None:
            request.at.FromDatetime(at)
        try:
            answer = await self.services.scoring.ScoreProfiles(request)
        except Error as error:  # the other groups of the batch are not to blame
            return [error] * len(refs)
        by_ref: Mapping[str, scoring.ScoreResult] = dict(zip(unique, answer.results, strict=True))
        return [by_ref[ref] for ref in refs]


class Reads:
    """Questions on their way to profiles, about one customer each or some."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._profiles = _Gathers(lambda tenant: _GetProfiles(services, tenant), size=READS_A_CALL, in_flight=READS_IN_FLIGHT)
        self._lookups = _Gathers(lambda tenant: _LookUp(services, tenant), weight=READS_A_CALL, in_flight=READS_IN_FLIGHT)

    async def profile(self, ref: str) -> profiles.Profile:
        """Raises NotFound."""
        return await self._profiles.ask(ref)

    async def lookup(self, identifiers: Sequence[identities.Identifier]) -> Sequence[str]:
        """The profile id of each, "" where nobody is known by it. Many go alone, and keep nobody waiting."""
        if len(identifiers) > FEW:
            request = identities.LookupProfilesRequest(identifiers=identifiers)
            return (await self._services.identities.LookupProfiles(request)).profile_ids
        return await self._lookups.ask(identifiers, weight=len(identifiers))


@dataclass(frozen=True, slots=True)
class _GetProfiles:
    services: Services
    tenant: str

    async def send(self, asked: Sequence[_Asked[str]]) -> Sequence[profiles.Profile | Error]:
        if len(asked) == 1:
            return [await self._one(asked[0])]
        request = profiles.BatchGetProfilesRequest(refs=[each.item for each in asked])
        try:
            with context.use(tenant=self.tenant, request_id=context.new_request_id(), actor="gateway"):
                answer = await self.services.profiles.BatchGetProfiles(request)
        except Error as error:
            return await _singly(self._one, asked, error)
        return [found if found.profile_id else unknown_profile() for found in answer.profiles]

    async def _one(self, asked: _Asked[str]) -> profiles.Profile:
        with context.use(tenant=self.tenant, request_id=asked.request_id, actor="gateway"):
            return (await self.services.profiles.GetProfile(profiles.GetProfileRequest(ref=asked.item))).profile


@dataclass(frozen=True, slots=True)
class _LookUp:
    services: Services
    tenant: str

    async def send(self, asked: Sequence[_Asked[Sequence[identities.Identifier]]]) -> Sequence[Sequence[str] | Error]:
        try:
            found = iter(await self._ask([one for each in asked for one in each.item], _request_id(asked)))
        except Error as error:
            if len(asked) == 1:
                raise
            return await _singly(self._one, asked, error)
        return [list(islice(found, len(each.item))) for each in asked]

    async def _one(self, asked: _Asked[Sequence[identities.Identifier]]) -> Sequence[str]:
        return await self._ask(asked.item, asked.request_id)

    async def _ask(self, identifiers: Sequence[identities.Identifier], request_id: str) -> Sequence[str]:
        request = identities.LookupProfilesRequest(identifiers=identifiers)
        with context.use(tenant=self.tenant, request_id=request_id, actor="gateway"):
            return (await self.services.identities.LookupProfiles(request)).profile_ids


async def _singly(
    one: Callable[[_Asked[Item]], Awaitable[Answer]], asked: Sequence[_Asked[Item]], error: Error
) -> Sequence[Answer | Error]:
    """One of many may have spoilt the call, or the service is older than the call: each for itself, some at a time.

    Raises `error` where asking again would help nobody; where that shows on the way, the rest is not asked.
    """
    if isinstance(error, _BUSY):
        raise error
    free = asyncio.Semaphore(SINGLES_AT_ONCE)
    busy: list[Error] = []

    async def ask(each: _Asked[Item]) -> Answer | Error:
        async with free:
            if busy:
                return busy[0]
            try:
                return await one(each)
            except _BUSY as its_own:
                busy.append(its_own)
                return its_own
            except Error as its_own:
                return its_own

    return await asyncio.gather(*map(ask, asked))
