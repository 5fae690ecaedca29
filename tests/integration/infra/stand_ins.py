"""Programs in the services' place: the real chassis serving nothing but its health, and a journey of one line."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from infra.ports import is_free
from infra.roles import SERVICES
from infra.topology import Ports

PROJECT = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 120

GATEWAY = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["RAPPORT_GATEWAY_PORT"])), Handler).serve_forever()
"""
SERVICE = """
from chassis.process import run
from chassis.settings import ServiceSettings, prefix_of

class Settings(ServiceSettings):
    model_config = prefix_of("{service}")

async def assemble(settings, host):
    await host.database()

run("{service}", Settings(), assemble)
"""
JOURNEY = """
import json, sys

if json.load(sys.stdin)["seed"] == 13:
    print("The data is of no use.", file=sys.stderr)
    sys.exit(2)
print("the report")
"""


def write(folder: Path) -> str:
    """A module path on which the stand-ins come before what they stand in for."""
    for service in SERVICES:
        (folder / "services" / service / "migrations").mkdir(parents=True)
        text = GATEWAY if service == "gateway" else SERVICE.format(service=service)
        (folder / "services" / service / "main.py").write_text(text)
    (folder / "demo" / "journey").mkdir(parents=True)
    (folder / "demo" / "journey" / "__main__.py").write_text(JOURNEY)
    for package in ("services", "demo", "demo/journey", *(f"services/{service}" for service in SERVICES)):
        (folder / package / "__init__.py").touch()
    return os.pathsep.join([str(folder), str(PROJECT), str(PROJECT / "protos" / "gen")])


@contextmanager
def folder_open_to_all() -> Iterator[Path]:
    """pytest's own temporary folders are closed to others, and the database may run as another user."""
    folder = Path(tempfile.mkdtemp(prefix="rapport-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def free_base() -> int:
    """A base port whose whole range is free. Of those that no test running beside this one asks for."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    while True:
        base = random.randrange(20000 + 50 * beside, 30000, 100)
        if all(is_free(port) for port in Ports(base).all().values()):
            return base


class Run:
    """`rapport run` as a process of its own, and everything that it starts."""

    def __init__(self, module_path: str, state: Path, port: int, *options: str) -> None:
        self._output = state.with_suffix(".output")
        environment = {**os.environ, "PYTHONPATH": module_path, "PYTHONSAFEPATH": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "cli.main", "run", "--state", str(state), "--port", str(port), *options]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.family: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_up(self) -> None:
        """Until it prints its addresses; notes everything that it has started."""
        until = time.monotonic() + START_TIMEOUT_S
        while "Ctrl-C ends it" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until, self.output
            time.sleep(0.1)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def wait(self, timeout_s: float = 120) -> int:
        """The exit code."""
        return self.process.wait(timeout_s)

    def left(self, patience_s: float) -> list[str]:
        """What of the family still lives after `patience_s`."""
        _, alive = psutil.wait_procs(self.family, timeout=patience_s)
        return [" ".join(process.cmdline()) for process in alive if process.is_running()]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
