"""`rapport run`: the platform, the journey through it, the addresses; until Ctrl-C."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.failure import EXIT_CODE, Refusal
from infra.processes import end, exited, spawn
from infra.roles import role_of
from infra.state import State, opened
from infra.supervisor import START_STEPS, Platform

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed."""

    state: Path
    port: int
    data: Path | None
    mapping: Path | None
    once: bool
    customers: int
    seed: int


def start(options: Options) -> int:
    """The exit code. Raises Refusal."""
    for path in filter(None, (options.data, options.mapping)):
        _refuse_unreadable(path)
    with opened(options.state) as state:
        return asyncio.run(_Run(options, state).to_the_end())


def _refuse_unreadable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise Refusal(f"The file {path} can't be read: {error.strerror}.") from None


class _Run:
    """One run. The first signal ends it in order, the second one at once."""

    def __init__(self, options: Options, state: State) -> None:
        self._options = options
        self._console = Console()
        self._errors = Console(stderr=True)
        self._platform = Platform(state, options.port, says=self._say, notices=self._notice)
        self._progress: Progress | None = None
        self._signal: signal.Signals | None = None
        self._is_up = False

    async def to_the_end(self) -> int:
        work = asyncio.create_task(self._work())
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._heard, number, work)
        try:
            return await work
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            # To be ended is how a run that is up ends.
            return 0 if self._is_up else 128 + self._signal

    def _heard(self, number: signal.Signals, work: asyncio.Task[int]) -> None:
        if self._signal is not None:
            self._platform.kill()
            return
        self._signal = number
        self._errors.print("Ending. (Once more: at once.)")
        work.cancel()

    async def _work(self) -> int:
        with self._bar():
            await self._platform.__aenter__()
        try:
            code = await self._journey()
            if code == 0 and not self._options.once:
                self._show_addresses()
                self._is_up = True
                await asyncio.Event().wait()
            return code
        finally:
            await self._platform.__aexit__(None, None, None)

    @contextmanager
    def _bar(self) -> Iterator[None]:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as self._progress:
            self._progress.add_task("Starting", total=START_STEPS)
            yield
            self._progress.update(self._progress.task_ids[0], description="The platform is up", completed=START_STEPS)
        self._progress = None

    def _say(self, what: str) -> None:
        if self._progress:
            self._progress.update(self._progress.task_ids[0], description=what, advance=1)

    def _notice(self, sentence: str) -> None:
        self._errors.print(sentence, style="yellow", highlight=False, soft_wrap=True)

    async def _journey(self) -> int:
        """A process of its own: what it loads is gone when it ends. Its secrets come by standard input."""
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-m", "demo.journey"]
        journey = spawn(command, output=None, stdin=subprocess.PIPE, environment=environment, folder=Path.cwd())
        try:
            if journey.stdin:
                journey.stdin.write(self._facts())
                journey.stdin.close()
            code = await exited(journey)
        finally:
            await end(journey, number=signal.SIGINT, grace_s=5)
        return code if code in (0, EXIT_CODE) else 1

    def _facts(self) -> bytes:
        """demo.journey.facts.Facts, which is not imported: what the journey loads would stay in this process."""
        platform, options = self._platform, self._options
        facts = {
            "gateway_url": platform.gateway_url,
            "mlflow_url": platform.mlflow_url,
            "profiles_target": platform.target("profiles"),
            "gateway_database_url": platform.dsn(role_of("gateway")),
            "state": str(platform.state.root),
            "data": str(options.data or ""),
            "mapping": str(options.mapping or ""),
            "customers": options.customers,
            "seed": options.seed,
            "metrics_missing": platform.missing.get("prometheus", ""),
            "candidate": platform.candidate_settings(),
        }
        return json.dumps(facts).encode()

    def _show_addresses(self) -> None:
        platform = self._platform
        lines = {
            "console": f"{platform.gateway_url}/console",
            "API": f"{platform.gateway_url}/v1 (described in /openapi.json)",
            "MLflow": platform.mlflow_url,
            "Prometheus": platform.prometheus_url or f"none: {platform.missing['prometheus']}",
            "keys": str(platform.state.secrets),
            "report": str(platform.state.report),
            "logs": str(platform.state.logs),
        }
        for name, address in lines.items():
            self._console.print(f"{name:>11}  {address}", highlight=False, soft_wrap=True)
        self._console.print("Ctrl-C ends it.", style="dim")
