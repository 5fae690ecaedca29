"""One score over HTTP with features looked up, against `mlflow models serve` with the features in the request.

Ours: the whole platform (gateway, profiles, scoring, PostgreSQL and whatever follows the log). A request names a customer; the
answer has the features read, the probability, its percentile and reasons, and has been recorded. Processor time is counted
of every process of the platform, until all that the requests caused has been worked off.
The peer: the same trees behind MLflow's own scoring server, which is sent the ten features and answers one number.
The limit: XGBoost in this process, one row at a time. Run: `python -m tests.bench.bench_score`.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import numpy as np
import psutil
import xgboost
from rapport.profiles.v1 import profiles_pb2

from chassis import context
from demo.client import connect
from infra.ports import free_port
from infra.state import opened
from infra.supervisor import Platform
from ml.bundle import BUNDLE_FILE, MODEL_FILE, Bundle, Calibration, Logistic, Model, digest_of, encode
from ml.features import catalogue
from ml.features.definition import digest
from ml.training import publish
from services.gateway.administer import office
from services.gateway.domain import Kind
from services.gateway.usecases import Clock, create_key, create_tenant

AIM: Final = 10.0
CUSTOMERS: Final = 2_000
CONNECTIONS: Final = 48
SECONDS: Final = 8.0
TREES: Final = 100
WORKERS: Final = 2

SCHEMAS: Final = ("profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")
# A tenant by the wall's clock has a new as-of time with every request, one by its events' clock only with a new event.
RUNS: Final[tuple[tuple[str, Clock, str], ...]] = (
    ("wall", "wall", "ours, every score new and told to the log"),
    ("replay", "events", "ours, nothing has happened since the last"),
)
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of requests took. `cpu_us`: processor time a request, of all server processes together."""

    name: str
    count: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    by_process: dict[str, float]

    def line(self) -> str:
        return (
            f"{self.name:<42} {self.rate:7,.0f} requests/s   p50 {self.p50_ms:5.1f} ms   p99 {self.p99_ms:6.1f} ms   "
            f"{self.cpu_us:7,.0f} us of processor a request" + (f"   {self.failed} FAILED" if self.failed else "")
        )


def calls(chance: random.Random) -> list[dict[str, Any]]:
    """Each customer's pages and orders; every one of them has bought."""
    found: list[dict[str, Any]] = []
    for customer in range(CUSTOMERS):
        for number in range(chance.randrange(6, 14)):
            happened = START + timedelta(seconds=chance.randrange(86400 * 180))
            call = {"messageId": f"{customer}-{number}", "userId": f"c{customer}", "timestamp": happened.isoformat()}
            if number < 2 or chance.random() < 0.3:
                products = [{"product_id": f"p{chance.randrange(300)}", "name": "A mug", "price": 12.5, "quantity": 2}]
                order = {"order_id": f"{customer}-{number}", "revenue": 25.0, "total": 25.0, "products": products}
                call |= {"type": "track", "event": "Order Completed", "properties": order}
            else:
                call |= {"type": "page", "properties": {"category": "kitchen"}}
            found.append(call)
    return found


def trained() -> dict[str, bytes]:
    """A bundle of the size that training gives; what it has learnt is of no interest here."""
    names, chance = list(catalogue.NAMES), np.random.default_rng(1)
    matrix = np.abs(chance.normal(size=(2000, len(names)))) * 100
    labels = matrix[:, 5] + chance.normal(size=2000) * 30 > 60
    parameters = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.05, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(matrix, labels, feature_names=names), TREES)
    flat = [0.0] * len(names)
    bundle = Bundle(
        name="churn",
        horizon_days=90,
        features=names,
        feature_digest=digest(catalogue.FEATURES),
        calibration=Calibration(1.0, 0.0),
        percentiles=np.linspace(0, 1, 1000).tolist(),
        logistic=Logistic(flat, flat, [1.0] * len(names), flat, 0.0),
        trained_on=[],
        judged_at="2026-01-01T00:00:00Z",
        row_count=2000,
        data_digest="",
        versions={"xgboost-cpu": xgboost.__version__, "numpy": np.__version__},
    )
    return {MODEL_FILE: bytes(booster.save_raw("ubj")), BUNDLE_FILE: encode(bundle)}


