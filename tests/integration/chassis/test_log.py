"""A reader of the log, of PostgreSQL's and of Kafka's: it never skips what commits late, and each row counts once."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from google.rpc.status_pb2 import Status
from prometheus_client import REGISTRY

from chassis.errors import Conflict
from chassis.log import Position, PostgresLog, Record, messages
from tests.integration.chassis.logs import INSERT, INSERT_OF, NOW, World, running, until

# What a reader would ask that orders by the sequence alone: rows become visible in another order than they are numbered.
NAIVE = "SELECT seq, payload FROM log.events WHERE seq > $1 ORDER BY seq LIMIT 100"


async def test_a_reader_waits_for_what_commits_late_where_a_naive_one_skips_it(either: World) -> None:
    early, late = await either.writer(), await either.writer()
    naive = await either.writer()
    slow = early.transaction()
    await slow.start()
    await early.execute(INSERT, NOW, [b"began first"])  # has the smaller transaction id and the smaller sequence
    await late.execute(INSERT, NOW, [b"committed first"])

    seen = await naive.fetch(NAIVE, 0)
    assert [row["payload"] for row in seen] == [b"committed first"]
    assert await either.read_all() == []  # not yet: an older transaction is still running

    await slow.commit()
    assert await naive.fetch(NAIVE, seen[-1]["seq"]) == [], "the naive reader never sees it: the control works"
    assert await either.read_all() == [b"began first", b"committed first"]
    for connection in (early, late, naive):
        await connection.close()


async def test_a_transaction_that_began_first_and_wrote_last_is_not_skipped(either: World) -> None:
    early = await either.writer()
    slow = early.transaction()
    await slow.start()
    await early.fetchval("SELECT pg_current_xact_id()")
    await either.write(b"a")
    await early.execute(INSERT, NOW, [b"b"])  # the smaller transaction id, the greater sequence
    assert await either.read_all() == []
    await slow.commit()
    assert sorted(await either.read_all()) == [b"a", b"b"]
    await early.close()


async def test_what_is_rolled_back_holds_nobody_up_afterwards(either: World) -> None:
    early = await either.writer()
    slow = early.transaction()
    await slow.start()
    await early.execute(INSERT, NOW, [b"never"])
    await either.write(b"kept")
    assert await either.read_all() == []
    await slow.rollback()
    assert await either.read_all() == [b"kept"]
    await early.close()


async def test_order_is_by_number_also_where_transaction_ids_grow_a_digit(either: World) -> None:
    """As text '10' comes before '9': a batch that ended there would leave rows behind for ever."""
    insert = (
        "INSERT INTO log.events (xid, tenant_id, received_at, payload) SELECT $1::text::xid8, 't', $2, $1::text::bytea "
        "FROM generate_series(1, 2)"
    )
    async with either.database.transaction() as connection:
        for xid in ("100", "9", "11", "8", "99", "10", "101"):
            await connection.execute(insert, xid, NOW)
    expected = [xid for xid in (b"8", b"9", b"10", b"11", b"99", b"100", b"101") for _ in range(2)]
    assert await either.read_all(batch=3) == expected


async def test_rows_of_all_partitions_come_in_one_order_and_in_batches(either: World) -> None:
    expected = []
    for number in range(20):
        await either.write(b"%d" % number, received=NOW + timedelta(days=31 * (number % 2)))
        expected.append(b"%d" % number)
    assert await either.read_all(batch=3) == expected


async def test_the_position_outlives_the_reader(either: World) -> None:
    await either.write(b"a", b"b", b"c")
    reader = either.reader(batch=2)
    while len(either.handled) < 2:
        await reader.step(either.handle)
    await either.write(b"d")
    await either.close()
    await either.read_all()
    assert either.handled == [b"a", b"b", b"c", b"d"]
    assert await either.reader().lag() == 0


async def test_work_that_fails_is_done_again_and_work_that_is_done_is_not(either: World) -> None:
    await either.write(b"a", b"b")
    attempts = 0

    async def handle(records: Sequence[Record], position: Position) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("the work fails once")
        await either.handle(records, position)

    async def handled_both() -> bool:
        return len(either.handled) == 2

    async with running(lambda: either.reader().follow(handle)):
        await until(handled_both)
    assert either.handled == [b"a", b"b"]
    assert attempts == 2


async def test_of_two_readers_of_one_consumer_only_one_gets_a_batch(world: World) -> None:
    await world.write(*[b"%d" % number for number in range(10)])
    meeting = asyncio.Barrier(2)

    async def handle(records: Sequence[Record], position: Position) -> None:
        await meeting.wait()
        await world.handle(records, position)

    outcomes = await asyncio.gather(world.reader().step(handle), world.reader().step(handle), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome != 10] == [Conflict]
    assert world.handled == [b"%d" % number for number in range(10)]


async def test_many_writers_at_once_lose_nothing_and_each_tenant_s_order_holds(either: World) -> None:
    """A reader that runs all the time, and transactions that take different times."""
    reader = either.reader(batch=7)

    async def write(worker: int) -> None:
        connection = await either.writer()
        for number in range(20):
            async with connection.transaction():
                await connection.execute(INSERT_OF, NOW, [b"%d-%d" % (worker, number)], f"tenant-{worker % 3}")
                await asyncio.sleep(0.001 * ((worker * 7 + number * 3) % 11))
        await connection.close()

    async def caught_up() -> bool:
        return await reader.lag() == 0

    async with running(lambda: reader.follow(either.handle)):
        await asyncio.gather(*(write(worker) for worker in range(5)))
        await until(caught_up)
    assert sorted(either.handled) == sorted(b"%d-%d" % (worker, number) for worker in range(5) for number in range(20))
    rows = await PostgresLog(either.database).read(0, 0, 1_000)
    for tenant in ("tenant-0", "tenant-1", "tenant-2"):
        handled = [payload for its, payload in await either.effects() if its == tenant]
        assert handled == [row.payload for row in rows if row.tenant_id == tenant]


async def test_lag_is_what_waits(either: World) -> None:
    assert await either.reader().lag() == 0
    await either.write(b"a", b"b", b"c")
    assert await either.reader().lag() == 3
    await either.read_all()
    assert await either.reader().lag() == 0


async def test_work_is_done_once_though_its_reader_dies_before_and_after_its_commit(either: World) -> None:
    """What has not been committed is done again; what has been is not, though nobody was told of it."""
    await either.write(*(b"%d" % number for number in range(20)), tenant="a")
    await either.write(*(b"%d" % number for number in range(20)), tenant="b")
    deaths = 0

    async def handle(records: Sequence[Record], position: Position) -> None:
        nonlocal deaths
        deaths += 1
        if deaths % 2:
            async with either.database.transaction() as connection:
                await connection.execute("INSERT INTO reading.effects (consumer, payload) VALUES ('test', 'undone')")
                raise asyncio.CancelledError
        await either.handle(records, position)
        if deaths < 9:
            raise asyncio.CancelledError

    while len(either.handled) < 40:
        reader = either.reader(batch=7)
        with suppress(asyncio.CancelledError):
            while len(either.handled) < 40:
                await reader.step(handle)
        await either.close()
    assert deaths > 4
    assert sorted(await either.effects()) == sorted((tenant, b"%d" % number) for tenant in "ab" for number in range(20))


def test_what_is_no_message_is_counted_and_holds_up_no_other() -> None:
    payloads = [b"\xff no message", Status(message="good").SerializeToString()]
    records = [Record(1, number, "t", None, NOW, payload) for number, payload in enumerate(payloads)]
    assert [(record.seq, status.message) for record, status in messages(records, Status, "spoilt")] == [(1, "good")]
    assert REGISTRY.get_sample_value("rapport_log_reader_unreadable_events_total", {"consumer": "spoilt"}) == 1
