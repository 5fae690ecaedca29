"""PostgreSQL through asyncpg: a pool whose lost connections are answered with Unavailable at once, not with a traceback.

A connection shows the rows of the present call's tenant (`context.seen`), by the policies of chassis/row_security.py.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import asyncpg

from chassis import context, telemetry
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


# Named by every policy.
_SETTING: Final = "rapport.tenant"
_SHOW: Final = f"SELECT set_config('{_SETTING}', $1, false)"


class _Session(asyncpg.Connection[asyncpg.Record] if TYPE_CHECKING else asyncpg.Connection):
    """Knows whose rows it shows, so that it is told only when that changes."""

    __slots__ = ("_shown",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shown: str | None = context.NOBODY  # by `connect`, below

    async def show(self, whose: str) -> None:
        if self._shown != whose:
            self._shown = None  # if this is broken off, nobody knows
            await self.execute(_SHOW, whose)
            self._shown = whose

    def get_reset_query(self) -> str:
        """None, which spares every use a second trip: nothing but the above stays in a session, and `session_lock` unlocks."""
        return ""


@asynccontextmanager
async def session_lock(
    connection: Connection, statement: str, *arguments: object, timeout_s: float | None = None
) -> AsyncGenerator[Any]:
    """What the statement that takes an advisory lock of the session answers. All such locks are let go at the end."""
    try:
        yield await connection.fetchval(statement, *arguments, timeout=timeout_s)
    finally:
        try:
            await connection.execute("SELECT pg_advisory_unlock_all()")
        except BaseException:
            connection.terminate()  # and with it its locks: the pool would hand them on
            raise


def affected(command_tag: str) -> int:
    """How many rows a statement wrote, by what `execute` answers: "INSERT 0 3", "DELETE 2"."""
    return int(command_tag.rsplit(" ", 1)[1])


class Database:
    """A pool of connections. Everything in one `transaction()` is written, or nothing is.

    `unnamed`: whose rows are shown where the present call names no tenant.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", acquire_timeout_s: float = 2.0, *, unnamed: str = context.NOBODY) -> None:
        self._pool = pool
        self._unnamed = unnamed
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
                await cast(_Session, connection).show(context.seen() or self._unnamed)
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


async def connect(
    url: str,
    *,
    connections: int = 8,
    service: str = "rapport",
    patience_s: float = 30.0,
    everyone: bool = False,
    session: Mapping[str, str] | None = None,
) -> Database:
    """A pool of 1 to `connections`. Waits up to `patience_s` for a database that is still starting.

    `everyone`: for a process that takes no calls and works for all tenants; where no tenant is named, it sees them all.
    `session`: further settings of each connection.
    """
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
                server_settings={**(session or {}), "application_name": service, "timezone": "UTC", _SETTING: context.NOBODY},
                connection_class=_Session,
            )
            return Database(pool, unnamed=context.EVERYONE if everyone else context.NOBODY)
        except (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, OSError, TimeoutError):
            if asyncio.get_running_loop().time() > end:
                where = urlsplit(url)
                message = f"the database at {where.hostname}:{where.port or 5432} does not answer"
                raise Unavailable(message, reason=Reason.DATABASE_UNAVAILABLE) from None
            await asyncio.sleep(0.2)
