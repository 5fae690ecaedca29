"""PostgreSQL, DuckDB and Spark give the same value for every feature of every profile at every instant.

A handful of instants and customers; with FULL=1 fifty instants of everybody: `FULL=1 pytest -s` of this file.
"""

import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from rapport.features.v1 import features_pb2 as pb

from demo.orders import open_order_lines
from demo.simulator import Shop
from infra.postgres import Temporary
from ml.features import catalogue
from ml.features.compile import SESSION
from tests.integration.ml import three
from tests.integration.ml.odd import ODD
from tests.integration.ml.replay import world_of
from tests.integration.ml.timelines import INSTANTS, World, export, store, world

FULL = os.environ.get("FULL") == "1"
SHARED = Path(os.environ.get("RAPPORT_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
RETAIL = SHARED / "online_retail" / "online_retail.parquet"
FEATURES: tuple[pb.Feature, ...] = (*catalogue.EVERY, *ODD)
# Rows of the spine that Spark is asked for at a time, so that its memory is enough.
AT_A_TIME = 10_000


@pytest_asyncio.fixture
async def connection(platform_database: Temporary) -> AsyncIterator[asyncpg.Connection]:
    """As profiles connects."""
    opened = await asyncpg.connect(platform_database.dsn("rapport_profiles"), ssl=False, server_settings=dict(SESSION))
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    if shutil.which("java") is None:
        pytest.skip("Spark is not compared: there is no Java here")
    from ml.features.spark import local_session

    with local_session(cores=2, memory="2g", folder=tmp_path_factory.mktemp("spark")) as started:
        yield started


def instants_of(first: datetime, last: datetime, count: int) -> list[datetime]:
    """Midnights, odd microseconds, and anything between."""
    chance = random.Random(7)
    anywhere = [first + (last - first) * chance.random() for _ in range(count - 2)]
    midnight = last.replace(hour=0, minute=0, second=0, microsecond=0)
    return sorted({midnight, last + timedelta(days=1, microseconds=1), *anywhere})


def odd_customers() -> tuple[World, list[datetime]]:
    """Ties, edges of windows, nulls, merges, late events, and properties of every sort."""
    return world(3, profile_count=300 if FULL else 40), list(INSTANTS)


def simulated() -> tuple[World, list[datetime]]:
    shop = Shop(seed=5, customers=1000 if FULL else 25)
    return world_of(shop.calls()), instants_of(shop.start + timedelta(days=90), shop.decision_at, 50 if FULL else 3)


def retail() -> tuple[World, list[datetime]]:
    calls = open_order_lines(RETAIL).calls()
    made = world_of(calls if FULL else islice(calls, 400))
    last = max(event[2] for event in made.events)
    first = datetime(2011, 1, 15, tzinfo=UTC) if FULL else last - timedelta(days=1)
    return made, instants_of(first, last, 50 if FULL else 3)


@pytest.mark.timeout(7200 if FULL else 600)
@pytest.mark.parametrize("source", [odd_customers, simulated, retail], ids=lambda source: source.__name__)
async def test_three_engines_agree_on_every_cell(
    source: object, connection: asyncpg.Connection, spark: object, tenant: str, tmp_path: Path
) -> None:
    if source is retail and not RETAIL.exists():
        pytest.skip(f"Online Retail is not replayed: {RETAIL} is not there")
    made, instants = source()  # type: ignore[operator]
    await store(connection, tenant, made)
    export(tmp_path, made)
    online = distributed = three.NOTHING
    step = max(1, AT_A_TIME // len(made.profile_ids))
    for first in range(0, len(instants), step):
        some = instants[first : first + step]
        asked = (FEATURES, made.profile_ids, some)
        left = three.duckdb(tmp_path, *asked)
        online += three.compare(FEATURES, left, await three.postgres(connection, tenant, *asked))
        distributed += three.compare(FEATURES, left, three.spark(spark, tmp_path, *asked))
        print(
            f"\n{source.__name__}: {len(made.events)} events, {len(made.profile_ids)} profiles, "  # type: ignore[attr-defined]
            f"{min(first + step, len(instants))} of {len(instants)} instants, {len(FEATURES)} features: "
            f"DuckDB and PostgreSQL {online.cells} cells compared, {len(online.differing)} differing; "
            f"DuckDB and Spark {distributed.cells} cells compared, {len(distributed.differing)} differing",
            flush=True,
        )
    assert online.differing[:5] == []
    assert distributed.differing[:5] == []
    if source is odd_customers:
        assert [name for name, count in distributed.present.items() if not count] == [], (
            "a feature that nobody has proves nothing"
        )
