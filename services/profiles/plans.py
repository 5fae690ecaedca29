"""Tracking plans: put, told, and kept at hand for every call of Ingest."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from chassis import telemetry
from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.domain.classify import UNDECLARED, Classes
from services.profiles.domain.plan import MAX_PLAN_BYTES, Plan, plan_of
from services.profiles.domain.violations import MAX_GROUPS
from services.profiles.jsontext import dumps, loads
from services.profiles.judge import Judge, check
from services.profiles.store.plans import PlanRow, PlanStore, ViolationRow

# A new version is in effect everywhere after so long at the latest, and at once in the process that took it.
FRESH_S: Final = 3.0
# Events of a tenant that may wait in quarantine; the count is as old as the plan at hand.
MAX_WAITING: Final = 100_000


@dataclass(slots=True)
class _AtHand:
    """`judge` None: there is no plan, or one that lets everything pass."""

    judge: Judge | None = None
    version: int = 0
    is_full: bool = False
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Plans:
    """Plans of all tenants."""

    def __init__(self, store: PlanStore, most_waiting: int = MAX_WAITING) -> None:
        self._store = store
        self.most_waiting = most_waiting
        self._at_hand: dict[str, _AtHand] = {}

    async def judge(self, tenant_id: str) -> Judge | None:
        """The plan in effect, at most FRESH_S old. None where every event passes."""
        known = self._at_hand.get(tenant_id)
        if known is None:
            known = self._at_hand[tenant_id] = _AtHand()
        if time.monotonic() >= known.until:
            await self._refresh(tenant_id, known)
        return known.judge

    async def classes(self, tenant_id: str, type_: str, name: str) -> Classes:
        """What the plan in effect declares of a call's fields."""
        judge = await self.judge(tenant_id)
        return judge.classes(type_, name) if judge else UNDECLARED

    def is_full(self, tenant_id: str) -> bool:
        """Whether as many events wait as may; as old as the plan at hand."""
        known = self._at_hand.get(tenant_id)
        return known is not None and known.is_full

    async def _refresh(self, tenant_id: str, known: _AtHand) -> None:
        async with known.lock:
            asked = time.monotonic()
            if asked < known.until:
                return
            present = await self._store.present(tenant_id, known.version, self.most_waiting)
            if present is not None:
                if present.document is not None:
                    known.judge = await self._judge(tenant_id, present.version, present.document, known.judge)
                    known.version = present.version
                known.is_full = present.waiting_count >= self.most_waiting
            known.until = asked + FRESH_S

    async def _judge(self, tenant_id: str, version: int, document: bytes, before: Judge | None) -> Judge | None:
        try:
            plan = plan_of(loads(document))
        except InvalidArgument as error:
            # Taken by a newer release: the plan before it is better than to take nothing.
            telemetry.logger().error("a tracking plan cannot be read", tenant=tenant_id, version=version, field=error.field)
            return before
        if plan.asks_nothing:
            return None
        return Judge(plan, version, await self._store.groups(tenant_id, version, MAX_GROUPS))

    async def put(self, tenant_id: str, document: bytes) -> PlanRow:
        """Raises InvalidArgument with what is wrong and where, as a JSON pointer."""
        plan, canonical = _read(document)
        # Compiling a thousand schemas takes longer than other calls should wait.
        await asyncio.to_thread(check, plan)
        row = await self._store.put(tenant_id, canonical)
        if (known := self._at_hand.get(tenant_id)) is not None:
            known.until = 0.0
        return row

    async def get(self, tenant_id: str, version: int) -> PlanRow:
        """0 is the newest. Raises NotFound."""
        if version < 0:
            raise InvalidArgument("versions are counted from 1", field="version")
        if (row := await self._store.find(tenant_id, version)) is None:
            raise NotFound("there is no such version of a tracking plan", field="version")
        return row

    async def versions(self, tenant_id: str, before: int, limit: int) -> Sequence[PlanRow]:
        """Newest first."""
        return await self._store.versions(tenant_id, before, limit)

    async def violations(self, tenant_id: str, after: int, limit: int) -> Sequence[ViolationRow]:
        """Of the newest version first, the most frequent first."""
        return await self._store.violations(tenant_id, after, limit)


def _read(document: bytes) -> tuple[Plan, bytes]:
    if len(document) > MAX_PLAN_BYTES:
        raise InvalidArgument(f"a plan is at most {MAX_PLAN_BYTES // 1024} KB", reason=Reason.BODY_TOO_LARGE)
    try:
        value = loads(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArgument("a plan is a JSON object", reason=Reason.MALFORMED_JSON) from None
    return plan_of(value), dumps(value)
