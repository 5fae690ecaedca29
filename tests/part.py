"""Services as real processes on a real PostgreSQL, without the journey that `rapport run` makes: for tests and benchmarks."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from chassis.migrate import migrate
from infra.postgres import Temporary, temporary
from infra.topology import ALL, GATEWAY, Ports, Surroundings, environment
from services.gateway.administer import office
from services.gateway.domain import Kind, Scope
from services.gateway.usecases import create_key, create_tenant
from tests.e2e.running import free_base

START_S = 120
EVENTS = ("profiles", GATEWAY)
WHOLE = (*ALL, GATEWAY)


@dataclass(frozen=True, slots=True)
class Keys:
    """Texts of a tenant's keys; `private` may do everything."""

    tenant: str
    write: str
    private: str


@dataclass(frozen=True, slots=True)
class Part:
    """One that runs. `folder` holds a log for each process."""

    database: Temporary
    folder: Path
    ports: Ports
    pids: Mapping[str, int]

    @property
    def port(self) -> int:
        return self.ports.base

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def profiles(self) -> str:
        return self.ports.listen("profiles")

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def processor_s(self) -> Mapping[str, float]:
        """Processor seconds that each service and PostgreSQL have taken, those of their children among them."""
        postgres = int((self.database.cluster.data / "postmaster.pid").read_text().split()[0])
        return {name: _processor_s(pid) for name, pid in {**self.pids, "postgres": postgres}.items()}

    def new_tenant(self, clock: str = "wall") -> Keys:
        """A tenant of its own, with keys."""
        with ThreadPoolExecutor(1) as aside:  # where no loop runs
            return aside.submit(lambda: asyncio.run(self._new_tenant(clock))).result()

    async def _new_tenant(self, clock: str) -> Keys:
        name = f"t{uuid.uuid4().hex[:12]}"
        async with office(self.database.dsn("rapport_gateway"), self.profiles) as (store, profiles):
            await create_tenant(store, profiles, name, clock)  # pyright: ignore[reportArgumentType]
            _, write = await create_key(store, name, Kind.WRITE)
            _, private = await create_key(store, name, Kind.PRIVATE, list(Scope))
        return Keys(name, write, private)


def _processor_s(pid: int) -> float:
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


@contextmanager
def part(services: Sequence[str] = EVENTS, settings: Mapping[str, str] | None = None) -> Iterator[Part]:
    """Started, and ended. `settings` are further environment variables."""
    with ExitStack() as stack:
        database = stack.enter_context(temporary())
        with ThreadPoolExecutor(1) as aside:
            aside.submit(migrate, database.dsn("rapport_owner"), tuple(services)).result()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rapport-part-")))
        ports = Ports(free_base())
        around = Surroundings(
            ports=ports,
            database_urls={name: database.dsn(f"rapport_{name}") for name in services},
            master_key_file=str(folder / "master.key"),
            archive_folder=str(folder / "archive"),
            model_folder=str(folder / "models"),
            import_folder=str(folder / "imports"),
        )
        pids = {}
        for name in services:
            told = {**os.environ, **environment(name, around), **(settings or {})}
            pids[name] = stack.enter_context(_process(name, folder, told))
        running = Part(database, folder, ports, pids)
        _wait(running)
        yield running


@contextmanager
def _process(service: str, folder: Path, told: Mapping[str, str]) -> Iterator[int]:
    with (folder / f"{service}.log").open("wb") as log:
        command = [sys.executable, "-m", f"services.{service}.main"]
        process = subprocess.Popen(command, env=told, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(running: Part) -> None:
    """Until both say that they are ready."""
    end = time.monotonic() + START_S
    while not all('"ready"' in running.log(name).read_text() for name in running.pids):
        if time.monotonic() > end:
            raise RuntimeError("".join(running.log(name).read_text()[-2000:] for name in running.pids))
        time.sleep(0.1)
    httpx.get(f"{running.url}/health/ready", trust_env=False).raise_for_status()
