"""A few of the rounds, and proof that they find a loss where there is one."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from tests.durability.load import PATIENCE_S, Sender
from tests.durability.rounds import SENDERS, Outcome, compare, endure, logged
from tests.durability.stack import Stack, running


@pytest.mark.timeout(900)
def test_what_was_acknowledged_outlives_kill_nine_of_any_part_once(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        outcome = endure(stack, 5, seed=5, say=print)
    print(outcome.table())
    assert outcome.is_good, outcome.table()
    assert outcome.acknowledged > 200
    assert outcome.repeats
    assert set(outcome.recovery_s) == {"postgres", "profiles", "gateway"}


@pytest.mark.timeout(600)
def test_a_database_that_answers_before_it_has_written_is_found_out(tmp_path: Path) -> None:
    """The negative control: the same load, the same comparison, and acknowledgements that are worth nothing."""
    with running(tmp_path) as stack:
        senders = [Sender(stack.url, stack.key, index) for index in range(1, SENDERS + 1)]
        for sender in senders:
            sender.start()
        safe = _acknowledged(senders, 200)
        _weaken(stack)
        for sender in senders:
            sender.go()
        everything = _acknowledged(senders, len(safe) + 400)
        for sender in senders:
            sender.ending.set()
        stack.parts["postgres"].kill()
        stack.parts["postgres"].restart()
        outcome = Outcome()
        compare(outcome, senders, logged(stack))
    print(outcome.table())
    assert outcome.lost, "acknowledged events were to be lost here"
    assert set(outcome.lost) <= everything - safe
    assert not outcome.doubled


def _acknowledged(senders: Sequence[Sender], count: int) -> set[int]:
    """At least so many; then the senders rest."""
    end = time.monotonic() + PATIENCE_S
    while sum(len(sender.acknowledged) for sender in senders) < count:
        assert time.monotonic() < end, [sender.trouble for sender in senders]
        time.sleep(0.01)
    for sender in senders:
        sender.rest()
    return {number for sender in senders for number in sender.acknowledged}


def _weaken(stack: Stack) -> None:
    """Commits return before they are on disk. Profiles refuses such a database when it starts, so it runs already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _weakened(stack)).result()


async def _weakened(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database.admin_dsn, ssl=False)
    try:
        for setting in ("wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("ALTER DATABASE rapport SET synchronous_commit = off")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'rapport'")
    finally:
        await connection.close()
