"""Twenty features and 250 of one profile with 100 events, on one connection: p50 and p99; then many profiles in batches.

The limit beside it is the empty round trip (`SELECT 1`); the peer is the same answer from 20 separate statements, which is
what a platform pays that computes feature by feature. The sets that the catalogue ships are measured too: who asks for the
churn model's features does not pay for the others. Run: `python -m tests.bench.bench_features [profiles]`.
"""

import asyncio
import gc
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import asyncpg
import numpy as np
from rapport.features.v1 import features_pb2 as pb

from chassis.migrate import migrate
from infra.postgres import Temporary, temporary
from ml.features import catalogue
from ml.features.compile import SESSION, compile_online
from tests.integration.ml.timelines import START, World, store

TENANT = "bench"
AIM_MS = 1.0
MANY = 250
MANY_AIM_MS = 3.0
RATE_AIM = 2000
PROFILES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
EVENTS = 100
AT = START + timedelta(days=500)

_ORDERS = pb.EventFilter(type="track", names=["Order Completed"])


def some_features(count: int) -> tuple[pb.Feature, ...]:
    """The catalogue's, and its features of a window again with other windows."""
    found = list(catalogue.FEATURES)
    for days in (7, 30, 60, 180, 365, *range(10, 3000, 11)):
        for feature in catalogue.FEATURES:
            if feature.window_days and len(found) < count:
                again = pb.Feature()
                again.CopyFrom(feature)
                again.name, again.window_days = f"{feature.name.removesuffix('_90d')}_{days}d", days
                found.append(again)
    return tuple(found[:count])


def shop() -> World:
    """PROFILES customers with EVENTS events each: every fifth an order."""
    chance = np.random.default_rng(0)
    ids = [f"00000000-0000-4000-8000-{index:012d}" for index in range(PROFILES)]
    kinds = [("track", "Order Completed"), ("track", "Product Viewed"), ("track", "Product Added"), ("page", "Home")]
    events = []
    for index, node_id in enumerate(ids):
        for number, second in enumerate(chance.integers(0, 490 * 86400, EVENTS).tolist()):
            ts = START + timedelta(seconds=second)
            kind, name = kinds[0] if number % 5 == 0 else kinds[1 + number % 3]
            numbers = f'{{"revenue": {second % 9999 / 100}, "total": {second % 9999 / 100}}}'
            texts = f'{{"order_id": "o-{index}-{number}", "currency": "GBP", "city": "Leeds"}}'
            products = '{"products": [{"product_id": "p1", "price": 1.5, "quantity": 2}]}'
            event_id = (index * EVENTS + number).to_bytes(16, "big")
            events.append((node_id, event_id, ts, ts, ts, kind, name, "web", "", numbers, texts, products))
    since = START - timedelta(days=1)
    return World(ids, events, [(node_id, node_id, since) for node_id in ids])


async def _latencies_ms(ask: Callable[[int], Awaitable[object]], count: int) -> np.ndarray:
    taken = np.empty(count)
    for index in range(count):
        start = time.perf_counter()
        await ask(index)
        taken[index] = (time.perf_counter() - start) * 1000
    return taken


def _line(name: str, taken: np.ndarray) -> str:
    return f"{name:<42} p50 {np.percentile(taken, 50):6.2f} ms   p99 {np.percentile(taken, 99):6.2f} ms"


