"""What gRPC's core has to say of its own is no line of a log."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE

import grpc.aio

CLIENT = """
import sys, {first}
import asyncio, grpc

async def main():
    channel = grpc.aio.insecure_channel(sys.argv[1])
    try:
        await channel.unary_unary("/a/b")(b"", wait_for_ready=True, timeout=10)
    except grpc.aio.AioRpcError:
        print("called", flush=True)
    await asyncio.sleep(1)

asyncio.run(main())
"""


async def told(first: str, port: int) -> bytes:
    """What a client says, that was stopped for so long that it could not follow what its peer asked for."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    command = (sys.executable, "-c", CLIENT.format(first=first), f"127.0.0.1:{port}")
    client = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
    assert client.stdout is not None
    assert await client.stdout.readline() == b"called\n"
    client.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.5)
    client.send_signal(signal.SIGCONT)
    return (await client.communicate())[1]


async def test_a_connection_that_its_peer_finds_too_old_is_told_by_no_service() -> None:
    server = grpc.aio.server(options=[("grpc.max_connection_age_ms", 400), ("grpc.max_connection_age_grace_ms", 100)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    rounds = 0
    while b"goaway" not in await told("os", port):  # it is not every time that the core says so
        rounds += 1
        assert rounds < 10, "nothing is told without our setting either: the test proves nothing"
    for _ in range(3):
        assert await told("services", port) == b""
    await server.stop(None)
