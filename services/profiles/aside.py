"""What takes long or much memory for a moment, in short-lived processes: `python -m services.profiles.aside <task>`.

    compile     a rapport.profiles.v1.FeatureSet -> the SQL that computes it. Ibis takes 55 MB and a second to import.
    describe    columns of values -> how each is spread
    correlate   columns of values -> how each two go together

Input comes in on stdin, and the answer goes out on stdout; the service answers others meanwhile.
"""

import asyncio
import os
import subprocess
import sys
from typing import Any, Final, TypeVar

import msgspec
from rapport.profiles.v1 import catalogue_pb2

from chassis import telemetry
from services.profiles import child
from services.profiles.domain import figures

# More at a time would take the processor from those who send events.
_AT_ONCE: Final = 1
_LIMIT_S: Final = 60.0
_NICENESS: Final = 10

Figures = TypeVar("Figures")


class Aside:
    """Starts such processes, one at a time."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def compile(self, features: catalogue_pb2.FeatureSet) -> str:
        """The SQL for PostgreSQL. The definitions are checked."""
        return (await self._run("compile", features.SerializeToString())).decode()

    async def describe(self, columns: dict[str, list[Any]]) -> dict[str, figures.Description]:
        """By name."""
        answer = await self._run("describe", msgspec.json.encode(columns))
        return msgspec.json.decode(answer, type=dict[str, figures.Description])

    async def correlate(self, columns: dict[str, list[float | None]]) -> list[figures.Correlation]:
        """Each two columns by each method."""
        answer = await self._run("correlate", msgspec.json.encode(columns))
        return msgspec.json.decode(answer, type=list[figures.Correlation])

    async def _run(self, task: str, given: bytes) -> bytes:
        async with self._free:
            process = self._start(task)
            try:
                answer, complaint = await asyncio.to_thread(process.communicate, given, _LIMIT_S)
            except (asyncio.CancelledError, subprocess.TimeoutExpired):
                process.kill()
                raise
        if process.returncode != 0:
            # Definitions and figures hold nothing personal.
            said = complaint.decode(errors="replace")[-2000:]
            telemetry.logger().error("a task aside failed", task=task, code=process.returncode, output=said)
            raise RuntimeError(f"{task} failed")
        return answer

    def _start(self, task: str) -> subprocess.Popen[bytes]:
        return child.start("aside", task, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _compiled(given: bytes) -> bytes:
    from ml.features.compile import POSTGRES, engine_sql

    features = catalogue_pb2.FeatureSet.FromString(given).features
    return engine_sql(features, POSTGRES).encode()


def main() -> None:
    """Entry point."""
    os.nice(_NICENESS)
    given = sys.stdin.buffer.read()
    match sys.argv[1]:
        case "compile":
            answer = _compiled(given)
        case "describe":
            columns = msgspec.json.decode(given, type=dict[str, list[float | str | None]])
            answer = msgspec.json.encode({name: figures.describe(values) for name, values in columns.items()})
        case _:
            answer = msgspec.json.encode(figures.correlate(msgspec.json.decode(given, type=dict[str, list[float | None]])))
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main()
