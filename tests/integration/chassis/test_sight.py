"""Whose rows a connection of the pool shows: the present call's tenant's, and nobody's where there is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import context
from chassis.db import Database, connect, session_lock
from chassis.process import Host
from chassis.settings import ServiceSettings, prefix_of
from infra.postgres import Temporary

A, B = "sight-a", "sight-b"


@pytest_asyncio.fixture
async def database(platform_database: Temporary) -> AsyncIterator[Database]:
    """One connection, so that all share it; a survey of A's and one of B's."""
    pool = await connect(platform_database.dsn("rapport_feedback"), connections=1)
    for tenant in (A, B):
        with context.use(tenant=tenant):
            async with pool.connection() as connection:
                insert = "INSERT INTO feedback.surveys VALUES ($1, 's', 'NPS', 'How?') ON CONFLICT DO NOTHING"
                await connection.execute(insert, tenant)
    yield pool
    await pool.close()


async def seen(database: Database) -> set[str]:
    async with database.connection() as connection:
        return {row[0] for row in await connection.fetch("SELECT tenant_id FROM feedback.surveys")}


async def test_a_connection_shows_the_rows_of_the_present_tenant(database: Database) -> None:
    for tenant in (A, B, A):
        with context.use(tenant=tenant):
            assert await seen(database) == {tenant}
    assert await seen(database) == set()
    with context.everyone():
        assert await seen(database) >= {A, B}
        with context.use(tenant=B):
            assert await seen(database) == {B}
        assert await seen(database) >= {A, B}
    assert await seen(database) == set()


async def test_a_tenant_that_calls_itself_everyone_sees_nothing(database: Database) -> None:
    with context.use(tenant=context.EVERYONE):
        assert await seen(database) == set()
    with context.everyone(), context.use(tenant=context.EVERYONE):
        assert await seen(database) == set()


async def test_a_connection_is_told_only_where_that_changes(database: Database) -> None:
    said: list[str] = []

    def note(query: Any) -> None:
        said.append(query.query)

    with context.use(tenant=A):
        await seen(database)
        async with database.connection() as connection:
            with connection.query_logger(note):
                for _ in range(3):
                    await connection.show(A)  # pyright: ignore
                assert said == []
                await connection.show(B)  # pyright: ignore
    assert len(said) == 1


async def test_what_is_rolled_back_does_not_change_it(database: Database) -> None:
    with context.use(tenant=A):
        with pytest.raises(ZeroDivisionError):
            async with database.transaction():
                raise ZeroDivisionError
        assert await seen(database) == {A}


async def test_a_checkout_that_is_broken_off_leaves_nothing_behind(database: Database) -> None:
    for number in range(50):
        with context.use(tenant=A if number % 2 else B):
            task = asyncio.create_task(seen(database))
        await asyncio.sleep(number / 25_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with context.use(tenant=A):
            assert await seen(database) == {A}


async def test_a_lost_connections_successor_begins_with_nobody(database: Database, platform_database: Temporary) -> None:
    with context.everyone():
        await seen(database)
    admin = await asyncpg.connect(platform_database.admin_dsn, ssl=False)
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rapport_feedback'")
    await admin.close()
    await asyncio.sleep(0.1)
    assert await seen(database) == set()


async def test_background_work_is_for_all_and_a_call_is_for_one(database: Database) -> None:
    class Settings(ServiceSettings):
        model_config = prefix_of("sight")

    host, found = Host("sight", Settings(database_url="unused")), dict[str, set[str]]()  # pyright: ignore[reportCallIssue]
    done = asyncio.Event()

    async def work() -> None:
        found["background"] = await seen(database)

        async def call() -> None:
            context.enter(context.Call(tenant=A))  # as the interceptors do
            found["call"] = await seen(database)
            context.enter(context.Call())
            found["call without a tenant"] = await seen(database)

        await asyncio.create_task(call())
        done.set()

    host.background("work", work)
    async with asyncio.timeout(10):
        await done.wait()
    await host.close()
    assert found["background"] >= {A, B}
    assert found["call"] == {A}
    assert found["call without a tenant"] == set()


TAKE = "SELECT pg_try_advisory_lock(4711)"


async def test_a_lock_of_a_session_ends_with_its_block_whether_or_not_it_was_ours_or_went_well(
    database: Database, platform_database: Temporary
) -> None:
    other: Any = await asyncpg.connect(platform_database.dsn("rapport_feedback"), ssl=False)
    try:
        async with database.connection() as connection, session_lock(connection, TAKE) as is_ours:
            assert is_ours
            assert not await other.fetchval(TAKE)
        assert await other.fetchval(TAKE)
        async with database.connection() as connection, session_lock(connection, TAKE) as is_ours:
            assert not is_ours
        await other.execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(ZeroDivisionError):
            async with database.connection() as connection, session_lock(connection, TAKE):
                raise ZeroDivisionError
        assert await other.fetchval(TAKE)
    finally:
        await other.close()


async def break_while_locked(database: Database) -> None:
    async with database.connection() as connection, session_lock(connection, TAKE):
        await connection.execute("BEGIN")
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")


async def test_a_session_that_cannot_unlock_is_ended(database: Database, platform_database: Temporary) -> None:
    other: Any = await asyncpg.connect(platform_database.dsn("rapport_feedback"), ssl=False)
    try:
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await break_while_locked(database)
        # It waits until the other session is gone.
        await other.execute(TAKE.replace("try_", ""), timeout=10)
        assert await seen(database) == set()
    finally:
        await other.close()
