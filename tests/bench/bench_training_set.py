"""A training set, correct at each instant: (profile, as-of) rows x 50 features, by DuckDB and by plain pandas on the same rows.

Each runs in a process of its own, whose time and peak memory are printed; a sample of the rows is compared. pandas is given
fewer rows where it could not finish, and its time is scaled by their number. Feast's offline store joins precomputed features
as of an instant and computes none, so pandas is the peer. Run: `python -m tests.bench.bench_training_set [rows]`.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rapport.features.v1 import features_pb2 as pb

from ml.features import catalogue
from ml.features.definition import leaves
from ml.training.archive import MOMENT, feature_table, open_archive
from tests.integration.ml.timelines import BEGINNING, START

ROWS = 100_000
FEATURES = catalogue.EVERY[:50]
INSTANTS = 50
EVENTS = 40
DAYS = 500
# Rows of the spine at a time, for both: memory depends on this and not on how many there are.
CHUNK = 50_000
MOST_FOR_PANDAS = 50_000
DAY_US = 86_400_000_000
SESSION_US = 30 * 60 * 1_000_000
TOLERANCE = 1e-9


def write_archive(folder: Path, profiles: int) -> None:
    """Half of the events are orders and what is done about them, half are visits."""
    chance = np.random.default_rng(0)
    count = profiles * EVENTS
    kinds = np.array(["Order Completed", "Order Refunded", "Ticket Opened", "Product Viewed", "Product Added", "Home"])
    names = kinds[chance.choice(6, count, p=[0.3, 0.05, 0.05, 0.35, 0.1, 0.15])]
    cents = chance.integers(100, 20_000, count)
    orders, items = chance.integers(0, 12, count), chance.integers(0, 50, count)
    start_us = int(START.timestamp()) * 1_000_000
    ts = pa.array(start_us + chance.integers(0, DAYS * DAY_US, count), pa.int64()).cast(MOMENT)
    ids = np.array([f"00000000-0000-8000-8000-{index:012d}" for index in range(profiles)])
    money = [f'{{"revenue":{c // 100}.{c % 100:02d},"total":{c // 100}.{c % 100:02d}}}' for c in cents.tolist()]
    texts = [
        f'{{"order_id":"{o}","product_id":"P{i}","category":"C{i % 7}"}}'
        for o, i in zip(orders.tolist(), items.tolist(), strict=True)
    ]
    events = pa.table(
        {
            "node_id": np.repeat(ids, EVENTS),
            "ts": ts,
            "known_at": ts,
            "type": np.where(names == "Home", "page", "track"),
            "name": names,
            "source": pa.array(["web"] * count),
            "channel": np.where(chance.random(count) < 0.7, "browser", "server"),
            "numbers": money,
            "texts": texts,
            "rest": pa.array(["{}"] * count),
        }
    )
    (folder / "events" / "day=all").mkdir(parents=True)
    (folder / "identities").mkdir()
    pq.write_table(events, folder / "events" / "day=all" / "1.parquet")
    links = pa.table({"node_id": ids, "profile_id": ids, "since": pa.array([BEGINNING] * profiles, MOMENT)})
    pq.write_table(links, folder / "identities" / "identities.parquet")


def spine_of(rows: int) -> pa.Table:
    """Every profile at every instant, instants first."""
    profiles = max(1, rows // INSTANTS)
    at = [START + timedelta(days=90 + 8 * number, microseconds=1) for number in range(INSTANTS)]
    ids = [f"00000000-0000-8000-8000-{index:012d}" for index in range(profiles)]
    return pa.table(
        {"profile_id": pa.array(ids * INSTANTS), "as_of": pa.array([each for each in at for _ in range(profiles)], MOMENT)}
    )


def by_duckdb(folder: Path, spine: pa.Table, out: Path) -> None:
    """As training reads the archive: 2 threads, 1 GB."""
    writer = None
    with open_archive(folder) as connection:
        for first in range(0, spine.num_rows, CHUNK):
            connection.register("asked_rows", spine.slice(first, CHUNK))
            connection.execute("CREATE OR REPLACE TEMP TABLE spine AS SELECT * FROM asked_rows")
            connection.unregister("asked_rows")
            table = feature_table(connection, FEATURES)
            writer = writer or pq.ParquetWriter(out, table.schema)
            writer.write_table(table)
    if writer:
        writer.close()


def by_pandas(folder: Path, spine: pa.Table, out: Path) -> None:
    """The join and the groups that a data scientist would write, one feature after the other."""
    import pandas as pd

    events = pq.read_table(folder / "events" / "day=all" / "1.parquet").to_pandas()
    numbers, texts = events.numbers.map(json.loads), events.texts.map(json.loads)
    events = events.assign(
        **{name: [each[name] for each in numbers] for name in ("revenue", "total")},
        **{name: [each[name] for each in texts] for name in ("order_id", "product_id", "category")},
        topic=None,
        ts_us=events.ts.astype("int64"),
    ).drop(columns=["numbers", "texts", "rest"])
    parts = []
    for first in range(0, spine.num_rows, CHUNK):
        some = spine.slice(first, CHUNK).to_pandas()
        some["row"] = np.arange(len(some))
        joined = some.merge(events, left_on="profile_id", right_on="node_id")
        joined = joined[(joined.ts < joined.as_of) & (joined.known_at <= joined.as_of)]
        joined = joined.assign(age=joined.as_of.astype("int64") - joined.ts_us, day=joined.ts_us // DAY_US)
        parts.append(some.assign(**{feature.name: pandas_feature(joined, some.row, feature) for feature in FEATURES}))
    pd.concat(parts).drop(columns="row").to_parquet(out)


def pandas_feature(joined: Any, rows: Any, feature: pb.Feature) -> Any:
    """One value for each row of the spine."""
    left, *right = [_leaf(joined, leaf).reindex(rows) for leaf in leaves(feature)]
    zero = (
        pb.AGGREGATION_COUNT,
        pb.AGGREGATION_COUNT_DISTINCT,
        pb.AGGREGATION_SUM,
        pb.AGGREGATION_ACTIVE_DAYS,
        pb.AGGREGATION_SESSIONS,
    )
    filled = [
        values.fillna(0) if leaf.aggregation in zero else values
        for values, leaf in zip([left, *right], leaves(feature), strict=True)
    ]
    if feature.aggregation == pb.AGGREGATION_RATIO:
        return (filled[0] / filled[1].where(filled[1] != 0)).to_numpy()
    return (filled[0] - filled[1] if feature.aggregation == pb.AGGREGATION_DIFFERENCE else filled[0]).to_numpy()


def _leaf(joined: Any, leaf: pb.Feature) -> Any:
    some = joined[_passes(joined, leaf.events)] if leaf.HasField("events") else joined
    some = some[some.age > leaf.offset_days * DAY_US] if leaf.offset_days else some
    some = some[some.age <= (leaf.offset_days + leaf.window_days) * DAY_US] if leaf.window_days else some
    groups = some.groupby("row")
    column = leaf.value.number or leaf.value.text or ("channel" if leaf.value.field else "ts_us")
    span = groups.age.max() - groups.age.min()
    match leaf.aggregation:
        case pb.AGGREGATION_COUNT:
            return groups.size()
        case pb.AGGREGATION_COUNT_DISTINCT:
            return groups[column].nunique()
        case pb.AGGREGATION_SUM:
            return groups[column].sum()
        case pb.AGGREGATION_MIN:
            return groups[column].min()
        case pb.AGGREGATION_MAX:
            return groups[column].max()
        case pb.AGGREGATION_MEDIAN:
            return groups[column].median()
        case pb.AGGREGATION_DAYS_SINCE_LAST:
            return groups.age.min() / DAY_US
        case pb.AGGREGATION_DAYS_SINCE_FIRST:
            return groups.age.max() / DAY_US
        case pb.AGGREGATION_ACTIVE_DAYS:
            return groups.day.nunique()
        case pb.AGGREGATION_MEAN_INTERVAL_DAYS:
            steps = groups.day.nunique() - 1
            return span / DAY_US / steps.where(steps > 0)
        case pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS:
            steps = groups.size() - 1
            return span / DAY_US / steps.where(steps > 0)
        case _:
            return _ordered(some.sort_values(["row", "ts_us"], kind="stable"), leaf, column)


def _ordered(some: Any, leaf: pb.Feature, column: str) -> Any:
    gaps = some.assign(gap=some.groupby("row").ts_us.diff()).groupby("row").gap
    match leaf.aggregation:
        case pb.AGGREGATION_MEDIAN_INTERVAL_DAYS:
            return gaps.median() / DAY_US
        case pb.AGGREGATION_STD_INTERVAL_DAYS:
            return (some.assign(gap=some.groupby("row").ts_us.diff() // 1_000_000).groupby("row").gap).std() / 86_400
        case pb.AGGREGATION_SESSIONS:
            return gaps.apply(lambda gap: 1 + int((gap > SESSION_US).sum()))
        case pb.AGGREGATION_LAST:
            return some.groupby("row")[column].last()
        case pb.AGGREGATION_FIRST:
            return some.groupby("row")[column].first()
        case _:
            often = some.groupby(["row", column]).size().reset_index(name="n").sort_values(["row", "n", column])
            return often.groupby("row")[column].last()


def _passes(joined: Any, events: pb.EventFilter) -> Any:
    passes = np.zeros(len(joined), bool)
    for one in events.any_of or [events]:
        each = np.ones(len(joined), bool)
        for column, wanted in (("type", [one.type] if one.type else []), ("name", one.names), ("channel", one.channels)):
            if wanted:
                each &= joined[column].isin(list(wanted)).to_numpy()
        passes |= each
    return passes


def run(engine: str, folder: Path, rows: int, out: Path) -> tuple[float, float]:
    """(seconds, peak megabytes) of a process of its own, its start not counted."""
    command = [sys.executable, "-m", "tests.bench.bench_training_set", "--only", engine, str(folder), str(rows), str(out)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    return found["seconds"], found["megabytes"]


def differing(left: Path, right: Path) -> tuple[int, int]:
    """(cells compared, cells differing) of all rows of the smaller set."""
    ours = {(r["profile_id"], r["as_of"]): r for r in pq.read_table(left).to_pylist()}
    compared = wrong = 0
    for row in pq.read_table(right).to_pylist():
        mine = ours[row["profile_id"], row["as_of"]]
        for feature in FEATURES:
            compared += 1
            wrong += not _same(mine[feature.name], row[feature.name])
    return compared, wrong


def _same(left: Any, right: Any) -> bool:
    if left is None or isinstance(left, str):
        return left == right or (left is None and right != right)
    return right is not None and math.isclose(float(left), float(right), rel_tol=TOLERANCE, abs_tol=1e-9)


def main() -> None:
    """One line a figure."""
    if sys.argv[1:2] == ["--only"]:
        engine, folder, rows, out = sys.argv[2:6]
        spine = spine_of(int(rows))
        started = time.perf_counter()
        (by_duckdb if engine == "duckdb" else by_pandas)(Path(folder), spine, Path(out))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": peak}))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    fewer = min(rows, MOST_FOR_PANDAS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_archive(folder / "archive", max(1, rows // INSTANTS))
        write_archive(folder / "fewer", max(1, fewer // INSTANTS))
        seconds, megabytes = run("duckdb", folder / "archive", rows, folder / "ours.parquet")
        print(
            f"ours: {rows:,} rows x {len(FEATURES)} features, DuckDB, 2 threads: {seconds:.1f} s, {megabytes:,.0f} MB at most"
        )
        same_s, _ = run("duckdb", folder / "fewer", fewer, folder / "few.parquet")
        peer_s, peer_mb = run("pandas", folder / "fewer", fewer, folder / "peer.parquet")
        scaled = "" if fewer == rows else f"; by rows that is {peer_s * rows / fewer:.0f} s for {rows:,}"
        print(f"peer: {fewer:,} rows, plain pandas: {peer_s:.1f} s, {peer_mb:,.0f} MB at the most{scaled}")
        print(f"the same {fewer:,} rows with DuckDB: {same_s:.1f} s, which is {peer_s / same_s:.1f} times as fast")
        compared, wrong = differing(folder / "few.parquet", folder / "peer.parquet")
        print(f"{compared:,} cells compared, {wrong} differing")


if __name__ == "__main__":
    main()
