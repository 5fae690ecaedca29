"""PostgreSQL, profiles and gateway as processes that can be killed and started again, each on its own port for good."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from chassis.migrate import migrate
from infra.cluster import IMMEDIATE_SHUTDOWN
from infra.ports import HOST, free_port
from infra.postgres import Temporary, temporary
from infra.processes import spawn

SERVICES = ("profiles", "gateway")
PATIENCE_S = 90.0
TENANT = "durable"


@dataclass(slots=True)
class Part:
    """A process that is killed and started again."""

    name: str
    start: Callable[[], "subprocess.Popen[bytes]"]
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """It and all its children, without a warning; returns when they are gone."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            family = [parent, *parent.children(recursive=True)]
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(family, timeout=PATIENCE_S)
        self.process.wait()

    def restart(self) -> None:
        self.process = self.start()


@dataclass(slots=True)
class Stack:
    """What runs, and how to reach it."""

    database: Temporary
    folder: Path
    url: str
    environment: Mapping[str, str]
    parts: dict[str, Part] = field(default_factory=dict[str, Part])
    key: str = ""

    def administer(self, *arguments: str) -> str:
        """The first line that the gateway's command says."""
        command = [sys.executable, "-m", "services.gateway.administer", *arguments]
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    def wait_until_up(self) -> None:
        """Until an event is taken."""
        end = time.monotonic() + PATIENCE_S
        with httpx.Client(base_url=self.url, auth=(self.key, ""), timeout=10, trust_env=False) as http:
            while True:
                with suppress(httpx.TransportError):
                    if http.post("/v1/track", json={"userId": "nobody", "event": "Up"}).status_code == 200:
                        return
                assert time.monotonic() < end, self.complaints()
                time.sleep(0.1)

    def complaints(self) -> str:
        """The ends of what the processes said."""
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in self.folder.glob("*.log"))


@contextmanager
def running(folder: Path, *, brokers: str = "") -> Iterator[Stack]:
    """Up, with a tenant and a write key; with a relay, where there are `brokers`. To be entered by a thread that lives on."""
    with ExitStack() as stack:
        database = stack.enter_context(temporary())
        with ThreadPoolExecutor(1) as pool:
            pool.submit(migrate, database.dsn("rapport_owner"), SERVICES).result()
        ports = {name: free_port() for name in SERVICES}
        made = Stack(database, folder, f"http://{HOST}:{ports['gateway']}", _environment(database, folder, ports))
        stack.callback(_end, made)
        for name in SERVICES:
            _add(made, name, _service(made, f"services.{name}.main"))
        _adopt_postgres(made)
        if brokers:
            # It has the settings of profiles, and its health on a port of its own.
            own = {"RAPPORT_PROFILES_KAFKA_BROKERS": brokers, "RAPPORT_PROFILES_LISTEN": f"{HOST}:0"}
            _add(made, "relay", _service(made, "services.profiles.relay", own))
        _until(lambda: made.administer("create-tenant", TENANT))
        made.key = made.administer("create-key", TENANT, "--kind", "write")
        made.wait_until_up()
        yield made


def _environment(database: Temporary, folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "RAPPORT_PROFILES_DATABASE_URL": database.dsn("rapport_profiles"),
        "RAPPORT_PROFILES_LISTEN": f"{HOST}:{ports['profiles']}",
        "RAPPORT_PROFILES_MASTER_KEY_FILE": str(folder / "master.key"),
        "RAPPORT_PROFILES_ARCHIVE_FOLDER": str(folder / "archive"),
        "RAPPORT_GATEWAY_DATABASE_URL": database.dsn("rapport_gateway"),
        "RAPPORT_GATEWAY_PROFILES_TARGET": f"{HOST}:{ports['profiles']}",
        "RAPPORT_GATEWAY_PORT": str(ports["gateway"]),
    }


def _service(stack: Stack, module: str, own: Mapping[str, str] | None = None) -> Callable[[], "subprocess.Popen[bytes]"]:
    def start() -> "subprocess.Popen[bytes]":
        with (stack.folder / f"{module}.log").open("ab") as log:
            environment = {**os.environ, **stack.environment, **(own or {})}
            return spawn([sys.executable, "-m", module], output=log, environment=environment, folder=Path.cwd())

    return start


def _add(stack: Stack, name: str, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
    stack.parts[name] = Part(name, start, start())


def _adopt_postgres(stack: Stack) -> None:
    """The one that was started for us dies here for the first time; from now on it is ours to start."""
    cluster = stack.database.cluster

    def start() -> "subprocess.Popen[bytes]":
        with (stack.folder / "postgres.log").open("ab") as log:
            return spawn(
                cluster.command,
                output=log,
                environment=cluster.environment,
                account=cluster.account,
                death_signal=IMMEDIATE_SHUTDOWN,
            )

    first = psutil.Process(int((cluster.data / "postmaster.pid").read_text().split()[0]))
    first.send_signal(signal.SIGINT)
    first.wait(PATIENCE_S)
    _add(stack, "postgres", start)


def _until(work: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            work()
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _end(stack: Stack) -> None:
    for part in stack.parts.values():
        part.kill()
