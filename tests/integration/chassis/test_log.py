"""The reader of the log against a real PostgreSQL: it never skips what commits late, and each row counts once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from google.rpc.status_pb2 import Status
from prometheus_client import REGISTRY

from chassis.errors import Conflict
from chassis.log import Position, PostgresLog, Record, messages
from tests.integration.chassis.logs import INSERT, NOW, World

# What a reader would ask that orders by the sequence alone: rows become visible in another order than they are numbered.
NAIVE = "SELECT seq, payload FROM log.events WHERE seq > $1 ORDER BY seq LIMIT 100"


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    until = time.monotonic() + 30
    while not await done():
        assert time.monotonic() < until, "it takes too long"
        await asyncio.sleep(0.01)


async def test_a_reader_waits_for_what_commits_late_where_a_naive_one_skips_it(world: World) -> None:
    early, late = await world.writer(), await world.writer()
    naive = await world.writer()
    slow = early.transaction()
    await slow.start()
    await early.execute(INSERT, NOW, [b"began first"])  # has the smaller transaction id and the smaller sequence
    await late.execute(INSERT, NOW, [b"committed first"])

    seen = await naive.fetch(NAIVE, 0)
    assert [row["payload"] for row in seen] == [b"committed first"]
    assert await world.read_all() == []  # not yet: an older transaction is still running

    await slow.commit()
    assert await naive.fetch(NAIVE, seen[-1]["seq"]) == [], "the naive reader never sees it: the control works"
    assert await world.read_all() == [b"began first", b"committed first"]
    for connection in (early, late, naive):
        await connection.close()


async def test_a_transaction_that_began_first_and_wrote_last_is_not_skipped(world: World) -> None:
    early = await world.writer()
    slow = early.transaction()
    await slow.start()
    await early.fetchval("SELECT pg_current_xact_id()")
    await world.write(b"a")
    await early.execute(INSERT, NOW, [b"b"])  # the smaller transaction id, the greater sequence
    assert await world.read_all() == []
    await slow.commit()
    assert sorted(await world.read_all()) == [b"a", b"b"]
    await early.close()


async def test_what_is_rolled_back_holds_nobody_up_afterwards(world: World) -> None:
    early = await world.writer()
    slow = early.transaction()
    await slow.start()
    await early.execute(INSERT, NOW, [b"never"])
    await world.write(b"kept")
    assert await world.read_all() == []
    await slow.rollback()
    assert await world.read_all() == [b"kept"]
    await early.close()


async def test_order_is_by_number_also_where_transaction_ids_grow_a_digit(world: World) -> None:
    """As text '10' comes before '9': a batch that ended there would leave rows behind for ever."""
    insert = (
        "INSERT INTO log.events (xid, tenant_id, received_at, payload) SELECT $1::text::xid8, 't', $2, $1::text::bytea "
        "FROM generate_series(1, 2)"
    )
    async with world.database.connection() as connection:
        for xid in ("100", "9", "11", "8", "99", "10", "101"):
            await connection.execute(insert, xid, NOW)
    expected = [xid for xid in (b"8", b"9", b"10", b"11", b"99", b"100", b"101") for _ in range(2)]
    assert await world.read_all(batch=3) == expected


async def test_rows_of_all_partitions_come_in_one_order_and_in_batches(world: World) -> None:
    expected = []
    for number in range(20):
        await world.write(b"%d" % number, received=NOW + timedelta(days=31 * (number % 2)))
        expected.append(b"%d" % number)
    assert await world.read_all(batch=3) == expected


async def test_the_position_outlives_the_reader(world: World) -> None:
    await world.write(b"a", b"b", b"c")
    await world.reader(batch=2).step(world.handle)
    await world.write(b"d")
    assert await world.read_all() == [b"c", b"d"]
    assert await world.reader().lag() == 0


async def test_work_that_fails_is_done_again_and_work_that_is_done_is_not(world: World) -> None:
    await world.write(b"a", b"b")
    attempts = 0

    async def handle(records: Sequence[Record], position: Position) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("the work fails once")
        await world.handle(records, position)

    following = asyncio.create_task(world.reader().follow(handle))

    async def handled_both() -> bool:
        return len(world.handled) == 2

    await _until(handled_both)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert world.handled == [b"a", b"b"]
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


async def test_many_writers_at_once_lose_nothing(world: World) -> None:
    """A reader that runs all the time, and transactions that take different times."""
    reader = world.reader(batch=7)
    following = asyncio.create_task(reader.follow(world.handle))

    async def write(worker: int) -> None:
        connection = await world.writer()
        for number in range(20):
            async with connection.transaction():
                await connection.execute(INSERT, NOW, [b"%d-%d" % (worker, number)])
                await asyncio.sleep(0.001 * ((worker * 7 + number * 3) % 11))
        await connection.close()

    await asyncio.gather(*(write(worker) for worker in range(5)))

    async def caught_up() -> bool:
        return await reader.lag() == 0

    await _until(caught_up)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert sorted(world.handled) == sorted(b"%d-%d" % (worker, number) for worker in range(5) for number in range(20))
    assert await PostgresLog(world.database).read(0, 0, 1), "the log itself is still there"


def test_what_is_no_message_is_counted_and_holds_up_no_other() -> None:
    payloads = [b"\xff no message", Status(message="good").SerializeToString()]
    records = [Record(1, number, "t", None, NOW, payload) for number, payload in enumerate(payloads)]
    assert [(record.seq, status.message) for record, status in messages(records, Status, "spoilt")] == [(1, "good")]
    assert REGISTRY.get_sample_value("rapport_log_reader_unreadable_events_total", {"consumer": "spoilt"}) == 1
