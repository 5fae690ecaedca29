"""Who changed what, and when: a log that is only added to, each row sealed with the hash of the one before.

A change is written down before it is made, and how it ended after: what a process that died had begun is there too.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from chassis import context
from chassis.db import Connection, Database
from chassis.errors import Unavailable

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('gateway audit ' || $1, 0))"
_LAST: Final = "SELECT audit_id, hash FROM gateway.audit WHERE tenant_id = $1 ORDER BY audit_id DESC LIMIT 1"
_COLUMNS: Final = "tenant_id, audit_id, at, actor, action, target, request_id, answers, status, hash"
_ADD: Final = f"INSERT INTO gateway.audit ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_PAGE: Final = """
SELECT asked.audit_id, asked.at, asked.actor, asked.action, asked.target, asked.request_id, ended.status, asked.hash
FROM gateway.audit AS asked LEFT JOIN gateway.audit AS ended ON ended.tenant_id = $1 AND ended.answers = asked.audit_id
WHERE asked.tenant_id = $1 AND asked.answers IS NULL AND asked.audit_id < $2 ORDER BY asked.audit_id DESC LIMIT $3
"""
_STEP: Final = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """As it is stored, without its hash. `answers` and `status` only where it tells how a request ended."""

    tenant_id: str
    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    request_id: str
    answers: int | None = None
    status: int | None = None

    def hash_after(self, previous: bytes) -> bytes:
        """32 bytes that depend on this row and on all before it."""
        said = (
            self.tenant_id, self.audit_id, self.at.astimezone(UTC).isoformat(timespec="microseconds"), self.actor, self.action,
            self.target, self.request_id, self.answers, self.status,
        )  # fmt: skip
        return sha256(previous + msgspec.json.encode(said)).digest()


@dataclass(frozen=True, slots=True)
class Change:
    """A change, and how it ended: `status` is HTTP's, None where nobody knows."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    request_id: str
    status: int | None
    hash: bytes


@dataclass(slots=True)
class Ending:
    """How a change ended: HTTP's status."""

    status: int = 200


class AuditStore:
    """gateway.audit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def around(self, action: str, target: str) -> AsyncGenerator[Ending]:
        """A change that the present call makes. Raises Unavailable before it, where it cannot be written down."""
        tenant_id, call = context.tenant(), context.current()
        asked = await self.asked(tenant_id, call.actor, action, target, call.request_id)
        ending = Ending()
        yield ending
        with suppress(Unavailable):  # the change is made, and that it was asked for is on disk
            await self.ended(tenant_id, asked, ending.status, call.request_id)

    async def asked(self, tenant_id: str, actor: str, action: str, target: str, request_id: str) -> int:
        """Before a change is made; its number. `target` names nobody."""
        async with self._database.transaction() as connection:
            audit_id, previous = await _end_of(connection, tenant_id)
            await _add(connection, Row(tenant_id, audit_id, _now(), actor, action, target, request_id), previous)
        return audit_id

    async def ended(self, tenant_id: str, asked: int, status: int, request_id: str) -> None:
        """How it ended."""
        async with self._database.transaction() as connection:
            audit_id, previous = await _end_of(connection, tenant_id)
            row = Row(tenant_id, audit_id, _now(), "", "", "", request_id, answers=asked, status=status)
            await _add(connection, row, previous)

    async def page(self, tenant_id: str, before: int, limit: int) -> list[Change]:
        """Changes before a number, newest first."""
        async with self._database.connection() as connection:
            return [Change(*row) for row in await connection.fetch(_PAGE, tenant_id, before, limit)]

    async def first_broken(self, tenant_id: str) -> int | None:
        """The number of the first row that was changed, or before which one is missing; None where all are as written.

        That the newest rows are gone cannot be seen from within: compare the newest hash with one that was kept elsewhere.
        """
        previous, expected = b"", 1
        while True:
            select = f"SELECT {_COLUMNS} FROM gateway.audit WHERE tenant_id = $1 AND audit_id >= $2 ORDER BY audit_id LIMIT $3"
            async with self._database.connection() as connection:
                rows: Sequence[Any] = await connection.fetch(select, tenant_id, expected, _STEP)
            for stored in rows:
                row = Row(*tuple(stored)[:-1])
                if row.audit_id != expected or row.hash_after(previous) != stored["hash"]:
                    return expected
                previous, expected = stored["hash"], expected + 1
            if len(rows) < _STEP:
                return None


async def _end_of(connection: Connection, tenant_id: str) -> tuple[int, bytes]:
    """The next number, and the hash that it follows; nobody else adds until the transaction ends."""
    await connection.execute(_LOCK, tenant_id)
    last = await connection.fetchrow(_LAST, tenant_id)
    return (last["audit_id"] + 1, last["hash"]) if last else (1, b"")


async def _add(connection: Connection, row: Row, previous: bytes) -> None:
    about = (row.tenant_id, row.audit_id, row.at, row.actor, row.action, row.target, row.request_id, row.answers, row.status)
    await connection.execute(_ADD, *about, row.hash_after(previous))


def _now() -> datetime:
    return datetime.now(UTC)
