"""Requests that come whether or not the ones before were answered: `python -m tests.bench.open_load < plan.json`.

A process of its own: its processor time is its own, and is told. A request is [method, path, body]; a body has "@@@@@@@@" where
it is to differ from all others. A request is late by its own wait for the loader; `elapsed` is from when it was due. Prints one
line of JSON.
"""

import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import uvloop

MARK = b"@@@@@@@@"
_SEEDS = count(1)


class Connections:
    """Kept alive and used again; opened as they are needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.opened = 0

    async def get(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            reader, writer = self._free.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
        self.opened += 1
        return await asyncio.open_connection(*self._address)

    def give_back(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._free.append(connection)


async def answer_of(reader: asyncio.StreamReader) -> int:
    """The status, the body read."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head[9:12])


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """For `seconds`: `rate` requests a second at random moments, or `callers` that ask again as soon as they are answered."""
    chance = random.Random(plan["seed"])
    headers = "".join(f"{name}: {value}\r\n" for name, value in plan["headers"].items())
    requests = [
        (
            f"{method} {path} HTTP/1.1\r\nHost: {plan['host']}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode(),
            body.encode(),
        )
        for method, path, body in plan["requests"]
    ]
    connections = Connections(plan["host"], plan["port"])
    statuses: Counter[int] = Counter()
    accepted_s: list[float] = []
    refused_s: list[float] = []
    late_s: list[float] = []

    async def ask(number: int, due: float) -> None:
        head, body = requests[number % len(requests)]
        body = body.replace(MARK, f"{plan['seed'] % 100:02d}{number:06d}".encode())
        try:
            async with asyncio.timeout(20):
                connection = await connections.get()
                reader, writer = connection
                late_s.append(time.perf_counter() - due)
                writer.write(head + body)
                status = await answer_of(reader)
            connections.give_back(connection)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        statuses[status] += 1
        (accepted_s if status == 200 else refused_s).append(time.perf_counter() - due)

    started = due = time.perf_counter()
    end = started + plan["seconds"]
    numbers = count()
    if plan["callers"]:

        async def never_rest() -> None:
            while time.perf_counter() < end:
                await ask(next(numbers), time.perf_counter())

        await asyncio.gather(*(never_rest() for _ in range(plan["callers"])))
        in_time, elapsed_s = statuses[200], time.perf_counter() - started
    else:
        tasks: set[asyncio.Task[None]] = set()
        while (due := due + chance.expovariate(plan["rate"])) < end:
            if (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(ask(next(numbers), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        in_time, elapsed_s = statuses[200], max(plan["seconds"], time.perf_counter() - started)
        await asyncio.gather(*tasks)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "offered": next(numbers),
        "elapsed_s": elapsed_s,
        "accepted_in_time": in_time,
        "statuses": dict(statuses),
        "accepted_p50_ms": _at(accepted_s, 0.5),
        "accepted_p99_ms": _at(accepted_s, 0.99),
        "refused_p99_ms": _at(refused_s, 0.99),
        "late_p99_ms": _at(late_s, 0.99),
        "loader_cpu_s": used.ru_utime + used.ru_stime,
        "connections": connections.opened,
    }


def offer(
    port: int,
    headers: Mapping[str, str],
    requests: Sequence[tuple[str, str, str]],
    *,
    seconds: float,
    rate: float = 0.0,
    callers: int = 0,
) -> dict[str, Any]:
    """Runs it as a process, for an address on this machine; what it saw. Either `rate` or `callers` counts."""
    plan = {
        "host": "127.0.0.1", "port": port, "headers": dict(headers), "requests": list(requests), "rate": rate,
        "seconds": seconds, "seed": next(_SEEDS), "callers": callers,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.bench.open_load"]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _at(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 if ordered else 0.0


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))
