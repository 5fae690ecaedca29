"""How the supervisor sees that a process can do its part."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import httpx
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from infra.cluster import Cluster

TIMEOUT_S = 1.0

Check = Callable[[], Awaitable[bool]]


def grpc_serving(address: str) -> Check:
    """By grpc.health.v1. A new channel each time, since a channel that failed to connect waits longer and longer."""

    async def check() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                answer = await HealthStub(channel).Check(  # pyright: ignore[reportAttributeAccessIssue]
                    HealthCheckRequest(), timeout=TIMEOUT_S
                )
            except grpc.aio.AioRpcError:
                return False
        return answer.status == HealthCheckResponse.SERVING

    return check


def http_ok(url: str) -> Check:
    async def check() -> bool:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
                return (await client.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    return check


def postgres_ready(cluster: Cluster) -> Check:
    async def check() -> bool:
        return await asyncio.to_thread(cluster.is_ready)

    return check
