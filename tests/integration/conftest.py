"""A real PostgreSQL for the session, with every migration run; real gRPC servers on free ports."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chassis import context, rpc
from chassis.db import Database, connect
from chassis.migrate import SERVICES, migrate
from infra.postgres import Temporary, temporary
from tests.integration.collector import Collector, collecting

Serve = Callable[..., Awaitable[str]]


def _present() -> tuple[str, ...]:
    return tuple(service for service in SERVICES if (Path("services") / service / "migrations").is_dir())


@contextmanager
def migrated() -> Iterator[Temporary]:
    """A temporary PostgreSQL with roles, schemas and all migrations."""
    with temporary() as server:
        # Its own thread: a loop may be running in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(migrate, server.dsn("rapport_owner"), _present()).result()
        yield server


@pytest.fixture(scope="session")
def platform_database() -> Iterator[Temporary]:
    """One for all of these tests."""
    with migrated() as server:
        yield server


@pytest_asyncio.fixture
async def connect_as(platform_database: Temporary) -> AsyncIterator[Callable[[str], Awaitable[Database]]]:
    """`await connect_as("scoring")`: a pool as that service's role, for the present tenant; for all where a test names none."""
    async with AsyncExitStack() as stack:

        async def open_pool(service: str) -> Database:
            database = await connect(platform_database.dsn(f"rapport_{service}"), connections=4, service=service, everyone=True)
            stack.push_async_callback(database.close)
            return database

        yield open_pool


@pytest.fixture
def tenant() -> Iterator[str]:
    """A tenant of this test's own, set as the present call's."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with context.use(tenant=name, request_id=uuid.uuid4().hex, actor="test"):
        yield name


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """`address = await serve("scoring", add_ScoringServicer_to_server, servicer, scoring_pb2.DESCRIPTOR)`."""
    async with AsyncExitStack() as stack:

        async def start(name: str, add: Any, servicer: Any, contract: Any) -> str:
            server = rpc.Server(name, "test")
            server.add(add, servicer, contract)
            port = await server.start("127.0.0.1:0")
            await server.set_ready(True)
            stack.push_async_callback(server.stop, 0)
            return f"127.0.0.1:{port}"

        yield start


@pytest_asyncio.fixture
async def stub() -> AsyncIterator[Callable[..., Any]]:
    """`profiles = stub(ProfilesStub, address, profiles_pb2.DESCRIPTOR)`: a stub on a real channel."""
    async with AsyncExitStack() as stack:

        def open_stub(cls: Any, address: str, contract: Any) -> Any:
            channel = rpc.channel("tested", address, contract)
            stack.push_async_callback(channel.close)
            return cls(channel)

        yield open_stub


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Traces are on, and it receives them."""
    async with collecting(monkeypatch) as collector:
        yield collector
