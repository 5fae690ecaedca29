"""The end of a person's data: first every process lets the keys go, then they are destroyed and the rows deleted.

    requested --(all processes have looked, what was received is projected)--> keys destroyed, log and projections deleted
              --(all services have confirmed, the archive is rewritten)--> completed

What was received before an erasure was asked for may still be on its way to the projections, and say by what else the person
is known: the erasure waits for it, and takes in what it says.

A key that is remembered somewhere would seal what nobody can open any more. So each process looks every second for what
was requested, and remembers those keys no longer; they are destroyed only when all must have looked.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from prometheus_client import Counter, Gauge
from rapport.profiles.v1 import event_pb2

from chassis import context, telemetry, tracing
from chassis.errors import InvalidArgument, NotFound, Unavailable
from services.profiles.domain.clock import moment_of
from services.profiles.jsontext import dumps
from services.profiles.lookup import Lookup
from services.profiles.store.erasures import ErasureRow, ErasureStore
from services.profiles.store.log import Entry
from services.profiles.tenancy import Tenant, Tenants

SOURCE: Final = "rapport.profiles"
MAX_REASON: Final = 500
LOOK_S: Final = 1.0
# Every process has looked by then; one that could not reach the database could not take events either.
LET_GO_S: Final = 4.0
# What a reader of the log had in its hands when the rows went is written by then.
SETTLED: Final = timedelta(seconds=5)

OPEN: Final = Gauge("rapport_profiles_open_erasures_count", "Erasures that were asked for and are not completed.")
COMPLETED: Final = Counter("rapport_profiles_completed_erasures_total", "Erasures completed by this process.")

# (tenant id, node ids, received up to) -> rows deleted, by folder.
Redact = Callable[[str, Sequence[UUID], datetime], Awaitable[Mapping[str, int]]]


class Erasures:
    """Takes them, and carries them out."""

    def __init__(self, store: ErasureStore, lookup: Lookup, tenants: Tenants, redact: Redact) -> None:
        self._store = store
        self._lookup = lookup
        self._tenants = tenants
        self._redact = redact
        # By erasure: how many identifiers it names, and since when (monotonic) this process has known of them.
        self._named = dict[UUID, tuple[int, float]]()

    async def begin(self, tenant: Tenant, ref: str, reason: str, services: Sequence[str]) -> ErasureRow:
        """Raises NotFound, or InvalidArgument. `services` are those that must confirm."""
        if not reason.strip() or len(reason) > MAX_REASON or "\x00" in reason:
            raise InvalidArgument(f"a reason has 1 to {MAX_REASON} characters", field="reason")
        profile_id, node_ids = await self._lookup.person(tenant, ref)
        return await self._store.begin(
            tenant.tenant_id, uuid4(), profile_id, node_ids, reason, context.current().actor, sorted(services)
        )

    async def find(self, tenant: Tenant, erasure_id: str) -> ErasureRow:
        """Raises NotFound, or InvalidArgument."""
        row = await self._store.find(tenant.tenant_id, _id_of(erasure_id))
        if row is None:
            raise NotFound("there is no such erasure", field="erasure_id")
        return row

    async def confirm(self, tenant: Tenant, erasure_id: str, service: str, counts: Mapping[str, int]) -> None:
        """A service has deleted its rows. Raises NotFound."""
        if not await self._store.confirm(tenant.tenant_id, _id_of(erasure_id), service, counts):
            raise NotFound("there is no such erasure", field="erasure_id")

    async def watch(self) -> None:
        """Runs for ever: lets keys go. A task of its own, since what is deleted and rewritten meanwhile may take minutes."""
        barred: set[str] = set()
        while True:
            with suppress(Unavailable):
                barred = await self._bar(await self._store.open(), barred)
            await asyncio.sleep(LOOK_S)

    async def follow(self) -> None:
        """Runs for ever: brings what is open further."""
        while True:
            with suppress(Unavailable):
                rows = await self._store.open()
                OPEN.set(len(rows))
                self._named = {row.erasure_id: self._naming(row) for row in rows}
                for row in rows:
                    await self._advance(row)
            await asyncio.sleep(LOOK_S)

    async def _bar(self, rows: Sequence[ErasureRow], before: set[str]) -> set[str]:
        """Of every tenant: whose keys may not be remembered. Returns the tenants that have such people."""
        by_tenant: dict[str, set[UUID]] = defaultdict(set)
        for row in rows:
            by_tenant[row.tenant_id].update(row.node_ids)
        for tenant_id in before | by_tenant.keys():
            if (tenant := await self._tenants.find(tenant_id)) is not None:
                tenant.keys.bar(frozenset(by_tenant.get(tenant_id, ())))
        return set(by_tenant)

    def _naming(self, row: ErasureRow) -> tuple[int, float]:
        known = self._named.get(row.erasure_id, (0, 0.0))
        return known if known[0] == len(row.node_ids) else (len(row.node_ids), time.monotonic())

    async def _advance(self, row: ErasureRow) -> None:
        if row.destroyed is None:
            has_let_go = time.monotonic() - self._named[row.erasure_id][1] >= LET_GO_S
            if has_let_go and await self._store.widen(row) and (tenant := await self._tenants.find(row.tenant_id)) is not None:
                await self._store.destroy(row, _told(tenant, row))
        elif set(row.services) <= set(row.confirmed) and datetime.now(UTC) - row.destroyed >= SETTLED:
            await self._store.complete(row, await self._redact(row.tenant_id, row.node_ids, row.destroyed))
            COMPLETED.inc()
            telemetry.logger().info("an erasure is completed", tenant=row.tenant_id, erasure=str(row.erasure_id))


def may_be_confirmed(row: ErasureRow, now: datetime) -> bool:
    """Whether other services are to delete now: their readers have passed what was in the log."""
    return row.destroyed is not None and now - row.destroyed >= SETTLED


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument("an erasure's id is a UUID", field="erasure_id") from None


def _told(tenant: Tenant, row: ErasureRow) -> Entry:
    """The event that tells of it: about nobody."""
    now_us = time.time_ns() // 1_000
    event = event_pb2.Event(
        event_id=tenant.keys.fact_id(f"erasure:{row.erasure_id}"),
        type="track",
        name="Profile Erased",
        ts_us=now_us,
        known_us=now_us,
        received_us=now_us,
        properties=dumps({"erasureId": str(row.erasure_id)}),
        source=SOURCE,
        traceparent=tracing.recorded(),
    )
    return Entry(event.event_id, None, moment_of(now_us), event.SerializeToString())
