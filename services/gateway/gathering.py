"""Many small requests, one call: what arrives together for one tenant travels together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from rapport.profiles.v1 import profiles_pb2 as profiles
from rapport.scoring.v1 import scoring_pb2 as scoring

from chassis import context
from chassis.errors import Error, InvalidArgument, Reason, Unavailable
from chassis.gather import Gather
from services.gateway.capacity import BODY_WEIGHT, Capacity
from services.gateway.clients import Services

SUBMISSIONS_A_CALL: Final = 256
# A longer call would make those wait that come after it.
WEIGHT_A_CALL: Final = 512 << 10
# To profiles, for all tenants together.
CALLS_IN_FLIGHT: Final = 8
SCORES_A_CALL: Final = 256


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Item]):
    item: Item
    request_id: str


def _request_id(asked: Sequence[_Asked[Item]]) -> str:
    """A call for one request keeps its id; a call for many has one of its own."""
    return asked[0].request_id if len(asked) == 1 else context.new_request_id()


class Submissions:
    """Bodies on their way to profiles.Ingest."""

    def __init__(self, services: Services, capacity: Capacity) -> None:
        self._services = services
        self._capacity = capacity
        self._calls = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._by_tenant: dict[str, Gather[_Asked[profiles.Submission], Sequence[profiles.Receipt]]] = {}

    async def submit(self, submission: profiles.Submission) -> Sequence[profiles.Receipt]:
        """The receipts of one body. Raises InvalidArgument where it cannot be read."""
        weight = BODY_WEIGHT + len(submission.body)
        return await self._gather().ask(_Asked(submission, context.current().request_id), weight=weight)

    def _gather(self) -> Gather[_Asked[profiles.Submission], Sequence[profiles.Receipt]]:
        tenant = context.tenant()
        gather = self._by_tenant.get(tenant)
        if gather is None:
            send = _Ingest(self._services, tenant, self._capacity, self._calls).send
            gather = self._by_tenant[tenant] = Gather(send, size=SUBMISSIONS_A_CALL, weight=WEIGHT_A_CALL)
        return gather


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
        self._services = services
        self._by_tenant: dict[str, Gather[_Asked[Question], scoring.ScoreResult]] = {}

    async def ask(self, question: Question) -> scoring.ScoreResult:
        """The answer for one profile, with a score or with why there is none."""
        tenant = context.tenant()
        gather = self._by_tenant.get(tenant)
        if gather is None:
            gather = self._by_tenant[tenant] = Gather(_Score(self._services, tenant).send, size=SCORES_A_CALL)
        return await gather.ask(_Asked(question, context.current().request_id))


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
