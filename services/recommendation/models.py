"""The models in memory: built on demand, kept while they are used, renewed when enough has been bought since."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Gauge, Histogram

from chassis import telemetry
from chassis.errors import Unavailable
from services.recommendation.domain.model import Model, build_model
from services.recommendation.domain.refresh import Freshness, is_due
from services.recommendation.store.purchases import PurchaseStore

BUILD_SECONDS: Final = Histogram(
    "rapport_recommendation_build_seconds", "Time to build one model.", buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
)
MODELS: Final = Gauge("rapport_recommendation_models", "Models in memory.")
_LOOK_EVERY_S: Final = 1.0

# (tenant, instant); None: the newest.
_Key = tuple[str, datetime | None]


@dataclass(slots=True)
class _Kept:
    model: Model
    purchase_count: int
    built: float


class Models:
    """At most `most` models; the one that was used longest ago goes first. `warm` tenants get theirs before they ask."""

    def __init__(self, store: PurchaseStore, *, most: int = 16, warm: int = 4) -> None:
        self._store = store
        self._most = most
        self._warm = warm
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._building: dict[_Key, asyncio.Task[Model]] = {}
        # tenant -> (purchases, when that number was first seen)
        self._volumes: dict[str, tuple[int, float]] = {}

    async def get(self, tenant_id: str, at: datetime | None) -> Model:
        """The model at an instant, built where there is none yet."""
        key = (tenant_id, at)
        if kept := self._kept.get(key):
            self._kept.move_to_end(key)
            return kept.model
        return await self.build(tenant_id, at)

    async def build(self, tenant_id: str, at: datetime | None) -> Model:
        """Builds it now, or waits for the one that is being built."""
        key = (tenant_id, at)
        if (task := self._building.get(key)) is None:
            task = self._building[key] = asyncio.create_task(self._build(key))
            task.add_done_callback(lambda _: self._building.pop(key, None))
        return await asyncio.shield(task)  # whoever gives up must not end it for the others

    async def _build(self, key: _Key) -> Model:
        with BUILD_SECONDS.time():
            known = await self._store.known(*key)
            model = await asyncio.to_thread(build_model, known.pairs, known.in_segments, built=datetime.now(UTC))
        self._kept[key] = _Kept(model, known.purchase_count, time.monotonic())
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        MODELS.set(len(self._kept))
        return model

    async def renew(self) -> None:
        """Runs for ever: follows the purchases, and builds what is due."""
        await self._see_volumes()
        largest = sorted(self._volumes, key=lambda tenant_id: -self._volumes[tenant_id][0])
        for tenant_id in largest[: self._warm]:
            await self.get(tenant_id, None)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.renew_due()
            except Unavailable:
                telemetry.logger().warning("purchases cannot be read, models stay as they are")

    async def renew_due(self) -> int:
        """One look; returns how many models were out of date."""
        await self._see_volumes()
        now = time.monotonic()
        due = [key for key, kept in self._kept.items() if is_due(self._freshness(key[0], kept, now))]
        for tenant_id, at in due:
            if at is None:
                await self.build(tenant_id, None)
            else:  # late events may belong before it; whoever asks for that instant again has it built again
                self._kept.pop((tenant_id, at), None)
        return len(due)

    async def _see_volumes(self) -> None:
        now = time.monotonic()
        for tenant_id, count in (await self._store.volumes()).items():
            if self._volumes.get(tenant_id, (-1, 0.0))[0] != count:
                self._volumes[tenant_id] = (count, now)

    def _freshness(self, tenant_id: str, kept: _Kept, now: float) -> Freshness:
        count, since = self._volumes.get(tenant_id, (0, now))
        return Freshness(kept.purchase_count, count, quiet_s=now - since, age_s=now - kept.built)