def seconds_of(processes: dict[str, int]) -> dict[str, float]:
    """Processor seconds so far of each process with all its children, by name."""
    found: dict[str, float] = {}
    for name, pid in processes.items():
        root = psutil.Process(pid)
        times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
        found[name] = sum(time.user + time.system + time.children_user + time.children_system for time in times)
    return found


async def load(plan: dict[str, Any]) -> dict[str, Any]:
    """Runs tests.bench.http_load beside us."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.http_load", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(plan).encode())
    return json.loads(out)


async def measured(name: str, plan: dict[str, Any], processes: dict[str, int], settle: Any = None) -> Cost:
    """`settle` waits until what was caused has been worked off."""
    if settle:
        await settle()
    before = seconds_of(processes)
    found = await load(plan)
    if settle:
        await settle()
    after = seconds_of(processes)
    spent = {each: (after[each] - before[each]) / found["count"] * 1e6 for each in processes}
    return Cost(
        name=name,
        count=found["count"],
        failed=found["failed"],
        rate=found["count"] / found["elapsed_s"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=sum(spent.values()),
        by_process=spent,
    )


class Ours:
    """The platform with a tenant whose customers are known and whose model is promoted."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @property
    def processes(self) -> dict[str, int]:
        names = ("gateway", *SCHEMAS, "postgres", "mlflow", "prometheus")
        return {name: pid for name in names if (pid := self._pid(name))}

    def _pid(self, name: str) -> int | None:
        try:
            return self._platform.pid(name)
        except KeyError:
            return None

    async def prepare(self, tenant: str, clock: Clock, files: dict[str, bytes]) -> str:
        """Returns a private key."""
        platform = self._platform
        async with office(platform.dsn("rapport_gateway"), platform.target("profiles")) as (store, profiles):
            await create_tenant(store, profiles, tenant, clock)
            _, write = await create_key(store, tenant, Kind.WRITE)
            _, private = await create_key(store, tenant, Kind.PRIVATE, ["score", "read"])
            await asyncio.sleep(2)  # keys are remembered for a moment
            async with connect(platform.gateway_url, private) as client:
                fed = await client.feed(calls(random.Random(1)), write)
                assert not fed.complaints, fed.complaints[:3]
            await self.settle()
            bundle = msgspec.json.decode(files[BUNDLE_FILE], type=Bundle)
            published = await asyncio.to_thread(
                publish.publish,
                platform.mlflow_url,
                f"{tenant}.churn",
                files=files,
                bundle=bundle,
                digest=digest_of(files),
                metrics={},
                parameters={},
            )
            said = {"model": "churn", "registeredName": f"{tenant}.churn", "toVersion": published.version}
            said |= {"digest": published.digest, "featureDigest": published.feature_digest}
            fact = profiles_pb2.Fact(
                message_id=f"bench:{tenant}",
                name="Model Promoted",
                properties=msgspec.json.encode(said),
                source="rapport.bench",
            )
            with context.use(tenant=tenant, request_id="bench", actor="bench"):
                await profiles.Ingest(profiles_pb2.IngestRequest(facts=[fact]))
        await self.settle()
        await asyncio.sleep(3)
        return private

    async def settle(self) -> None:
        """Until every service has read the whole log, and every fact is in it."""
        connection = await asyncpg.connect(self._platform.admin_dsn, ssl=False)
        pending = " + ".join(
            f"(SELECT count(*) FROM {table})" for table in ("scoring.outbox", "segmentation.outbox", "segmentation.dirty")
        )
        waiting = " + ".join(
            f"(SELECT count(*) FROM log.events, {schema}.log_cursor AS at WHERE (events.xid, events.seq) > (at.xid, at.seq))"
            for schema in SCHEMAS
        )
        try:
            for _ in range(600):
                if not await connection.fetchval(f"SELECT {pending} + {waiting}"):
                    break
                await asyncio.sleep(0.2)
        finally:
            await connection.close()

    def plan(self, key: str) -> dict[str, Any]:
        order = list(range(CUSTOMERS))
        random.Random(2).shuffle(order)
        return {
            "host": "127.0.0.1",
            "port": self._platform.ports.base,
            "headers": {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            "requests": [(f"/v1/profiles/user_id:c{number}/score", "") for number in order],
            "connections": CONNECTIONS,
            "seconds": SECONDS,
        }


@asynccontextmanager
async def model_server(folder: Path, files: dict[str, bytes]) -> AsyncIterator[tuple[int, int]]:
    """`mlflow models serve`, with WORKERS workers: (port, pid)."""
    publish._write_model(folder / "model", files, msgspec.json.decode(files[BUNDLE_FILE], type=Bundle))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "--env-manager", "local"]
    command += ["-h", "127.0.0.1", "-p", str(port), "-w", str(WORKERS)]
    with (folder / "serve.log").open("wb") as log:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            await _until_open(port)
            yield port, process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()