async def measure(connection: asyncpg.Connection, made: World) -> dict[str, float]:
    features = some_features(20)
    one_each = [await connection.prepare(compile_online([feature]).sql) for feature in features]
    empty = await connection.prepare("SELECT 1")

    async def separately(index: int) -> None:
        for statement in one_each:
            await statement.fetch(TENANT, [made.profile_ids[index % PROFILES]], AT)

    ours = await _of_one(connection, made, features, 2000)
    many = await _of_one(connection, made, some_features(MANY), 1000)
    peer = await _latencies_ms(separately, 200)
    limit = await _latencies_ms(lambda _: empty.fetch(), 2000)
    print(_line(f"ours: {len(features)} features, {EVENTS} events, one query", ours))
    print(_line(f"ours: {MANY} features, {EVENTS} events, one query", many))
    for name, shipped in catalogue.SETS.items():
        print(_line(f"ours: the set {name}, {len(shipped)} features", await _of_one(connection, made, shipped, 300)))
    print(_line("peer: one query per feature", peer))
    print(_line("limit: empty round trip", limit))
    rate = await _rate(connection, made, features)
    print(
        f"batches of 1,000 profiles                  {rate:,.0f} profiles/s on one connection, which is one core of PostgreSQL"
    )
    p50, p99 = float(np.percentile(ours, 50)), float(np.percentile(many, 99))
    print(f"aim: {len(features)} features at most {AIM_MS} ms p50: {_verdict(p50 <= AIM_MS, p50)}")
    print(f"aim: {MANY} features at most {MANY_AIM_MS} ms p99: {_verdict(p99 <= MANY_AIM_MS, p99)}")
    print(f"aim: at least {RATE_AIM} profiles/s: {_verdict(rate >= RATE_AIM, rate)}")
    await _where_time_goes(connection, made)
    return {"p50_ms": p50, "p99_ms": float(np.percentile(ours, 99)), "many_p99_ms": p99, "profiles_per_s": rate}


def _verdict(met: bool, value: float) -> str:
    return f"{'met' if met else 'MISSED'}, {value:,.2f}"


async def _of_one(connection: asyncpg.Connection, made: World, features: Sequence[pb.Feature], count: int) -> np.ndarray:
    statement = await connection.prepare(compile_online(features).sql)
    await _latencies_ms(lambda i: statement.fetch(TENANT, [made.profile_ids[i % PROFILES]], AT), 50)
    return await _latencies_ms(lambda i: statement.fetch(TENANT, [made.profile_ids[i * 7 % PROFILES]], AT), count)


async def _rate(connection: asyncpg.Connection, made: World, features: Sequence[pb.Feature]) -> float:
    statement = await connection.prepare(compile_online(features).sql)
    start = time.perf_counter()
    for first in range(0, PROFILES, 1000):
        await statement.fetch(TENANT, made.profile_ids[first : first + 1000], AT, timeout=60)
    return PROFILES / (time.perf_counter() - start)


async def _where_time_goes(connection: asyncpg.Connection, made: World) -> None:
    """Of 250 features: the whole, the executor alone, and what only gathering the events takes."""
    for name, features in (("one count", some_features(10)[-1:]), (f"{MANY} features", some_features(MANY))):
        sql = compile_online(features).sql
        whole = await _of_one(connection, made, features, 200)
        for place, value in (("$1", f"'{TENANT}'"), ("$2", f"'{{{made.profile_ids[0]}}}'"), ("$3", f"'{AT.isoformat()}'")):
            sql = sql.replace(place, value)
        took = [await connection.fetch("EXPLAIN (ANALYZE, TIMING OFF) " + sql) for _ in range(5)]
        found = dict(re.findall(r"(Planning|Execution) Time: ([0-9.]+)", "\n".join(row[0] for row in took[-1])))
        print(
            f"where time goes, {name}: {np.percentile(whole, 50):.2f} ms in all, {found['Execution']} ms in the executor, "
            f"{found['Planning']} ms of planning that prepared statements are spared"
        )


async def _run(database: Temporary) -> None:
    made = shop()
    owner = await asyncpg.connect(database.dsn("rapport_owner"), ssl=False)
    connection = await asyncpg.connect(database.dsn("rapport_profiles"), ssl=False, server_settings=dict(SESSION))
    try:
        await store(connection, TENANT, made)
        await owner.execute("VACUUM ANALYZE profiles.timeline, profiles.node_profiles")
        gc.freeze()  # the shop is ours: collecting it is no time of the database's
        await measure(connection, made)
    finally:
        await connection.close()
        await owner.close()


def main() -> None:
    with temporary() as database:
        migrate(database.dsn("rapport_owner"), ("profiles",))
        asyncio.run(_run(database))


if __name__ == "__main__":
    main()
