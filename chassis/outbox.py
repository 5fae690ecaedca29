"""Facts that a service writes in its own transaction, and that a task sends on to the log: never lost, never only half told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rapport.log.v1.log_pb2 import Traced

from chassis import context, telemetry, tracing
from chassis.db import Connection, Database
from chassis.errors import Unavailable

# Put into the first migration of each service that uses it.
TABLE: Final = """
CREATE TABLE {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, fact bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)"""

_OLDEST: Final = """
SELECT id, tenant_id, fact, extract(epoch FROM now() - created_at)::float8 AS age_s FROM {schema}.outbox ORDER BY id LIMIT $1
"""

# Appends serialized facts for the tenant of the present call; a repeat must do no harm.
Append = Callable[[Sequence[bytes]], Awaitable[None]]


class Outbox:
    """The table <schema>.outbox."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._wake = asyncio.Event()

    async def add(self, connection: Connection, tenant_id: str, facts: Sequence[bytes]) -> None:
        """Writes facts in the caller's transaction, each with its span: what follows a message's bytes is a part of it."""
        if facts:
            span = Traced(traceparent=tracing.recorded()).SerializeToString()
            insert = f"INSERT INTO {self._schema}.outbox (tenant_id, fact) SELECT $1, unnest($2::bytea[])"
            await connection.execute(insert, tenant_id, [fact + span for fact in facts])
            self._wake.set()

    async def send(self, database: Database, append: Append, *, batch: int = 500, idle_s: float = 0.5) -> None:
        """Runs for ever: oldest first, one tenant at a time; deletes what the log has."""
        while True:
            try:
                sent = await self._send_some(database, append, batch)
                if sent < batch:
                    telemetry.OUTBOX_PENDING.labels(self._schema).set(0)
                    telemetry.OUTBOX_AGE.labels(self._schema).set(0.0)
            except Unavailable:
                sent = 0
                await asyncio.sleep(1.0)
            if sent < batch:
                await self._pause(idle_s)

    async def _pause(self, idle_s: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(idle_s):
                await self._wake.wait()
                await asyncio.sleep(0.01)  # the transaction that woke us is about to commit
        except TimeoutError:
            pass

    async def _send_some(self, database: Database, append: Append, batch: int) -> int:
        async with database.connection() as connection:
            rows = await connection.fetch(_OLDEST.format(schema=self._schema), batch)
        # Before the log is asked: where it does not answer, they go on waiting.
        telemetry.OUTBOX_PENDING.labels(self._schema).set(len(rows))
        telemetry.OUTBOX_AGE.labels(self._schema).set(rows[0]["age_s"] if rows else 0.0)
        for tenant_id in dict.fromkeys(row["tenant_id"] for row in rows):
            mine = [row for row in rows if row["tenant_id"] == tenant_id]
            with context.use(tenant=tenant_id, actor=self._schema, request_id=context.new_request_id()):
                await append([row["fact"] for row in mine])
            async with database.connection() as connection:
                await connection.execute(f"DELETE FROM {self._schema}.outbox WHERE id = ANY($1)", [row["id"] for row in mine])
        return len(rows)