async def _until_open(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            await asyncio.sleep(3)  # the other worker
            return
    raise TimeoutError("mlflow models serve did not start")


def peer_plan(port: int) -> dict[str, Any]:
    chance = np.random.default_rng(3)
    rows = (np.abs(chance.normal(size=(500, len(catalogue.NAMES)))) * 100).round(2).tolist()
    bodies = [json.dumps({"dataframe_split": {"columns": list(catalogue.NAMES), "data": [row]}}) for row in rows]
    return {
        "host": "127.0.0.1",
        "port": port,
        "headers": {"Content-Type": "application/json"},
        "requests": [("/invocations", body) for body in bodies],
        "connections": CONNECTIONS,
        "seconds": SECONDS,
    }


def limits(files: dict[str, bytes]) -> list[tuple[str, float]]:
    """(what, microseconds of processor a row) in this process."""
    row = np.abs(np.random.default_rng(4).normal(size=(1, len(catalogue.NAMES)))) * 100
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(files[MODEL_FILE]))
    model = Model(files)
    many = np.repeat(row, 256, axis=0)
    return [
        ("xgboost's inplace_predict, one row", _cpu_us(lambda: booster.inplace_predict(row, validate_features=False), 2000)),
        ("our bundle: probability, one row", _cpu_us(lambda: model.predict(row), 2000)),
        ("our bundle: TreeSHAP, one row", _cpu_us(lambda: model.contributions(row), 500)),
        ("our bundle: TreeSHAP, a row of 256", _cpu_us(lambda: model.contributions(many), 20) / 256),
    ]


def _cpu_us(do: Any, times: int) -> float:
    do()
    started = time.process_time()
    for _ in range(times):
        do()
    return (time.process_time() - started) / times * 1e6


async def compare(folder: Path) -> None:
    files = trained()
    costs: list[Cost] = []
    base = random.randrange(20_000, 28_000)
    with opened(folder / "state") as state:
        async with Platform(state, base) as platform:
            ours = Ours(platform)
            for tenant, clock, name in RUNS:
                plan = ours.plan(await ours.prepare(tenant, clock, files))
                await load(plan | {"most": CUSTOMERS})
                costs.append(await measured(name, plan, ours.processes, ours.settle))
                print(costs[-1].line())
                print("   " + ", ".join(f"{each} {us:,.0f}" for each, us in costs[-1].by_process.items() if us > 5))
    async with model_server(folder, files) as (port, pid):
        plan = peer_plan(port)
        await load(plan | {"most": 500})
        peer = await measured("mlflow models serve, features in the request", plan, {"mlflow": pid})
    print(peer.line())
    for name, us in limits(files):
        print(f"{name:<42} {us:7,.0f} us of processor")
    report(costs, peer)


def report(costs: Sequence[Cost], peer: Cost) -> None:
    """Requests a second and core, ours over the peer's."""
    for cost in costs:
        ratio = peer.cpu_us / cost.cpu_us
        missed = "" if ratio >= AIM else f"  missed by a factor of {AIM / ratio:.1f}"
        print(f"{cost.name}: {ratio:.1f} times the peer a core; aim: {AIM:.0f} or more{missed}")


def main() -> None:
    """Everything, once."""
    with tempfile.TemporaryDirectory(prefix="rapport-bench-") as folder:
        os.chmod(folder, 0o755)  # the database may run as another user
        asyncio.run(compare(Path(folder)))


if __name__ == "__main__":
    main()
