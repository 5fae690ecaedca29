"""Import jobs: their state, who works on them, how far they are, and which rows were rejected."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis.db import Database

_COLUMNS = """
tenant_id, job_id, state, format, source, mapping, wrapped_key, created_at, started_at, ended_at, size_bytes, cancel_requested,
place, total, planned_rows, planned_us, row_count, accepted_count, duplicate_count, rejected_count, quarantined_count,
rows_per_s, reason, field, message
"""
_OPENED = """
SELECT count(*) FILTER (WHERE state = 'uploading') AS uploading, count(*) FILTER (WHERE state = 'queued') AS queued
FROM profiles.import_jobs WHERE tenant_id = $1 AND state IN ('uploading', 'queued')
"""
_ADD = """
INSERT INTO profiles.import_jobs (tenant_id, job_id, state, format, source, mapping, wrapped_key)
VALUES ($1, $2, 'uploading', $3, $4, $5, $6)
"""
_FIND = f"SELECT {_COLUMNS} FROM profiles.import_jobs WHERE tenant_id = $1 AND job_id = $2"
_PAGE = f"""
SELECT {_COLUMNS} FROM profiles.import_jobs
WHERE tenant_id = $1 AND state <> 'uploading' AND (created_at < $2 OR created_at = $2 AND job_id < $3)
ORDER BY created_at DESC, job_id DESC LIMIT $4
"""
_QUEUE = f"""
UPDATE profiles.import_jobs SET state = 'queued', size_bytes = $3, created_at = now()
WHERE tenant_id = $1 AND job_id = $2 AND state = 'uploading' RETURNING {_COLUMNS}
"""
# A queued one of a tenant of whom none runs; or one whose process is gone.
_CLAIM = """
UPDATE profiles.import_jobs SET
    state = 'running', owner = $1, lease_until = now() + $2 * interval '1 second', attempts = attempts + 1,
    started_at = coalesce(started_at, now())
WHERE (tenant_id, job_id) = (
    SELECT tenant_id, job_id FROM profiles.import_jobs AS job
    WHERE state = 'running' AND lease_until < now()
        OR state = 'queued' AND NOT EXISTS (
            SELECT FROM profiles.import_jobs AS other WHERE other.tenant_id = job.tenant_id AND other.state = 'running'
        )
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING tenant_id, job_id, attempts
"""
_MINE = "tenant_id = $1 AND job_id = $2 AND owner = $3 AND state = 'running'"
_RELEASE = f"UPDATE profiles.import_jobs SET lease_until = now() - interval '1 second' WHERE {_MINE}"
_PLAN = f"""
UPDATE profiles.import_jobs SET
    lease_until = now() + $4 * interval '1 second',
    attempts = CASE WHEN $14::bigint > 0 THEN 0 ELSE attempts END,
    planned_rows = $5, planned_us = $6, total = $7,
    place = coalesce($8, place), row_count = row_count + $14::bigint,
    accepted_count = accepted_count + $9, duplicate_count = duplicate_count + $10, rejected_count = rejected_count + $11,
    quarantined_count = quarantined_count + $12, rows_per_s = $13
WHERE {_MINE} RETURNING cancel_requested
"""
_REJECT = """
INSERT INTO profiles.import_rejections (tenant_id, job_id, row_number, reason, field, message)
SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[])
"""
_END = """
state = $4, ended_at = now(), wrapped_key = NULL, mapping = '', owner = '', lease_until = NULL,
planned_rows = NULL, planned_us = NULL, reason = $5, field = $6, message = $7
"""
_FINISH = f"UPDATE profiles.import_jobs SET {_END} WHERE {_MINE}"
# One that waits ends at once, one that runs when its process hears of it.
_CANCEL = f"""
UPDATE profiles.import_jobs SET
    cancel_requested = true, state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
    ended_at = CASE state WHEN 'queued' THEN now() END,
    wrapped_key = CASE state WHEN 'queued' THEN NULL ELSE wrapped_key END,
    mapping = CASE state WHEN 'queued' THEN '' ELSE mapping END
