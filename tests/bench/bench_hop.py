"""What a hop from the gateway to a service costs: an empty unary call, through the chassis, bare grpc.aio, or none.

The server is a process of its own. Printed are the time of a call when there is one at a time and when there are 32, and the
processor time of both sides together. Run: `python -m tests.bench.bench_hop`.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import grpc.aio
import psutil
import uvloop
from rapport.recommendation.v1 import recommendation_pb2 as pb
from rapport.recommendation.v1 import recommendation_pb2_grpc

from chassis import context, rpc, telemetry

CALLS: Final = 3_000
TOGETHER: Final = 32
ROUNDS: Final = 3

Call = Callable[[], Awaitable[Any]]


class Empty(recommendation_pb2_grpc.RecommendationServicer):
    """One method, which does nothing."""

    async def UpdateItem(self, request: pb.UpdateItemRequest, call: Any) -> pb.UpdateItemResponse:  # pyright: ignore
        return pb.UpdateItemResponse()


async def serve(kind: str) -> None:
    """Prints the port and serves until it is killed. The log goes where a service's goes: into a file."""
    servicer = cast(Any, Empty)()
    if kind == "chassis":
        server = rpc.Server("bench", "bench")
        server.add(recommendation_pb2_grpc.add_RecommendationServicer_to_server, servicer, pb.DESCRIPTOR)
        port = await server.start("127.0.0.1:0")
    else:
        bare = grpc.aio.server()
        recommendation_pb2_grpc.add_RecommendationServicer_to_server(servicer, bare)
        port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
    print(port, file=sys.stderr, flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def server(kind: str) -> AsyncIterator[tuple[int, int]]:
    """(port, pid) of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_hop", kind]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        yield int(await process.stderr.readline()), process.pid
    finally:
        process.terminate()
        await process.wait()


def _processor_s(pid: int | None) -> float:
    other = psutil.Process(pid).cpu_times() if pid else None
    return time.process_time() + (other.user + other.system if other else 0.0)


async def measure(name: str, call: Call, pid: int | None) -> None:
    """One at a time, then TOGETHER; medians over the rounds."""
    for together in (1, TOGETHER):
        medians: list[float] = []
        costs: list[float] = []
        await _run(call, together, CALLS // 4)
        for _ in range(ROUNDS):
            before = _processor_s(pid)
            seconds = await _run(call, together, CALLS)
            costs.append((_processor_s(pid) - before) / CALLS * 1e6)
            medians.append(statistics.median(seconds) * 1e6)
        p50, cost = statistics.median(medians), statistics.median(costs)
        print(f"{name:<42} {together:>3} at a time   p50 {p50:9,.1f} us   processor {cost:7,.1f} us a call")


async def _run(call: Call, together: int, count: int) -> list[float]:
    seconds: list[float] = []

    async def work() -> None:
        for _ in range(count // together):
            started = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - started)

    await asyncio.gather(*(work() for _ in range(together)))
    return seconds


async def compare() -> None:
    request = pb.UpdateItemRequest(item_id="x")
    async with server("chassis") as (port, pid):
        channel = rpc.channel("bench", f"127.0.0.1:{port}", pb.DESCRIPTOR)
        ours = recommendation_pb2_grpc.RecommendationStub(channel)
        with context.use(tenant="bench", request_id="bench", actor="bench"):
            await measure("chassis: tenant, deadline, metrics, log line", cast(Call, lambda: ours.UpdateItem(request)), pid)
        await channel.close()
    async with server("bare") as (port, pid), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as bare:
        stub: Any = recommendation_pb2_grpc.RecommendationStub(bare)
        await measure("bare grpc.aio", lambda: stub.UpdateItem(request), pid)
    servicer = cast(Any, Empty)()
    await measure("no hop: the method called in this process", cast(Call, lambda: servicer.UpdateItem(request, None)), None)


def main() -> None:
    """Everything, once; with an argument: the server's side."""
    if len(sys.argv) > 1:
        telemetry.configure_logs("bench")
        uvloop.run(serve(sys.argv[1]))
    else:
        uvloop.run(compare())


if __name__ == "__main__":
    main()
