"""Projections built anew beside the live ones: the same rows, reads that never fail, nothing told twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.db import connect
from infra.postgres import Temporary
from services.profiles.rebuild import Failed, Rebuild
from services.profiles.store.rebuild import NEXT, PROJECTIONS, Compared, RebuildStore, Stretch
from services.profiles.store.retention import RetentionStore
from tests.integration.profiles.conftest import RECEIVED, Profiles

# Tables of the schema that no event alone could bring back, or that say how things are going.
OTHERS = {
    "tenants", "person_keys", "rejections", "intake_counts", "log_cursor", "freshness", "exports", "export_files",
    "log_retention", "log_floors", "log_files", "migrations",
    "repeats", "plans", "quarantine", "plan_violations", "import_jobs", "import_rejections", "identity_rules", "erasures",
    "computed_traits", "computed_trait_queries", "match_runs", "match_suggestions",
    "purposes",
}  # fmt: skip


@asynccontextmanager
async def rebuilding(database: Temporary, profiles: Profiles) -> AsyncIterator[Rebuild]:
    async with AsyncExitStack() as stack:
        owner = await connect(database.dsn("rapport_owner"), connections=4, service="test-rebuild")
        stack.push_async_callback(owner.close)
        writer = await connect(
            f"{database.dsn('rapport_profiles')}?search_path={NEXT}", connections=2, service="test-rebuild", everyone=True
        )
        stack.push_async_callback(writer.close)
        store = RebuildStore(owner)
        stack.push_async_callback(store.drop)
        stack.enter_context(context.everyone())
        yield Rebuild(store, RetentionStore(writer), writer, profiles.parts.tenants, profiles.folder / "archive")


def calls(chance: random.Random, count: int, *, users: int = 12) -> list[dict[str, Any]]:
    """Visits, traits, orders and links of some people and devices, in no order of time."""
    return [_call(chance, f"{chance.getrandbits(64):x}", users) for _ in range(count)]


def _call(chance: random.Random, message_id: str, users: int) -> dict[str, Any]:
    who = chance.choice([{"userId": f"u{chance.randrange(users)}"}, {"anonymousId": f"a{chance.randrange(users)}"}])
    if chance.random() < 0.15:
        who = {"userId": f"u{chance.randrange(users)}", "anonymousId": f"a{chance.randrange(users)}"}
    moment = RECEIVED - timedelta(minutes=chance.randrange(100_000))
    call: dict[str, Any] = {"messageId": message_id, "timestamp": moment.isoformat(), **who}
    match chance.randrange(4):
        case 0:
            traits = {"plan": chance.choice("abc"), "email": f"{chance.randrange(9)}@example.com"}
            return call | {"type": "identify", "traits": traits}
        case 1 if chance.random() < 0.3:
            said = {purpose: chance.random() < 0.5 for purpose in chance.sample(["ads", "news", "profiling"], 2)}
            consent = {"context": {"consent": {"categoryPreferences": said}}}
            return call | {"type": "track", "event": "Segment Consent Preference Updated", **consent}
        case 1:
            return call | {"type": "track", "event": "Order Completed", "properties": {"revenue": chance.randrange(99)}}
        case 2 if "userId" in who:
            alias = {"userId": who["userId"], "previousId": f"a{chance.randrange(users)}"}
            return {"messageId": message_id, "timestamp": moment.isoformat(), "type": "alias", **alias}
        case _:
            return call | {"type": "page", "properties": {"path": "/"}}


async def fill(profiles: Profiles, *, tenants: int = 3, batches: int = 6, seed: int = 1) -> list[str]:
    """Several tenants with merges, late events and duplicates."""
    chance, made = random.Random(seed), list[str]()
    for _ in range(tenants):
        made.append(f"r{uuid.uuid4().hex[:12]}")
        with context.use(tenant=made[-1]):
            await profiles.create()
            sent = list[dict[str, Any]]()
            for number in range(batches):
                batch = calls(chance, 40) + (chance.sample(sent, 10) if sent else [])
                sent += batch[:40]
                await profiles.send(*batch, received=RECEIVED + timedelta(hours=number))
    await profiles.settled()
    return made


def differing(compared: Sequence[Compared]) -> list[Compared]:
    return [each for each in compared if not each.equal]


async def test_every_table_of_the_schema_is_a_projection_or_known_to_be_none(profiles: Profiles) -> None:
    rows = await profiles.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'profiles'")
    unknown = {row[0] for row in rows} - set(PROJECTIONS) - OTHERS
    assert not unknown, "say in PROJECTIONS or here whether the log can bring these back"


async def test_a_replay_says_what_the_live_tables_say(platform_database: Temporary, profiles: Profiles) -> None:
    tenants = await fill(profiles)
    log_rows = "SELECT count(*) FROM log.events"
    before = (await profiles.rows(log_rows))[0][0]
    merges = "SELECT count(*) FROM profiles.timeline WHERE name = 'Profile Merged' AND tenant_id = ANY($1)"
    assert (await profiles.rows(merges, tenants))[0][0] > 10
    async with rebuilding(platform_database, profiles) as rebuild:
        compared = await rebuild.compare()
    assert differing(compared) == []
    assert {each.table: each.row_count for each in compared}["consents"] > 10
    assert {each.table for each in compared if each.row_count > 20} >= {"nodes", "links", "node_profiles", "traits", "timeline"}
    # What was announced when it happened is not announced again.
    assert (await profiles.rows(log_rows))[0][0] == before


async def test_a_comparison_finds_a_row_that_is_wrong(platform_database: Temporary, profiles: Profiles) -> None:
    tenant_id = (await fill(profiles, tenants=1))[0]
    spoil = "UPDATE profiles.profiles SET event_count = event_count + $2 WHERE tenant_id = $1 AND identified"
    async with rebuilding(platform_database, profiles) as rebuild:
        changed = len(await profiles.rows(f"{spoil} RETURNING 1", tenant_id, 1))
        try:
            compared = await rebuild.compare()
        finally:
            await profiles.rows(spoil, tenant_id, -1)
    assert [(each.table, each.live_only, each.next_only) for each in differing(compared)] == [("profiles", changed, changed)]


class Traffic:
    """Reads and writes of a tenant, without a pause, until told to end."""

    def __init__(self, profiles: Profiles, tenant_id: str) -> None:
        self._profiles = profiles
        self._tenant_id = tenant_id
        self.reads = self.writes = 0
        self.slowest_s = 0.0
        self.ending = False

    async def read(self) -> None:
        loop = asyncio.get_running_loop()
        with context.use(tenant=self._tenant_id):
            while not self.ending:
                started = loop.time()
                assert (await self._profiles.profile("user_id:u1")).event_count
                assert await self._profiles.events("user_id:u1")
                rows = await self._profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=["user_id:u1", "user_id:u2"]))
                assert len(rows.rows) == 2
                assert (await self._profiles.stub.ListProfiles(pb.ListProfilesRequest(page_size=5))).profiles
                self.slowest_s = max(self.slowest_s, loop.time() - started)
                self.reads += 4

    async def write(self, seed: int) -> None:
        chance = random.Random(seed)
        with context.use(tenant=self._tenant_id):
            while not self.ending:
                await self._profiles.send(*calls(chance, 20))
                self.writes += 20
                await asyncio.sleep(0.02)


async def test_tables_are_swapped_under_reads_and_writes_and_nobody_notices(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await fill(profiles, tenants=1, seed=5))[0]
    with context.use(tenant=tenant_id):
        await profiles.take({"type": "page", "userId": "u1"}, {"type": "page", "userId": "u2"})
    oid = "SELECT 'profiles.timeline'::regclass::oid::bigint"
    traffic, seen = Traffic(profiles, tenant_id), {(await profiles.rows(oid))[0][0]}
    tasks = [asyncio.create_task(traffic.read()) for _ in range(3)] + [asyncio.create_task(traffic.write(7))]
    async with rebuilding(platform_database, profiles) as rebuild:
        for _ in range(3):
            await rebuild.swap()
            seen.add((await profiles.rows(oid))[0][0])
            await asyncio.sleep(0.3)
        traffic.ending = True
        await asyncio.gather(*tasks)
        await profiles.settled()
        compared = await rebuild.compare()
    assert len(seen) == 4
    assert traffic.reads > 100
    assert traffic.writes > 100
    assert differing(compared) == []
    print(f"{traffic.reads} reads, {traffic.writes} events, slowest four reads {traffic.slowest_s:.2f} s")


async def test_new_tables_have_the_keys_indexes_options_and_policies_of_the_old(
    platform_database: Temporary, profiles: Profiles
) -> None:
    shape = """
    SELECT tablename, indexname, replace(indexdef, 'profiles_next.', 'profiles.') FROM pg_indexes
    WHERE schemaname = 'profiles' UNION ALL
    SELECT relname, array_to_string(reloptions, ','), relacl::text FROM pg_class
    WHERE relnamespace = 'profiles'::regnamespace AND relkind = 'r'
    ORDER BY 1, 2
    """
    guarded = """
    SELECT class.relname, relrowsecurity, relforcerowsecurity, policyname, permissive, roles::text[], cmd, qual, with_check
    FROM pg_class AS class LEFT JOIN pg_policies AS policy ON schemaname = 'profiles' AND tablename = relname
    WHERE relnamespace = 'profiles'::regnamespace AND relkind = 'r' ORDER BY 1, 4
    """
    before, policies = await profiles.rows(shape), await profiles.rows(guarded)
    assert ("timeline", True, "tenant") in [(row[0], row[1], row[3]) for row in policies]
    owner = await asyncpg.connect(platform_database.dsn("rapport_owner"), ssl=False)
    try:  # one with all its parts
        await owner.execute(
            "CREATE POLICY more ON profiles.links AS RESTRICTIVE FOR INSERT TO rapport_profiles WITH CHECK (true)"
        )
        policies = await profiles.rows(guarded)
        async with rebuilding(platform_database, profiles) as rebuild:
            await rebuild.swap()
        assert await profiles.rows(guarded) == policies
    finally:
        await owner.execute("DROP POLICY more ON profiles.links")
        await owner.close()
    after = await profiles.rows(shape)
    assert [tuple(row)[:2] for row in after] == [tuple(row)[:2] for row in before]
    assert any("fillfactor=80" in (row[1] or "") for row in after)


async def test_only_a_stretch_is_replayed_and_it_never_takes_the_place_of_the_live_tables(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await fill(profiles, tenants=1))[0]
    stretch = Stretch(RECEIVED + timedelta(hours=2), RECEIVED + timedelta(hours=4))
    count = "SELECT count(*) FROM {}.timeline WHERE tenant_id = $1 AND name <> 'Profile Merged'"
    only = count.format("profiles") + " AND received_at >= $2 AND received_at < $3"
    async with rebuilding(platform_database, profiles) as rebuild:
        await rebuild.replay(stretch)
        expected = await profiles.rows(only, tenant_id, stretch.received_from, stretch.received_until)
        assert await profiles.rows(count.format(NEXT), tenant_id) == expected
        assert expected[0][0] == 80
        with pytest.raises(Failed, match="another stretch"):
            await rebuild.swap()
        assert await rebuild.store.drop()
        assert not await rebuild.store.drop()


async def test_a_killed_rebuild_goes_on_where_it_was(platform_database: Temporary, profiles: Profiles) -> None:
    await fill(profiles, tenants=2, batches=20)
    place = f"SELECT xid::text, seq FROM {NEXT}.log_cursor WHERE consumer = 'profiles'"
    process = _command(platform_database, profiles, "--share", "0.1")
    async with asyncio.timeout(60):
        while not (await profiles.rows(f"SELECT to_regclass('{NEXT}.log_cursor')"))[0][0] or not await profiles.rows(place):
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = (await profiles.rows(place))[0]
    code, output = await _ended(_command(platform_database, profiles, "--compare", "--share", "1"))
    assert (code, output.splitlines()[-1]) == (0, "equal")
    assert int(first[0]) > 0
    # What is beside the live tables is removed; a second time there is nothing.
    assert await _ended(_command(platform_database, profiles, "--drop")) == (0, "there was nothing to remove\n")


async def test_tables_from_before_an_erasure_never_take_the_place_of_the_live_ones(
    platform_database: Temporary, profiles: Profiles
) -> None:
    tenant_id = (await fill(profiles, tenants=1))[0]
    erased = """
    INSERT INTO profiles.erasures
        (tenant_id, erasure_id, profile_id, node_ids, reason, actor, services, destroyed_at, completed_at)
    VALUES ($1, gen_random_uuid(), gen_random_uuid(), '{}', 'asked', 'test', '{}', now(), now())
    """
    oid = "SELECT 'profiles.timeline'::regclass::oid::bigint"
    before = await profiles.rows(oid)
    async with rebuilding(platform_database, profiles) as rebuild:
        await rebuild.store.make(Stretch())
        await profiles.rows(erased, tenant_id)
        with pytest.raises(Failed, match="somebody was erased"):
            await rebuild.swap()
        assert await profiles.rows(oid) == before
        await rebuild.store.drop()
        await rebuild.swap()
    assert await profiles.rows(oid) != before


async def test_two_rebuilds_at_once_are_refused(platform_database: Temporary, profiles: Profiles) -> None:
    async with rebuilding(platform_database, profiles) as rebuild, rebuild.store.alone() as mine:
        assert mine
        code, output = await _ended(_command(platform_database, profiles))
        assert code == 1
        assert "is running already" in output
    async with rebuilding(platform_database, profiles) as rebuild, rebuild.store.alone() as mine:
        assert mine


def _command(database: Temporary, profiles: Profiles, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        "RAPPORT_PROFILES_DATABASE_URL": database.dsn("rapport_profiles"),
        "RAPPORT_PROFILES_MASTER_KEY_FILE": str(profiles.folder / "master.key"),
        "RAPPORT_PROFILES_ARCHIVE_FOLDER": str(profiles.folder / "archive"),
        "RAPPORT_MIGRATE_URL": database.dsn("rapport_owner"),
    }
    command = [sys.executable, "-m", "services.profiles.rebuild", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


async def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = await asyncio.to_thread(process.communicate, timeout=120)
    return process.returncode, output
