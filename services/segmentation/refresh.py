"""Evaluates the profiles that were touched: in batches, once the flow pauses or has lasted long enough."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from prometheus_client import Gauge

from chassis import context, telemetry
from chassis.errors import Unavailable
from services.segmentation.clients import ProfilesClient
from services.segmentation.store import EvaluationStore
from services.segmentation.usecases import Memberships

WAITING: Final = Gauge("rapport_segmentation_waiting_profiles", "Profiles that were touched and not evaluated since.", [])
BATCH: Final = 1_000
MEASURE_S: Final = 5.0
# Where profiles cannot tell how far it is (over 100,000 rows behind), nobody is settled.
UNKNOWN_LAG: Final = 100_000


class Refresher:
    """A profile is evaluated when profiles has projected its newest event: else the change would be missed for good."""

    def __init__(
        self,
        store: EvaluationStore,
        profiles: ProfilesClient,
        memberships: Memberships,
        *,
        quiet_s: float = 1.0,
        most_s: float = 5.0,
        patience_s: float = 60.0,
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._memberships = memberships
        self._quiet_s = quiet_s
        self._most_s = most_s
        self._patience_s = patience_s

    async def follow(self, *, idle_s: float = 0.5) -> None:
        """Runs for ever."""
        measured = 0.0
        while True:
            evaluated = 0
            with suppress(Unavailable):
                evaluated = await self.step()
                if time.monotonic() - measured > MEASURE_S:
                    WAITING.set(await self._store.dirty_count())
                    measured = time.monotonic()
            await asyncio.sleep(idle_s if evaluated < BATCH else 0)

    async def step(self) -> int:
        """Up to one batch of each tenant that has waited; returns the size of the largest."""
        largest = 0
        for tenant in await self._store.waiting(quiet_s=self._quiet_s, most_s=self._most_s):
            with context.use(tenant=tenant, actor="segmentation", request_id=context.new_request_id()):
                try:
                    largest = max(largest, await self._refresh(tenant))
                except Unavailable:
                    raise
                except Exception:  # one tenant's trouble is not the others'
                    telemetry.logger().error("profiles could not be evaluated", exc_info=True)
                    await asyncio.sleep(1.0)
        return largest

    async def _refresh(self, tenant: str) -> int:
        # In this order: what comes in between only makes the profiles seem further behind than they are.
        head = await self._store.log_head()
        lag = (await self._profiles.freshness()).lag
        if lag >= UNKNOWN_LAG:
            head = (0, 0)
        marks = await self._store.take(tenant, head, lag, patience_s=self._patience_s, limit=BATCH)
        if marks:
            await self._memberships.evaluate([str(mark.node_id) for mark in marks], marks)
        return len(marks)
