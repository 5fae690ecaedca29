"""The timer: memberships that begin or end with no event, and segments that have not seen every profile yet."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from chassis import context, telemetry
from chassis.errors import Unavailable
from services.segmentation.clients import ProfilesClient
from services.segmentation.store import Due, EvaluationStore
from services.segmentation.usecases import Memberships


class Timer:
    """Recomputes a tenant when its own clock has moved on by `interval_s`; preferably while no events come in."""

    def __init__(
        self,
        store: EvaluationStore,
        profiles: ProfilesClient,
        memberships: Memberships,
        *,
        interval_s: float = 3_600.0,
        pause_s: float = 60.0,
        calm_s: float = 15.0,
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._memberships = memberships
        self._interval_s = interval_s
        self._pause_s = pause_s
        self._calm_s = calm_s

    async def follow(self, *, idle_s: float = 5.0) -> None:
        """Runs for ever."""
        while True:
            with suppress(Unavailable):
                await self.step()
            await asyncio.sleep(idle_s)

    async def step(self) -> int:
        """Looks at each tenant that may be due; returns how many were recomputed."""
        recomputed = 0
        for due in await self._store.due(interval_s=self._interval_s, pause_s=self._pause_s, calm_s=self._calm_s):
            if self._memberships.is_sweeping(due.tenant):
                continue
            with context.use(tenant=due.tenant, actor="segmentation", request_id=context.new_request_id()):
                try:
                    recomputed += await self._look_at(due)
                except Unavailable:
                    raise
                except Exception:  # one tenant's trouble is not the others'
                    telemetry.logger().error("memberships could not be recomputed", exc_info=True)
        return recomputed

    async def _look_at(self, due: Due) -> bool:
        now = await self._profiles.now()
        if due.recomputed is None or now - due.recomputed >= timedelta(seconds=self._interval_s):
            await self._memberships.recompute()
            return True
        if due.is_unswept:
            await self._memberships.sweep()
            return True
        await self._store.checked(due.tenant)
        return False
