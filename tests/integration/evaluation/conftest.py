"""The whole service, assembled as in its process, over a real database, beside a stand-in of profiles."""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from rapport.evaluation.v1 import evaluation_pb2
from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationStub
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import add_ProfilesServicer_to_server

from chassis.process import Host
from infra import mlflow
from infra.ports import HOST, free_port
from infra.postgres import Temporary
from infra.processes import spawn
from services.evaluation.main import Settings, assemble
from tests.integration.evaluation.stand_ins import Log, Profiles

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub

NOBODY = "http://127.0.0.1:1"

Start = Callable[..., Awaitable[Any]]


@pytest.fixture
def profiles() -> Profiles:
    return Profiles()


@pytest_asyncio.fixture
async def start(platform_database: Temporary, serve: Any, stub: Any, profiles: Profiles) -> AsyncIterator[Start]:
    """`evaluation = await start(mlflow_url=..., prometheus_url=...)`: a stub of a service that runs."""
    target = await serve("profiles", add_ProfilesServicer_to_server, profiles, profiles_pb2.DESCRIPTOR)
    async with AsyncExitStack() as stack:

        async def begin(**changes: Any) -> "EvaluationAsyncStub":
            values = {"profiles_target": target, "mlflow_url": NOBODY, "mlflow_timeout_s": 10.0} | changes
            settings = Settings(database_url=platform_database.dsn("rapport_evaluation"), **values)
            host = Host("evaluation", settings)
            stack.push_async_callback(host.close)
            await assemble(settings, host)
            port = await host.server.start(settings.listen)
            stack.push_async_callback(host.server.stop, 0)
            return stub(EvaluationStub, f"127.0.0.1:{port}", evaluation_pb2.DESCRIPTOR)

        yield begin


@pytest_asyncio.fixture
async def evaluation(start: Start) -> "EvaluationAsyncStub":
    """The service without a registry and without a metrics source."""
    return await start()


@pytest_asyncio.fixture
async def log(connect_as: Any, tenant: str) -> Log:
    return Log(await connect_as("profiles"), tenant)


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow, as the platform starts it."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    environment = {**os.environ, **mlflow.environment(folder)}
    with (folder / "log").open("wb") as output:
        process = spawn(mlflow.command(port), output=output, environment=environment, folder=folder)
    try:
        wait_until_up(f"http://{HOST}:{port}/health", process, folder / "log")
        # The first request makes the tables.
        search = f"http://{HOST}:{port}/api/2.0/mlflow/registered-models/search"
        httpx.get(search, timeout=120, trust_env=False).raise_for_status()
        yield f"http://{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path, *, timeout_s: float = 120) -> None:
    """Raises AssertionError with the end of the log where it does not come up."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} did not come up: {log.read_text(errors='replace')[-2000:]}")
