"""How long the log keeps a tenant's events: what is older is in the archive, and a replay reads it there."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import duckdb
import pytest
from rapport.profiles.v1 import retention_pb2

from chassis import context
from chassis.errors import InvalidArgument
from infra.postgres import Temporary
from services.profiles.archived import Damaged, redact_log
from services.profiles.forget import Moved, forget_log, merge
from services.profiles.rpc.retention import RetentionRpc
from services.profiles.store.exports import Place
from services.profiles.store.retention import LogFile, RetentionStore
from tests.integration.profiles.conftest import RECEIVED, Profiles
from tests.integration.profiles.replay.test_rebuild import differing, fill, rebuilding

COUNT = "SELECT count(*) FROM log.events WHERE tenant_id = $1"


@asynccontextmanager
async def limited(profiles: Profiles, tenant_id: str, days: int) -> AsyncIterator[RetentionStore]:
    """A tenant whose log is kept for so long; the others' for ever."""
    store = RetentionStore(profiles.database)
    with context.use(tenant=tenant_id):
        await store.set_days(tenant_id, days)
    try:
        with context.everyone():  # as the job does
            yield store
    finally:
        with context.use(tenant=tenant_id):
            await store.set_days(tenant_id, None)


async def _old(database: Temporary, profiles: Profiles, *, tenants: int = 1, seed: int = 1) -> list[str]:
    """Tenants whose events all came long ago; what was told of merges came a moment ago, and is made as old as they are."""
    made = await fill(profiles, tenants=tenants, seed=seed)
    owner = await asyncpg.connect(database.dsn("rapport_owner"), ssl=False)
    try:
        late = "UPDATE log.events SET received_at = $2 WHERE tenant_id = ANY($1) AND received_at > $2"
        await owner.execute(late, made, RECEIVED + timedelta(hours=6))
    finally:
        await owner.close()
    return made


async def _forget(profiles: Profiles, *, days: float) -> Moved:
    """As if it ran so many days after the tests' events came."""
    return await forget_log(profiles.database, profiles.folder / "archive", at=RECEIVED + timedelta(days=days))


async def _count(profiles: Profiles, tenant_id: str) -> int:
    return (await profiles.rows(COUNT, tenant_id))[0][0]


async def _payloads(profiles: Profiles, tenant_id: str) -> list[bytes]:
    rows = await profiles.rows("SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY events.xid, seq", tenant_id)
    return [row[0] for row in rows]


def _archived(profiles: Profiles, tenant_id: str) -> list[bytes]:
    path = profiles.folder / "archive" / tenant_id / "log" / "*.parquet"
    with duckdb.connect() as engine:
        rows = engine.execute(f"SELECT payload FROM read_parquet('{path}') ORDER BY xid, seq").fetchall()
    return [row[0] for row in rows]


