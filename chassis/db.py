"""PostgreSQL through asyncpg: a pool whose lost connections are answered with Unavailable at once, not with a traceback."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from chassis import telemetry
from chassis.errors import Reason, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = Any

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.InterfaceError,
    # The server's farewell, where it comes between two statements.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


def affected(command_tag: str) -> int:
    """How many rows a statement wrote, by what `execute` answers: "INSERT 0 3", "DELETE 2"."""
    return int(command_tag.rsplit(" ", 1)[1])


class Database:
    """A pool of connections. Everything in one `transaction()` is written, or nothing is."""

    def __init__(self, pool: "asyncpg.Pool[Any]", acquire_timeout_s: float = 2.0) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """A connection inside a transaction. Raises Unavailable where the database is gone."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection outside any transaction, for single statements."""
        try:
            async with self._pool.acquire(timeout=self._acquire_timeout_s) as connection:
                yield connection
        except _LOST as error:
            telemetry.DATABASE_FAILURES.inc()
            raise Unavailable("the database does not answer", reason=Reason.DATABASE_UNAVAILABLE, retry_after_s=1.0) from error

    async def close(self) -> None:
        """Ends the connections; those in use get five seconds."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def connect(url: str, *, connections: int = 8, service: str = "rapport", patience_s: float = 30.0) -> Database:
    """A pool of 1 to `connections`. Waits up to `patience_s` for a database that is still starting."""
    end = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections,
                command_timeout=30.0,
                timeout=5.0,
                max_inactive_connection_lifetime=60.0,
                server_settings={"application_name": service, "timezone": "UTC"},
            )
            return Database(pool)
        except (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, OSError, TimeoutError):
            if asyncio.get_running_loop().time() > end:
                where = urlsplit(url)
                message = f"the database at {where.hostname}:{where.port or 5432} does not answer"
                raise Unavailable(message, reason=Reason.DATABASE_UNAVAILABLE) from None
            await asyncio.sleep(0.2)
