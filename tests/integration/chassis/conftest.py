"""What a test of the chassis stands on; closed at the end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from infra.kafka import Broker, Missing, fetch
from infra.postgres import Temporary
from tests.integration.chassis.logs import KafkaWorld, World, new_world, running, until
from tests.integration.chassis.servers import Place


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(stack)


@pytest_asyncio.fixture
async def world(platform_database: Temporary) -> AsyncIterator[World]:
    async with new_world(platform_database) as world:
        yield world


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A real Kafka for the session; skips where there is none to be had."""
    try:
        jars = fetch()
    except Missing as error:
        pytest.skip(f"There is no Kafka here: {error}")
    broker = Broker(jars, tmp_path_factory.mktemp("kafka"))
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture
async def kafka_alone(platform_database: Temporary, broker: Broker) -> AsyncIterator[KafkaWorld]:
    """A world whose readers follow Kafka, which no relay fills yet."""
    async with new_world(platform_database, broker.address) as world:
        assert isinstance(world, KafkaWorld)
        yield world


@pytest_asyncio.fixture
async def kafka(kafka_alone: KafkaWorld) -> AsyncIterator[KafkaWorld]:
    """With a relay that runs."""
    async with running(kafka_alone.relay().follow):
        await until(kafka_alone.has_topic)
        yield kafka_alone


@pytest.fixture(params=["postgres", "kafka"])
def either(request: pytest.FixtureRequest) -> World:
    """Each implementation of the log in turn."""
    return request.getfixturevalue({"postgres": "world", "kafka": "kafka"}[request.param])
