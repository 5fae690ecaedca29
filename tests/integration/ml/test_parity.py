"""PostgreSQL and DuckDB compute the same features from the same timelines, at every instant."""

import math
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from rapport.features.v1 import features_pb2 as pb

from infra.postgres import Temporary
from ml.features import catalogue
from ml.features.compile import SESSION, compile_online
from ml.training.archive import feature_rows
from tests.integration.ml.timelines import BEGINNING, INSTANTS, World, export, store, world

SEEDS = range(6)
RELATIVE_TOLERANCE = 1e-9
VISITOR = "00000000-0000-8100-8000-000000000001"
MEMBER = "00000000-0000-8000-8000-000000000002"

_ORDERS = pb.EventFilter(type="track", names=["Order Completed"])
_REVENUE = pb.Value(number="revenue")
# Every aggregation that the catalogue leaves out, and properties whose names need quoting.
_MORE = (
    pb.Feature(name="events_count", aggregation=pb.AGGREGATION_COUNT),
    pb.Feature(name="events_30d", aggregation=pb.AGGREGATION_COUNT, window_days=30),
    pb.Feature(name="revenue_mean", events=_ORDERS, aggregation=pb.AGGREGATION_MEAN, value=_REVENUE),
    pb.Feature(name="revenue_min_30d", events=_ORDERS, aggregation=pb.AGGREGATION_MIN, value=_REVENUE, window_days=30),
    pb.Feature(name="revenue_max", aggregation=pb.AGGREGATION_MAX, value=_REVENUE),
    pb.Feature(name="amounts", aggregation=pb.AGGREGATION_COUNT_DISTINCT, value=_REVENUE),
    pb.Feature(name="last_city", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="city")),
    pb.Feature(name="last_city_30d", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="city"), window_days=30),
    pb.Feature(name="odd", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="it's $.odd/key")),
    pb.Feature(name="page_days", events=pb.EventFilter(type="page"), aggregation=pb.AGGREGATION_ACTIVE_DAYS),
)
FEATURES = (*catalogue.FEATURES, *_MORE)


@pytest_asyncio.fixture
async def connection(platform_database: Temporary) -> AsyncIterator[asyncpg.Connection]:
    """As profiles connects."""
    opened = await asyncpg.connect(platform_database.dsn("rapport_profiles"), ssl=False, server_settings=dict(SESSION))
    yield opened
    await opened.close()


async def online(connection: asyncpg.Connection, tenant: str, made: World, *, at: datetime) -> dict[str, pb.FeatureRow]:
    compiled = compile_online(FEATURES)
    # Twice the same id must not count anything twice.
    asked = [*made.profile_ids, made.profile_ids[0]]
    rows = await connection.fetch(compiled.sql, tenant, asked, at)
    return {row.profile_id: row for row in map(compiled.decode, rows)}


def same(left: pb.FeatureValue, right: pb.FeatureValue) -> bool:
    if left.WhichOneof("value") == right.WhichOneof("value") == "number":
        return math.isclose(left.number, right.number, rel_tol=RELATIVE_TOLERANCE, abs_tol=0)
    return left == right


async def test_both_engines_agree_on_every_cell(connection: asyncpg.Connection, tenant: str, tmp_path: Path) -> None:
    compared, differing, present = 0, [], Counter[str]()
    for seed in SEEDS:
        made = world(seed)
        await store(connection, f"{tenant}-{seed}", made)
        export(tmp_path, made)
        offline = feature_rows(tmp_path, FEATURES, [(p, at) for p in made.profile_ids for at in INSTANTS])
        for at in INSTANTS:
            answers = await online(connection, f"{tenant}-{seed}", made, at=at)
            assert answers.keys() == set(made.profile_ids)
            for profile_id, row in answers.items():
                other = offline[profile_id, at]
                assert row.newest_event == other.newest_event
                for feature, left, right in zip(FEATURES, row.values, other.values, strict=True):
                    compared += 1
                    present[feature.name] += left.status == pb.FEATURE_STATUS_PRESENT
                    if not same(left, right):
                        differing.append((seed, profile_id, at, feature.name, str(left), str(right)))
    print(f"{compared} cells compared, {len(differing)} differing")
    assert differing[:5] == []
    assert all(present[feature.name] > 0 for feature in FEATURES), "a feature that nobody has proves nothing"


def merged_customer() -> World:
    """`visitor` orders twice and turns out to be `member`, from INSTANTS[1] on; the second order is known late."""
    at = INSTANTS[1]
    moments = [(at - timedelta(days=90), timedelta(0)), (at - timedelta(days=2), timedelta(days=5)), (at, timedelta(0))]
    events = [
        (
            VISITOR,
            bytes([index] * 16),
            ts,
            ts + late,
            ts,
            "track",
            "Order Completed",
            "web",
            "",
            '{"revenue": 10.5}',
            text,
            "{}",
        )
        for index, (ts, late) in enumerate(moments)
        for text in [f'{{"order_id": "{index}"}}']
    ]
    links = [(VISITOR, VISITOR, BEGINNING), (MEMBER, MEMBER, BEGINNING), (VISITOR, MEMBER, at)]
    return World([VISITOR, MEMBER], events, links)


@pytest.mark.parametrize(
    ("after", "profile_id", "orders", "orders_90d"),
    [
        # What has not happened or was not known is not seen; what is exactly 90 days old is.
        (timedelta(microseconds=-1), VISITOR, 1, 1),
        (timedelta(0), VISITOR, 0, 0),
        (timedelta(0), MEMBER, 1, 1),
        (timedelta(microseconds=1), MEMBER, 2, 1),
        (timedelta(days=3), MEMBER, 3, 2),
        (timedelta(days=3), VISITOR, 0, 0),
    ],
)
async def test_an_instant_sees_what_was_known_by_then(
    connection: asyncpg.Connection,
    tenant: str,
    tmp_path: Path,
    after: timedelta,
    profile_id: str,
    orders: int,
    orders_90d: int,
) -> None:
    made, at = merged_customer(), INSTANTS[1] + after
    await store(connection, tenant, made)
    export(tmp_path, made)
    row = (await online(connection, tenant, made, at=at))[profile_id]
    assert (row.values[0].number, row.values[1].number) == (orders, orders_90d)
    assert feature_rows(tmp_path, FEATURES, [(profile_id, at)]) == {(profile_id, at): row}
