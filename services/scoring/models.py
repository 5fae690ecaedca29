"""Which model answers: the newest promotion's, as soon as it is loaded; until then the one before goes on."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from chassis import context, telemetry
from chassis.errors import Conflict, Error, NotFound, Reason, Unavailable
from ml import registry
from ml.bundle import Model
from services.scoring.clients import ProfilesClient
from services.scoring.domain import Champion, registered_name_of
from services.scoring.store import ScoreStore

LOAD_SECONDS: Final = Histogram(
    "rapport_scoring_model_load_seconds", "Time to load a model, by where it came from.", ["source"]
)
LOAD_FAILURES: Final = Counter(
    "rapport_scoring_model_load_failures_total", "Promoted models that could not be loaded, by reason.", ["reason"]
)
OLDEST: Final = Gauge(
    "rapport_scoring_model_age_seconds", "Time since the promotion of the oldest model that answers; 0 where there is none."
)
BEHIND: Final = Gauge("rapport_scoring_pending_models", "Promoted models that do not answer yet.")

# A promotion that another replica has read is seen in the table.
_LOOK_EVERY_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_NAMED_KEPT: Final = 4

_Key = tuple[str, str]  # (tenant, model)


@dataclass(frozen=True, slots=True)
class Serving:
    """The model that answers, and the promotion that it came from."""

    champion: Champion
    model: Model


@dataclass(slots=True)
class _Retry:
    """When a promoted model may be tried again, and what was wrong the last time."""

    champion: Champion
    error: Error
    at: float
    pause_s: float


class Models:
    """At most `most` champions in memory; the one that was used longest ago goes first, and is read again when asked for."""

    def __init__(
        self,
        store: ScoreStore,
        profiles: ProfilesClient,
        *,
        mlflow_url: str,
        folder: Path,
        most: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._mlflow_url = mlflow_url
        self._folder = folder
        self._most = most
        self._clock = clock
        self._champions: dict[_Key, Champion] | None = None  # None: not read yet
        self._serving: OrderedDict[_Key, Serving] = OrderedDict()
        self._named: OrderedDict[tuple[str, str], Model] = OrderedDict()
        self._loading: dict[_Key, asyncio.Task[Serving]] = {}
        self._retries: dict[_Key, _Retry] = {}
        self._wake = asyncio.Event()

    async def champion(self, tenant_id: str, model: str) -> Serving | None:
        """The one that answers now; None where nothing was promoted.

        Raises Conflict where the only one there is was trained on other features, Unavailable where it cannot be read.
        """
        key = (tenant_id, model)
        if serving := self._serving.get(key):
            self._serving.move_to_end(key)
            return serving
        if self._champions is None:
            raise Unavailable("it is not known yet who is champion", reason=Reason.DATABASE_UNAVAILABLE, retry_after_s=1.0)
        if (champion := self._champions.get(key)) is None:
            return None
        if (retry := self._retries.get(key)) and retry.at > self._clock():
            raise retry.error.with_traceback(None)  # it is raised many times, and would gather them all
        return await self._load(key, champion)

    async def named(self, tenant_id: str, model: str, version: str) -> Model:
        """A registered version on trial. Raises NotFound, Conflict and Unavailable."""
        name = registered_name_of(tenant_id, model)
        if found := self._named.get((name, version)):
            self._named.move_to_end((name, version))
            return found
        digest = await self._profiles.served_digest()
        found = await asyncio.to_thread(self._read, name, version, digest, "")
        self._named[name, version] = found
        while len(self._named) > _NAMED_KEPT:
            self._named.popitem(last=False)
        return found

    def promoted(self) -> None:
        """Somebody has been: do not wait for the next look."""
        self._wake.set()

    async def follow(self) -> None:
        """Runs for ever: knows who is champion, and loads whoever does not answer yet."""
        while True:
            try:
                await self.look()
            except Unavailable:
                telemetry.logger().warning("the champions cannot be read, the models stay as they are")
            self._wake.clear()
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """One look at the table, and one try for each champion that is due."""
        self._champions = champions = await self._store.champions()
        for key in [key for key in self._serving if key not in champions]:
            del self._serving[key]
        for key in self._due(champions):
            try:
                await self._load(key, champions[key])
            except Error:  # told where it happened
                continue
        self._measure(champions)

    def _due(self, champions: Mapping[_Key, Champion]) -> list[_Key]:
        """Champions that do not answer, but that are kept: of those never asked for, as many as there is room for."""
        now = self._clock()
        room = self._most - len(self._serving)
        due: list[_Key] = []
        for key, champion in champions.items():
            serving, retry = self._serving.get(key), self._retries.get(key)
            if serving is not None and serving.champion == champion:
                continue
            if retry is not None and retry.champion == champion and retry.at > now:
                continue
            if serving is None:
                if room <= 0:
                    continue
                room -= 1
            due.append(key)
        return due

    async def _load(self, key: _Key, champion: Champion) -> Serving:
        """Once for all who ask at the same time."""
        if (task := self._loading.get(key)) is None:
            task = self._loading[key] = asyncio.create_task(self._replace(key, champion))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _replace(self, key: _Key, champion: Champion) -> Serving:
        tenant_id, name = key
        try:
            await self._check_features(tenant_id, champion)
            model = await asyncio.to_thread(
                self._read, champion.registered_name, champion.version, champion.feature_digest, champion.digest
            )
        except Error as error:
            self._fail(key, champion, error)
            raise
        self._retries.pop(key, None)
        self._serving[key] = serving = Serving(champion, model)
        self._serving.move_to_end(key)
        while len(self._serving) > self._most:
            self._serving.popitem(last=False)
        telemetry.logger().info("a model answers", model=name, version=champion.version, digest=champion.digest)
        return serving

    async def _check_features(self, tenant_id: str, champion: Champion) -> None:
        """A model of other features must not take the place of one that fits. Where profiles is gone, every score checks."""
        try:
            with context.use(tenant=tenant_id, actor="scoring"):
                served = await self._profiles.served_digest()
        except Unavailable:
            return
        if served != champion.feature_digest:
            raise other_features(champion.registered_name, champion.version, trained=champion.feature_digest, served=served)

    def _read(self, name: str, version: str, feature_digest: str, digest: str) -> Model:
        """From the cache, else from the registry. Blocking."""
        started = time.perf_counter()
        source = "cache"
        try:
            model = registry.load_cached(name, version, self._folder, feature_digest=feature_digest, digest=digest)
        except NotFound:
            source = "registry"
            model = registry.load(self._mlflow_url, name, version, self._folder, feature_digest=feature_digest, digest=digest)
        LOAD_SECONDS.labels(source).observe(time.perf_counter() - started)
        return model

    def _fail(self, key: _Key, champion: Champion, error: Error) -> None:
        before = self._retries.get(key)
        again = before is not None and before.champion == champion
        pause_s = min(_LONGEST_PAUSE_S, before.pause_s * 2) if before and again else _LOOK_EVERY_S
        self._retries[key] = _Retry(champion, error, self._clock() + pause_s, pause_s)
        LOAD_FAILURES.labels(error.reason.name).inc()
        telemetry.logger().error(
            "a promoted model cannot be loaded, the one before goes on", version=champion.version, detail=error.message
        )

    def _measure(self, champions: Mapping[_Key, Champion]) -> None:
        BEHIND.set(sum(1 for key, champion in champions.items() if self._is_behind(key, champion)))
        now = datetime.now(UTC)
        ages = [(now - serving.champion.recorded).total_seconds() for serving in self._serving.values()]
        OLDEST.set(max(ages, default=0.0))

    def _is_behind(self, key: _Key, champion: Champion) -> bool:
        serving = self._serving.get(key)
        return (serving is not None and serving.champion != champion) or key in self._retries


def other_features(name: str, version: str, *, trained: str, served: str) -> Conflict:
    """A model's answer on features that mean something else would be a number without a sense."""
    return Conflict(
        f"version {version} of {name} was trained on the features {trained}, and the platform serves {served}",
        reason=Reason.FEATURE_DIGEST_MISMATCH,
    )
