"""The archive: whole files, written once, and DuckDB computes from it what PostgreSQL answers."""

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.log import PostgresLog
from ml.features import catalogue
from ml.features.compile import compile_offline
from services.profiles.compact import compact
from services.profiles.export import export
from services.profiles.store.exports import ExportStore, Place
from tests.integration.profiles.conftest import Profiles

START = datetime(2026, 1, 1, tzinfo=UTC)


def _order(number: int, day: float, **who: str) -> dict[str, Any]:
    properties = {
        "order_id": f"o{number}",
        "revenue": 0.1 * number,
        "total": 0.1 * number,
        "gift": True,
        "products": [{"price": 0.1}],
    }
    moment = (START + timedelta(days=day)).isoformat()
    return {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"m{number}",
        "timestamp": moment,
        "properties": properties,
        **who,
    }


async def _export(profiles: Profiles) -> pb.ExportLogResponse:
    return await profiles.stub.ExportLog(pb.ExportLogRequest(), timeout=60)


def _files(path: str) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in Path(path).rglob("*.parquet")}


def _query(path: str, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        engine.execute(
            f"CREATE VIEW events AS SELECT * FROM read_parquet('{path}/events/*/*.parquet', hive_partitioning = true)"
        )
        engine.execute(f"CREATE VIEW identities AS SELECT * FROM '{path}/identities/*.parquet'")
        return engine.execute(sql).fetchall()


async def test_all_events_are_in_the_archive_by_their_day(profiles: Profiles) -> None:
    await profiles.take(*(_order(number, number / 2, userId=f"u{number % 3}") for number in range(6)))
    done = await _export(profiles)
    assert done.event_count == 6
    assert len(done.digest) == 64
    assert done.path == str(profiles.folder / "archive" / context.tenant())
    rows = _query(done.path, "SELECT day, count(*) FROM events GROUP BY day ORDER BY day")
    assert [(str(day), count) for day, count in rows] == [("2026-01-01", 2), ("2026-01-02", 2), ("2026-01-03", 2)]
    assert _query(done.path, "SELECT DISTINCT tenant_id FROM events") == [(context.tenant(),)]
    assert _query(done.path, "SELECT count(*) FROM identities WHERE since < '1000-01-01'") == [(3,)]


async def test_what_stands_is_not_written_again_and_late_events_get_files_of_their_own(profiles: Profiles) -> None:
    await profiles.take(_order(1, 1, userId="u"), _order(2, 2, userId="u"))
    first = await _export(profiles)
    before = _files(first.path)
    again = await _export(profiles)
    assert (again.digest, again.event_count) == (first.digest, 2)
    await profiles.take(_order(3, 1.5, userId="u"))
    later = await _export(profiles)
    after = _files(first.path)
    assert later.event_count == 3
    assert later.digest != first.digest
    kept = {name: time for name, time in after.items() if name.startswith("events/") and name in before}
    assert kept == {name: time for name, time in before.items() if name.startswith("events/")}
    assert sum(name.startswith("events/day=2026-01-02/") for name in after) == 2
    assert later.through.ToDatetime() >= first.through.ToDatetime()


async def test_an_export_that_was_interrupted_is_finished_without_doubles(profiles: Profiles) -> None:
    await profiles.take(_order(1, 1, userId="u"), _order(2, 2, userId="u"))
    store, tenant_id = ExportStore(profiles.database), context.tenant()
    place = (await store.snapshot(tenant_id)).place
    archive = profiles.folder / "archive"
    # As after a crash between the files and the note that they are written.
    await store.plan(tenant_id, place)
    half = archive / tenant_id / "events" / "day=2026-01-02" / "1-1.writing"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half a file")
    await profiles.take(_order(3, 1, userId="u"))
    done = await export(store, tenant_id, archive)
    assert done.event_count == 3
    assert _query(done.path, "SELECT count(*), count(DISTINCT event_id) FROM events") == [(3, 3)]
    assert not half.exists()
    assert (await store.progress(tenant_id)).planned is None


async def test_the_archive_holds_nothing_that_is_not_projected_yet(profiles: Profiles) -> None:
    await profiles.take(_order(1, 1, userId="u"))
    store, tenant_id = ExportStore(profiles.database), context.tenant()
    snapshot = await store.snapshot(tenant_id)
    rows = await PostgresLog(profiles.database).read(0, 0, 100_000)
    mine = [Place(row.xid, row.seq) for row in rows if row.tenant_id == tenant_id]
    assert mine
    assert max(mine) <= snapshot.place
    assert await store.read(tenant_id, snapshot.place, snapshot.place, 10) == []


EVERY_ROW = "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM events ORDER BY ts, event_id"


async def _in_several_files(profiles: Profiles) -> str:
    """Two days of January, each written three times."""
    for number in range(3):
        await profiles.take(_order(number, number / 10, userId="u"), _order(number + 10, 1 + number / 10, userId="v"))
        done = await _export(profiles)
    assert sum(name.startswith("events/") for name in _files(done.path)) == 6
    return done.path


async def test_a_day_is_one_file_when_its_month_is_over_and_the_rows_are_the_same(profiles: Profiles) -> None:
    path, store, tenant_id = await _in_several_files(profiles), ExportStore(profiles.database), context.tenant()
    before = _query(path, EVERY_ROW)
    assert await compact(store, tenant_id, Path(path), today=date(2026, 1, 31)) == 0
    assert await compact(store, tenant_id, Path(path), today=date(2026, 2, 1)) == 4
    assert await compact(store, tenant_id, Path(path), today=date(2026, 2, 1)) == 0
    assert sorted(name for name in _files(path) if name.startswith("events/")) == sorted(await store.files(tenant_id))
    assert len(await store.files(tenant_id)) == 2
    assert _query(path, EVERY_ROW) == before
    assert not (Path(path) / "merging").exists()
    await profiles.take(_order(99, 0.5, userId="u"))
    assert (await _export(profiles)).event_count == 7
    assert await compact(store, tenant_id, Path(path), today=date(2026, 2, 1)) == 1
    assert len(_query(path, EVERY_ROW)) == 7


async def test_a_compaction_that_was_killed_is_undone_by_the_next(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    path, store, tenant_id = await _in_several_files(profiles), ExportStore(profiles.database), context.tenant()
    before = _query(path, EVERY_ROW)

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace_all", killed)
        with pytest.raises(KeyboardInterrupt):
            await compact(store, tenant_id, Path(path), today=date(2026, 2, 1))
    assert _query(path, EVERY_ROW) == before
    assert await compact(store, tenant_id, Path(path), today=date(2026, 2, 1)) == 4
    assert _query(path, EVERY_ROW) == before
    assert sorted(name for name in _files(path) if name.startswith("events/")) == sorted(await store.files(tenant_id))


async def test_nothing_personal_is_in_the_archive(profiles: Profiles) -> None:
    call = _order(1, 1, userId="ann@example.com") | {"context": {"ip": "203.0.113.7"}}
    call["properties"] |= {"email": "ann@example.com"}
    await profiles.take(call)
    done = await _export(profiles)
    text = str(_query(done.path, "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM events"))
    assert "o1" in text
    assert "ann" not in text
    assert "203.0" not in text


async def test_features_from_the_archive_are_those_that_are_served(profiles: Profiles) -> None:
    """Train = serve, over a real log with merges, late links, refunds and visits."""
    chance = random.Random(7)
    calls: list[dict[str, Any]] = []
    for number in range(300):
        who = chance.choice([{"userId": f"u{chance.randrange(8)}"}, {"anonymousId": f"a{chance.randrange(8)}"}])
        if chance.random() < 0.02:
            who = {"userId": f"u{chance.randrange(8)}", "anonymousId": f"a{chance.randrange(8)}"}
        call = _order(number, chance.random() * 140, **who)
        match chance.randrange(4):
            case 0:
                call |= {"event": "Order Refunded"}
            case 1:
                call |= {"type": "page", "properties": {}}
            case 2:
                call |= {"event": chance.choice(["Ticket Opened", "Product Viewed", "Product Added"])}
        calls.append(call)
    for first in range(0, 300, 60):
        await profiles.take(*calls[first : first + 60])
    done = await _export(profiles)
    refs = [f"user_id:u{number}" for number in range(8)] + [f"anonymous_id:a{number}" for number in range(8)]
    compared = 0
    for days in (30, 99.5, 141):
        at = START + timedelta(days=days)
        moment = Timestamp()
        moment.FromDatetime(at)
        served = await profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=refs, at=moment))
        online = {row.profile_id: row for row in served.rows if row.profile_id}
        offline = _offline(done.path, list(online), at)
        for profile_id, row in online.items():
            for name, left, right in zip(served.features, row.values, offline[profile_id].values, strict=True):
                compared += 1
                if left.WhichOneof("value") == "number":
                    assert left.number == pytest.approx(right.number, rel=1e-9), name
                else:
                    assert left == right, name
            assert row.newest_event == offline[profile_id].newest_event
    assert compared > 200


def _offline(path: str, profile_ids: list[str], at: datetime) -> dict[str, Any]:
    compiled = compile_offline(catalogue.FEATURES)
    with duckdb.connect() as engine:
        engine.execute(f"CREATE VIEW events AS SELECT * FROM '{path}/events/*/*.parquet'")
        engine.execute(f"CREATE VIEW identities AS SELECT * FROM '{path}/identities/*.parquet'")
        engine.execute("CREATE TABLE spine (profile_id VARCHAR, as_of TIMESTAMPTZ)")
        engine.executemany("INSERT INTO spine VALUES (?, ?)", [(profile_id, at) for profile_id in profile_ids])
        rows = engine.sql(compiled.sql).to_arrow_table().to_pylist()
    return {row["profile_id"]: compiled.decode(row) for row in rows}
