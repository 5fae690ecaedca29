"""Keeps programs running: starts them, waits until they are ready, starts them again when they die, ends them."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.accounts import Account
from infra.failure import Refusal
from infra.processes import end, exited, spawn

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
DEATHS_AT_START = 3
POLL_S = 0.1
LOG_BYTES = 20 * 1024**2

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to see that it can do its part. `death_signal`: what it gets when the supervisor is killed."""

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    kill_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 15.0
    start_timeout_s: float = 120.0
    niceness: int = 0


class Child:
    """One program that is kept running between `start` and `stop`."""

    def __init__(self, program: Program, notice: Notice) -> None:
        self.program = program
        self.deaths = 0
        self._notice = notice
        self._process: subprocess.Popen[bytes] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """None between a death and the next start."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Returns when it is ready. Raises Refusal, with the log's last line, when that can't be."""
        rotate(self.program.log)
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")
        until = time.monotonic() + self.program.start_timeout_s
        while not await self.program.is_ready():
            if self._keeping.done():
                self._keeping.result()
                raise Refusal(f"{self.program.name} was stopped while it started.")
            if self.deaths >= DEATHS_AT_START or time.monotonic() > until:
                raise Refusal(f"{self.program.name} does not start: {last_line(self.program.log)} (see {self.program.log})")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        self._stopping = True
        if self._keeping is None:
            return
        if self._process is not None:
            await end(self._process, number=self.program.stop_signal, grace_s=self.program.grace_s)
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)

    def kill(self) -> None:
        """At once, without waiting."""
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.program.kill_signal)

    def memory(self) -> int:
        """Bytes of it and of its children, shared pages counted in proportion (PSS). 0 where it is not running."""
        return proportional_set_size(self.pid) if self.pid else 0

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            started = time.monotonic()
            self._process = self._spawn()
            code = await exited(self._process)
            if self._stopping:
                return
            self.deaths += 1
            if time.monotonic() - started > STEADY_S:
                pause_s = FIRST_PAUSE_S
            self._notice(f"{self.program.name} ended ({_cause(code)}) and starts again in {pause_s:.1f} s.")
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = self.program
        with open(os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            return spawn(
                program.command,
                output=output,
                account=program.account,
                death_signal=program.death_signal,
                environment=program.environment,
                niceness=program.niceness,
            )


def rotate(log: Path) -> None:
    """One old file is kept."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")


def _cause(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def proportional_set_size(pid: int) -> int:
    """Bytes of the process and all that it started; what has gone since counts nothing."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_pss(process.pid) for process in family)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