WHERE tenant_id = $1 AND job_id = $2 AND state IN ('queued', 'running') RETURNING {_COLUMNS}
"""
_REJECTIONS = """
SELECT row_number, reason, field, message FROM profiles.import_rejections
WHERE tenant_id = $1 AND job_id = $2 AND row_number > $3 ORDER BY row_number LIMIT $4
"""
_FORGET = """
WITH old AS (
    DELETE FROM profiles.import_jobs WHERE ended_at < now() - $1 * interval '1 day' RETURNING tenant_id, job_id
)
DELETE FROM profiles.import_rejections AS rejection USING old
WHERE rejection.tenant_id = old.tenant_id AND rejection.job_id = old.job_id
"""


@dataclass(frozen=True, slots=True)
class JobRow:
    """As it is stored."""

    tenant_id: str
    job_id: UUID
    state: str
    format: str
    source: str
    mapping: bytes
    wrapped_key: bytes | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    size_bytes: int
    cancel_requested: bool
    place: int
    total: int
    planned_rows: int | None
    planned_us: int | None
    row_count: int
    accepted_count: int
    duplicate_count: int
    rejected_count: int
    quarantined_count: int
    rows_per_s: float
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A job, and who works on it. `attempts`: how often it was begun without getting further."""

    tenant_id: str
    job_id: UUID
    owner: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class RowRejection:
    """Without anything personal."""

    row_number: int
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch came to, and the one that comes next. `place` None: nothing was taken yet."""

    planned_rows: int | None
    planned_us: int | None
    total: int
    place: int | None = None
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    quarantined: int = 0
    rows_per_s: float = 0.0
    rejections: Sequence[RowRejection] = ()


class ImportStore:
    """profiles.import_jobs and profiles.import_rejections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def opened(self, tenant_id: str) -> tuple[int, int]:
        """(uploads under way, jobs that wait)."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_OPENED, tenant_id)
        return (row["uploading"], row["queued"]) if row else (0, 0)

    async def add(self, tenant_id: str, job_id: UUID, *, format_: str, source: str, mapping: bytes, wrapped_key: bytes) -> None:
        """An upload."""
        async with self._database.transaction() as connection:
            await connection.execute(_ADD, tenant_id, job_id, format_, source, mapping, wrapped_key)

    async def find(self, tenant_id: str, job_id: UUID) -> JobRow | None:
        """A job or an upload; None where the tenant has none of that id."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant_id, job_id)
        return _job(row)

    async def page(self, tenant_id: str, before: tuple[datetime, UUID], limit: int) -> list[JobRow]:
        """Jobs strictly before (created, id), newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, tenant_id, *before, limit)
        return [JobRow(*row) for row in rows]

    async def queue(self, tenant_id: str, job_id: UUID, size_bytes: int) -> JobRow | None:
        """Makes an upload a job. None where it is an upload no more."""
        async with self._database.transaction() as connection:
            return _job(await connection.fetchrow(_QUEUE, tenant_id, job_id, size_bytes))

    async def cancel(self, tenant_id: str, job_id: UUID) -> JobRow | None:
        """None where there is nothing to cancel."""
        async with self._database.transaction() as connection:
            return _job(await connection.fetchrow(_CANCEL, tenant_id, job_id))

    async def delete_upload(self, tenant_id: str, job_id: UUID) -> bool:
        """False where it is no upload (any more)."""
        delete = "DELETE FROM profiles.import_jobs WHERE tenant_id = $1 AND job_id = $2 AND state = 'uploading'"
        async with self._database.connection() as connection:
            return (await connection.execute(delete, tenant_id, job_id)).endswith(" 1")

    async def rejections(self, tenant_id: str, job_id: UUID, after: int, limit: int) -> list[RowRejection]:
        """In the order of the rows."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_REJECTIONS, tenant_id, job_id, after, limit)
        return [RowRejection(*row) for row in rows]

    async def uploads(self, older_than_s: float) -> list[tuple[str, UUID]]:
        """Of all tenants, those that were begun so long ago."""
        select = """
        SELECT tenant_id, job_id FROM profiles.import_jobs
        WHERE state = 'uploading' AND created_at < now() - $1 * interval '1 second'
        """
        async with self._database.connection() as connection:
            return [(row["tenant_id"], row["job_id"]) for row in await connection.fetch(select, older_than_s)]

    async def forget(self, days: float) -> None:
        """Jobs that ended so long ago, and their rejections."""
        async with self._database.transaction() as connection:
            await connection.execute(_FORGET, days)

    async def claim(self, owner: str, lease_s: float) -> Claim | None:
        """Something to do, for this owner only until the lease ends. None where there is nothing."""
        try:
            async with self._database.transaction() as connection:
                row = await connection.fetchrow(_CLAIM, owner, lease_s)
        except asyncpg.UniqueViolationError:  # another one was first with another job of the tenant
            return None
        return Claim(row["tenant_id"], row["job_id"], owner, row["attempts"]) if row else None

    async def release(self, claim: Claim) -> None:
        """Whoever comes next may have it. Nothing where it ended."""
        async with self._database.transaction() as connection:
            await connection.execute(_RELEASE, claim.tenant_id, claim.job_id, claim.owner)

    async def step(self, claim: Claim, step: Step, lease_s: float) -> bool | None:
        """What a batch came to is counted, the next one is noted, and the job is kept for longer.

        Whether it is to be cancelled; None where it is another's by now, and nothing is written.
        """
        counts = (step.accepted, step.duplicate, step.rejected, step.quarantined)
        async with self._database.transaction() as connection:
            cancelled = await connection.fetchval(
                _PLAN, claim.tenant_id, claim.job_id, claim.owner, lease_s,
                step.planned_rows, step.planned_us, step.total, step.place, *counts, step.rows_per_s, step.rows,
            )  # fmt: skip
            if cancelled is not None and (rejected := step.rejections):
                columns: list[list[Any]] = [
                    [each.row_number for each in rejected],
                    [each.reason for each in rejected],
                    [each.field for each in rejected],
                    [each.message for each in rejected],
                ]
                await connection.execute(_REJECT, claim.tenant_id, claim.job_id, *columns)
        return cancelled

    async def rejection_count(self, claim: Claim) -> int:
        """Rows that were kept, to compare with the sum."""
        count = "SELECT count(*) FROM profiles.import_rejections WHERE tenant_id = $1 AND job_id = $2"
        async with self._database.connection() as connection:
            return await connection.fetchval(count, claim.tenant_id, claim.job_id)

    async def finish(self, claim: Claim, state: str, *, reason: str = "", field: str = "", message: str = "") -> bool:
        """The end; the key is gone. False where the job is another's by now."""
        async with self._database.transaction() as connection:
            arguments = (claim.tenant_id, claim.job_id, claim.owner, state, reason, field, message)
            return (await connection.execute(_FINISH, *arguments)).endswith(" 1")


def _job(row: asyncpg.Record | None) -> JobRow | None:
    return JobRow(*row) if row else None
