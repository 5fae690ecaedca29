"""The platform as a stranger runs it: one `rapport run`, seen from outside."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 60
SPAN = 32  # ports from the gateway's on
UP = b"Ctrl-C ends it"
PROGRAMS = {"mlflow": "mlflow.server:app", "postgres": "/postgres", "prometheus": "/prometheus"}


class Running:
    """A platform that is up, and what a user of it has at hand."""

    def __init__(self, process: psutil.Process, state: Path, port: int) -> None:
        self.process = process
        self.state = state
        self.port = port
        self._command = process.cmdline()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tenant(self) -> str:
        return "simulator"

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.state / "report.json").read_text())

    @property
    def write_key(self) -> str:
        return self._keys["writeKey"]

    @property
    def private_key(self) -> str:
        return self._keys["privateKey"]

    @property
    def _keys(self) -> dict[str, str]:
        return json.loads((self.state / "secrets" / "simulator.json").read_text())

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client that signs in with the private key, or another."""
        headers = {"Authorization": f"Bearer {key or self.private_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def mlflow(self) -> httpx.Client:
        """A client of the model registry."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port + 21}", timeout=30, trust_env=False)

    def rapport(self, *arguments: str) -> str:
        """What the command prints, with this platform's folder and port."""
        command = [sys.executable, "-m", "cli.main", *arguments, "--state", str(self.state), "--port", str(self.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pid(self, name: str) -> int:
        """Of a service, or of one of PROGRAMS."""
        wanted = PROGRAMS.get(name, f"services.{name}.main")
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(word.endswith(wanted) for word in child.cmdline()):
                    return child.pid
        raise LookupError(f"{name} does not run")

    def stop(self) -> int | None:
        """SIGTERM; the exit code, None where the platform was started by somebody else. Kills what stays on."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            self.process.kill()
            raise

    def start_again(self) -> float:
        """With the same arguments on the same folder, after a stop; the seconds until it says that it is up."""
        started = time.monotonic()
        self.process = run_platform(self._command, self.state, self.port).process
        return time.monotonic() - started


def free_base() -> int:
    """A port from which the platform's whole span is free."""
    for base in range(21_000 + os.getpid() % 97 * SPAN, 60_000, SPAN):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + SPAN):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free span of ports")


def command_of(state: Path, port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "run", "--state", str(state), "--port", str(port), *arguments]


def run_platform(command: list[str], state: Path, port: int) -> Running:
    """Returned once it says that it is up."""
    output = state.with_suffix(".out")
    with output.open("wb") as file:
        process = psutil.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    running = Running(process, state, port)
    end = time.monotonic() + START_TIMEOUT_S
    while UP not in output.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            with contextlib.suppress(psutil.NoSuchProcess):
                running.stop()
            pytest.fail(f"the platform did not come up:\n{output.read_text()[-4000:]}")
        time.sleep(0.2)
    return running