async def test_what_is_older_is_moved_in_the_logs_order_and_the_rest_stays(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id, other = await _old(platform_database, profiles, tenants=2)
    before, others = await _payloads(profiles, tenant_id), await _count(profiles, other)
    # Six batches, an hour apart, each followed by what was told of its merges.
    async with limited(profiles, tenant_id, 7) as store:
        assert await _forget(profiles, days=7) == Moved(0, 0)
        first = await _forget(profiles, days=7 + 2.5 / 24)
        assert 0 < first.event_count < len(before)
        assert await _count(profiles, tenant_id) == len(before) - first.event_count
        assert _archived(profiles, tenant_id) + await _payloads(profiles, tenant_id) == before
        assert await store.archived_count(tenant_id) == first.event_count
        assert (await _forget(profiles, days=7 + 2.5 / 24)).event_count == 0
    assert await _count(profiles, other) == others


async def test_a_replay_of_archive_and_log_says_what_the_live_tables_say(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await _old(platform_database, profiles, tenants=2, seed=11))[0]
    async with limited(profiles, tenant_id, 7):
        assert (await _forget(profiles, days=400)).event_count > 240
        assert await _count(profiles, tenant_id) == 0
        with context.use(tenant=tenant_id):
            await profiles.take({"type": "page", "userId": "u1", "anonymousId": "a-new"})
        async with rebuilding(platform_database, profiles) as rebuild:
            assert differing(await rebuild.compare()) == []
            await rebuild.store.drop()
            await rebuild.swap()
        file = (await RetentionStore(profiles.database).files(tenant_id))[0]
        path = profiles.folder / "archive" / tenant_id / file.path
        whole = path.read_bytes()
        try:
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            async with rebuilding(platform_database, profiles) as rebuild:
                with pytest.raises(Damaged, match="not what was written"):
                    await rebuild.compare()
        finally:
            path.write_bytes(whole)


async def test_small_files_become_one_with_the_same_events_in_the_same_order(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await _old(platform_database, profiles, seed=3))[0]
    folder = profiles.folder / "archive" / tenant_id
    async with limited(profiles, tenant_id, 7) as store:
        for hours in (0.5, 1.5, 400 * 24):
            await _forget(profiles, days=7 + hours / 24)
        assert len(await store.files(tenant_id)) == 1
        assert [file.name for file in (folder / "log").iterdir()] == [(await store.files(tenant_id))[0].path.split("/")[1]]
        before = hashlib.sha256(b"".join(_archived(profiles, tenant_id))).hexdigest()
        assert await merge(store, tenant_id, folder) == 0
        assert hashlib.sha256(b"".join(_archived(profiles, tenant_id))).hexdigest() == before


async def test_a_file_that_a_killed_run_left_is_not_taken_for_the_archive(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await _old(platform_database, profiles, seed=4))[0]
    before = await _payloads(profiles, tenant_id)
    left = profiles.folder / "archive" / tenant_id / "log" / "1-1-1.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    async with limited(profiles, tenant_id, 7):
        await _forget(profiles, days=400)
    assert not left.exists()
    assert _archived(profiles, tenant_id) == before


async def test_nothing_is_forgotten_while_the_log_is_replayed(platform_database: Temporary, profiles: Profiles) -> None:
    tenant_id = (await _old(platform_database, profiles))[0]
    async with limited(profiles, tenant_id, 7):
        async with rebuilding(platform_database, profiles) as rebuild, rebuild.store.alone():
            assert await _forget(profiles, days=400) == Moved(0, 0)
        assert (await _forget(profiles, days=400)).event_count > 0


async def test_the_database_refuses_to_forget_what_is_not_safe(profiles: Profiles) -> None:
    tenant_id = (await fill(profiles, tenants=1))[0]
    with context.use(tenant=tenant_id):
        await _refuses_to_forget(profiles, tenant_id)


async def _refuses_to_forget(profiles: Profiles, tenant_id: str) -> None:
    store = RetentionStore(profiles.database)
    rows = await profiles.rows("SELECT xid::text, seq FROM log.events WHERE tenant_id = $1 ORDER BY xid, seq", tenant_id)
    last = Place(int(rows[-1][0]), rows[-1][1])
    with pytest.raises(asyncpg.RaiseError, match="not exported"):
        await store.forget(tenant_id, LogFile("log/x", b"", len(rows), last))
    await profiles.parts.archive.export(tenant_id)
    with pytest.raises(asyncpg.RaiseError, match="the file has 1 events"):
        await store.forget(tenant_id, LogFile("log/x", b"", 1, last))
    # Facts are received now.
    with pytest.raises(asyncpg.RaiseError, match="younger than a week"):
        await store.forget(tenant_id, LogFile("log/x", b"", len(rows), last))
    ahead = Place(8_000_000_000, 0)
    await profiles.rows("UPDATE profiles.exports SET xid = '9000000000' WHERE tenant_id = $1", tenant_id)
    with pytest.raises(asyncpg.RaiseError, match="a reader has not handled"):
        await store.forget(tenant_id, LogFile("log/x", b"", len(rows), ahead))
    assert await _count(profiles, tenant_id) == len(rows)


async def test_a_month_of_which_nothing_is_left_is_dropped(platform_database: Temporary, profiles: Profiles) -> None:
    owner = await asyncpg.connect(platform_database.dsn("rapport_owner"), ssl=False)
    try:
        for name, first, last in (("202001", "2020-01-01", "2020-02-01"), ("202002", "2020-02-01", "2020-03-01")):
            bounds = f"FROM ('{first} 00:00Z') TO ('{last} 00:00Z')"
            await owner.execute(f"CREATE TABLE log.events_{name} PARTITION OF log.events FOR VALUES {bounds}")
        insert = "INSERT INTO log.events (tenant_id, received_at, payload) VALUES ('nobody', '2020-02-02', '')"
        await owner.execute(insert)
        assert await RetentionStore(profiles.database).drop_empty_partitions() == 1
        exists = "SELECT to_regclass('log.events_202001')::text, to_regclass('log.events_202002')::text"
        assert tuple((await profiles.rows(exists))[0]) == (None, "log.events_202002")
    finally:
        await owner.close()


async def test_a_person_is_taken_out_of_the_archived_log_and_the_rest_can_still_be_replayed(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await _old(platform_database, profiles, seed=9))[0]
    keys = "SELECT key, count(*) FROM log.events WHERE tenant_id = $1 GROUP BY key ORDER BY 2 DESC, 1"
    (person, count), *_ = await profiles.rows(keys, tenant_id)
    async with limited(profiles, tenant_id, 7) as store:
        moved = (await _forget(profiles, days=400)).event_count
        folder = profiles.folder / "archive" / tenant_id
        long_ago, now = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC)
        assert await redact_log(store, tenant_id, folder, [str(person)], long_ago) == (0, 0)
        assert await redact_log(store, tenant_id, folder, [str(person)], now) == (count, 1)
        assert await redact_log(store, tenant_id, folder, [str(person)], now) == (0, 0)
        assert await store.archived_count(tenant_id) == len(_archived(profiles, tenant_id)) == moved - count
        async with rebuilding(platform_database, profiles) as rebuild:
            await rebuild.swap()
    timeline = "SELECT count(*), count(*) FILTER (WHERE node_id = $2) FROM profiles.timeline WHERE tenant_id = $1"
    assert tuple((await profiles.rows(timeline, tenant_id, person))[0]) == (moved - count, 0)


