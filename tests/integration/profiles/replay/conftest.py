"""A database for these tests alone: a replay is of the log of all tenants, and other tests write into tables by hand."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.postgres import Temporary
from tests.integration.conftest import migrated
from tests.integration.profiles.conftest import Profiles, serving


@pytest.fixture(scope="package")
def platform_database() -> Iterator[Temporary]:
    with migrated() as server:
        yield server


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest_asyncio.fixture(scope="package")
async def service(platform_database: Temporary, folder: Path) -> AsyncIterator[Profiles]:
    async with serving(platform_database, folder) as running:
        yield running
