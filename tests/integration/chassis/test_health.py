"""What a process says of its health, and of its contracts, until its end."""

import asyncio
import json
import os
import signal
import sys

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.evaluation.v1.evaluation_pb2_grpc import add_EvaluationServicer_to_server

from chassis import rpc
from infra.ports import free_port
from tests.integration.chassis.servers import LIST, SERVICE, Place, Weather


async def test_health_is_told_for_the_process_and_for_each_service(place: Place) -> None:
    server, address = await place.server(Weather())
    health = health_pb2_grpc.HealthStub(place.plain(address))
    ready, unready = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for is_ready, status in ((True, ready), (False, unready), (True, ready)):
        await server.set_ready(is_ready)
        for name in ("", SERVICE):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == status
    with pytest.raises(grpc.aio.AioRpcError) as received:
        await health.Check(health_pb2.HealthCheckRequest(service="rapport.weather.v1.Weather"))
    assert received.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_process_that_is_not_ready_still_lives(place: Place) -> None:
    server, address = await place.server(Weather())
    await server.set_ready(False)
    health = health_pb2_grpc.HealthStub(place.plain(address))
    answer = await health.Check(health_pb2.HealthCheckRequest(service=rpc.LIVE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_that_has_not_been_told_so_is_not_ready(place: Place) -> None:
    server = rpc.Server("weather", "test")
    server.add(add_EvaluationServicer_to_server, Weather(), pb.DESCRIPTOR)
    port = await server.start("127.0.0.1:0")
    try:
        health = health_pb2_grpc.HealthStub(place.plain(f"127.0.0.1:{port}"))
        status = (await health.Check(health_pb2.HealthCheckRequest())).status
        assert status != health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(0)


async def test_reflection_answers(place: Place) -> None:
    _, address = await place.server(Weather())

    def ask() -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = list(database.get_services())
            found = database.FindFileContainingSymbol(SERVICE)
            return services, [method.name for service in found.service for method in service.method]

    services, methods = await asyncio.to_thread(ask)
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= set(services)
    assert "PromoteModel" in methods


async def test_on_sigterm_a_process_is_unready_first_then_ends_what_is_in_flight_then_itself(place: Place) -> None:
    port = free_port()
    environment = {**os.environ, "RAPPORT_WEATHER_LISTEN": f"127.0.0.1:{port}", "RAPPORT_WEATHER_GRACE_S": "5"}
    command = [sys.executable, "-m", "tests.integration.chassis.weather"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
        assert (ready["event"], ready["service"], ready["port"]) == ("ready", "weather", port)
        statuses = await _statuses_around_sigterm(place, f"127.0.0.1:{port}", process)
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert statuses == [serving, not_serving]
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        lines = [json.loads(line) for line in (await process.stdout.read()).splitlines()]
        assert [(line["route"], line["status"]) for line in lines if line["event"] == "call"] == [("ListExperiments", "OK")]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _statuses_around_sigterm(place: Place, address: str, process: asyncio.subprocess.Process) -> list[int]:
    """What a watcher of the health is told, while a call is in flight, from ready to the first change."""
    watch = health_pb2_grpc.HealthStub(place.plain(address)).Watch(health_pb2.HealthCheckRequest())
    statuses = [(await watch.read()).status]
    asked = asyncio.ensure_future(place.stub(address).ListExperiments(LIST))
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    statuses.append((await watch.read()).status)
    assert not asked.done()
    watch.cancel()
    assert (await asked).experiments[0].experiment_id == "rain"
    return statuses
