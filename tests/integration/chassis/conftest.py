"""What a test of the chassis stands on; closed at the end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from infra.postgres import Temporary
from tests.integration.chassis.logs import World, new_world
from tests.integration.chassis.servers import Place


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(stack)


@pytest_asyncio.fixture
async def world(platform_database: Temporary) -> AsyncIterator[World]:
    async with new_world(platform_database) as world:
        yield world