async def test_a_tenant_says_for_how_long_its_events_stay(profiles: Profiles) -> None:
    service = RetentionRpc(profiles.parts.tenants, RetentionStore(profiles.database))
    get, put = retention_pb2.GetRetentionRequest(), retention_pb2.PutRetentionRequest
    assert (await service.GetRetention(get, None)).retention == retention_pb2.LogRetention()
    assert (await service.PutRetention(put(log_days=365), None)).retention.log_days == 365
    assert (await service.GetRetention(get, None)).retention.log_days == 365
    with pytest.raises(InvalidArgument, match="7 to 36500 days"):
        await service.PutRetention(put(log_days=3), None)
    assert (await service.PutRetention(put(), None)).retention.log_days == 0


@pytest.mark.parametrize(
    ("cursors", "handled"),
    [
        ({"profiles": 9}, 9),
        ({"profiles": 9, "relay": 4}, 4),
        # Followed by way of Kafka: the row of its own stood still when that began.
        ({"profiles": 2, "profiles/0": 8, "profiles/1": 7, "relay": 9}, 7),
        ({"profiles": 8, "profiles/0": 3, "profiles/1": 4}, 8),
        ({"profiles": 9, "profiles again 3:1": 3}, 9),
    ],
)
async def test_the_slowest_reader_says_what_is_handled(
    platform_database: Temporary, cursors: dict[str, int], handled: int
) -> None:
    owner = await asyncpg.connect(platform_database.dsn("rapport_owner"), ssl=False)
    transaction = owner.transaction()
    await transaction.start()
    try:
        await owner.execute("DELETE FROM profiles.log_cursor")
        insert = "INSERT INTO profiles.log_cursor VALUES ($1, $2::text::xid8, 1)"
        await owner.executemany(insert, [(name, str(place)) for name, place in cursors.items()])
        assert tuple(await owner.fetchrow("SELECT xid::text, seq FROM profiles.log_handled") or ()) == (str(handled), 1)
    finally:
        await transaction.rollback()
        await owner.close()
