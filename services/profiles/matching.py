"""Match runs, and what people decide on their suggestions."""

import asyncio
import importlib.util
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from prometheus_client import Counter

from chassis import context, telemetry
from chassis.errors import Conflict, Exhausted, InvalidArgument, NotFound, Reason, Unavailable
from services.profiles import child
from services.profiles.domain.matching import ACCEPT_FLOOR, REASONS
from services.profiles.identities import Identities
from services.profiles.store.matching import MatchStore, RunRow, SuggestionRow
from services.profiles.tenancy import Tenant

MAX_WAITING: Final = 3
MAX_ATTEMPTS: Final = 2
_POLL_S: Final = 5.0
_BY_THE_MATCHER: Final = "suggested by a match run"

DECISIONS: Final = Counter(
    "rapport_profiles_match_decisions_total", "Decisions on suggestions of who is the same person.", ["decision"]
)


class Matching:
    """What the RPC and a run's process ask for."""

    def __init__(self, store: MatchStore, identities: Identities) -> None:
        self._store = store
        self._identities = identities

    async def start(self, tenant: Tenant, accept_from: float | None) -> RunRow:
        """A queued run. Raises InvalidArgument, or Exhausted."""
        if accept_from is not None and not ACCEPT_FLOOR <= accept_from <= 1:
            raise InvalidArgument(f"accept_from is a probability from {ACCEPT_FLOOR} to 1", field="accept_from")
        if await self._store.waiting(tenant.tenant_id) >= MAX_WAITING:
            raise Exhausted(f"{MAX_WAITING} match runs are waiting already", reason=Reason.QUEUE_FULL, retry_after_s=60.0)
        return await self._store.add_run(tenant.tenant_id, accept_from)

    async def run(self, tenant: Tenant, run_id: UUID) -> RunRow:
        """Raises NotFound."""
        if (run := await self._store.find_run(tenant.tenant_id, run_id)) is None:
            raise NotFound("there is no such match run", field="match_run_id")
        return run

    async def accept(self, tenant: Tenant, suggestion_id: UUID, reason: str) -> SuggestionRow:
        """Makes both one, for a `reason` that is kept sealed. The fact is in the log before the suggestion says so; a repeat
        adds nothing. Raises NotFound where there is none such, or where one of the two is no more; Conflict where it was
        rejected, or where a limit of identities forbids it; Unavailable where the projections do not show it in time."""
        suggestion = await self._found(tenant, suggestion_id, "accepted")
        if suggestion.state == "open":
            one, other, said = str(suggestion.profile_a), str(suggestion.profile_b), reason or _BY_THE_MATCHER
            await self._identities.link(tenant, one, other, said, f"match:{suggestion_id}")
        return await self._decide(tenant, suggestion, "accepted", "")

    async def reject(self, tenant: Tenant, suggestion_id: UUID, reason: str) -> SuggestionRow:
        """`reason`: one of REASONS. Raises InvalidArgument; NotFound; Conflict where it was accepted."""
        if reason not in REASONS:
            raise InvalidArgument(f"a reason is one of {', '.join(REASONS)}", field="reason")
        return await self._decide(tenant, await self._found(tenant, suggestion_id, "rejected"), "rejected", reason)

    async def _found(self, tenant: Tenant, suggestion_id: UUID, wanted: str) -> SuggestionRow:
        """One that is open, or that was decided just so before."""
        if (found := await self._store.find(tenant.tenant_id, suggestion_id)) is None:
            raise NotFound("there is no such suggestion", field="match_suggestion_id")
        if found.state not in ("open", wanted):
            raise Conflict(f"the suggestion was {found.state}", reason=Reason.ALREADY_EXISTS, field="match_suggestion_id")
        return found

    async def _decide(self, tenant: Tenant, suggestion: SuggestionRow, state: str, reason: str) -> SuggestionRow:
        if suggestion.state == state:
            return suggestion
        actor = context.current().actor
        decided = await self._store.decide(tenant.tenant_id, suggestion.suggestion_id, state, actor, reason)
        if decided is None:
            return await self._found(tenant, suggestion.suggestion_id, state)
        DECISIONS.labels(state).inc()
        return decided


class MatchJobs:
    """Starts the process that works off queued runs. Where the matcher is not installed, another does: the command
    `python -m services.profiles.match` works off what is queued, from wherever it is started."""

    def __init__(self, store: MatchStore, environment: Mapping[str, str]) -> None:
        """`environment`: the settings of the process, as RAPPORT_PROFILES_<FIELD>."""
        self._store = store
        self._environment = environment
        self._arrived = asyncio.Event()

    def wake(self) -> None:
        """There is a run."""
        self._arrived.set()

    async def work(self) -> None:
        """Runs for ever."""
        if importlib.util.find_spec("splink") is None:
            telemetry.logger().info("match runs are left to the batch job: the matcher is not installed here")
            await asyncio.Event().wait()
        while True:
            with suppress(Unavailable):
                if await self._store.is_asked():
                    await self._work_off()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._arrived.wait()
            self._arrived.clear()

    async def _work_off(self) -> None:
        owner = uuid.uuid4().hex
        # Where this process ends, the other reads the end of its stdin and does too.
        process = child.start("match", "--owner", owner, environment=self._environment, stdin=subprocess.PIPE)
        code: int | None = None
        try:
            code = await asyncio.to_thread(process.wait)
        finally:
            process.kill()
            if process.stdin is not None:
                process.stdin.close()
            await self._store.give_up(owner, MAX_ATTEMPTS)
        if code:
            telemetry.logger().error("the process of match runs ended", code=code)
