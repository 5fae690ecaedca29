"""Tracking plans in all their versions, and what violated them, counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.db import Connection, Database
from services.profiles.domain.plan import Mode
from services.profiles.domain.violations import Violation
from services.profiles.jsontext import dumps

_PRESENT = """
SELECT version, CASE WHEN version = $2 THEN NULL ELSE document END, (
    SELECT count(*) FROM (
        SELECT FROM profiles.quarantine AS held WHERE held.tenant_id = $1 AND held.state = 'waiting' LIMIT $3
    ) AS held
) AS waiting
FROM profiles.plans WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1
"""
_GROUPS = """
SELECT type, event, rule, path FROM profiles.plan_violations WHERE tenant_id = $1 AND version = $2 LIMIT $3
"""
_FIND = """
SELECT version, created_at, document FROM profiles.plans
WHERE tenant_id = $1 AND ($2 = 0 OR version = $2) ORDER BY version DESC LIMIT 1
"""
_VERSIONS = """
SELECT version, created_at, ''::bytea FROM profiles.plans
WHERE tenant_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tracking plan ' || $1, 0))"
_ADD = """
INSERT INTO profiles.plans (tenant_id, version, document)
SELECT $1, coalesce(max(version), 0) + 1, $2 FROM profiles.plans WHERE tenant_id = $1
RETURNING version, created_at, document
"""
# Sorted, as all rows that several batches may want.
_ADD_BREACHES = """
INSERT INTO profiles.plan_violations AS known (
    tenant_id, version, type, event, rule, path, mode, violation_count, first_seen, last_seen, expected, found, value
)
SELECT $1, new.* FROM unnest(
    $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::timestamptz[],
    $10::timestamptz[], $11::text[], $12::text[], $13::bytea[]
) AS new (version, type, event, rule, path, mode, count, first_seen, last_seen, expected, found, value)
ON CONFLICT (tenant_id, version, type, event, rule, path) DO UPDATE SET
    violation_count = known.violation_count + excluded.violation_count, mode = excluded.mode,
    first_seen = least(known.first_seen, excluded.first_seen), last_seen = greatest(known.last_seen, excluded.last_seen),
    expected = excluded.expected, found = excluded.found, value = excluded.value
"""
_VIOLATIONS = """
SELECT version, type, event, rule, path, mode, violation_count, first_seen, last_seen, expected, found, value
FROM profiles.plan_violations WHERE tenant_id = $1
ORDER BY version DESC, violation_count DESC, type, event, rule, path OFFSET $2 LIMIT $3
"""
_FORGET = "DELETE FROM profiles.plan_violations WHERE last_seen < $1"
# The newest of all tenants' events; of them, this tenant's. There is no index by tenant: the log is read in its order.
_RECENT = """
SELECT payload FROM (
    SELECT tenant_id, payload, xid, seq FROM log.events ORDER BY xid DESC, seq DESC LIMIT $2
) AS newest WHERE tenant_id = $1 ORDER BY xid DESC, seq DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Breach:
    """A violation of one event. `key` is the event's id, or that of its refusal."""

    key: bytes
    version: int
    mode: Mode
    violation: Violation
    received: datetime


@dataclass(frozen=True, slots=True)
class Present:
    """The newest version. `document` None: it is the one that was known. `waiting_count` is at most what was asked for."""

    version: int
    document: bytes | None
    waiting_count: int


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A version of a plan."""

    version: int
    created: datetime
    document: bytes


@dataclass(frozen=True, slots=True)
class ViolationRow:
    """A group of violations, with the last one's sample."""

    version: int
    type: str
    event: str
    rule: str
    path: str
    mode: str
    count: int
    first_seen: datetime
    last_seen: datetime
    expected: str
    found: str
    value: bytes | None


@dataclass(slots=True)
class _Tally:
    count: int
    first: datetime
    last: datetime
    sample: Violation
    mode: Mode


async def add_breaches(connection: Connection, tenant_id: str, breaches: Sequence[Breach]) -> None:
    """Counts them by version, event, rule and path, in the caller's transaction."""
    tallies: dict[tuple[int, str, str, str, str], _Tally] = {}
    for breach in breaches:
        key = (breach.version, *breach.violation.group)
        tally = tallies.get(key)
        if tally is None:
            tallies[key] = _Tally(1, breach.received, breach.received, breach.violation, breach.mode)
        else:
            tally.count += 1
            tally.first, tally.last = min(tally.first, breach.received), max(tally.last, breach.received)
            tally.sample = breach.violation
    if not tallies:
        return
    ordered = sorted(tallies.items(), key=lambda item: item[0])
    values = [tally.sample.value for _, tally in ordered]
    await connection.execute(
        _ADD_BREACHES,
        tenant_id,
        *([key[place] for key, _ in ordered] for place in range(5)),
        [str(tally.mode) for _, tally in ordered],
        [tally.count for _, tally in ordered],
        [tally.first for _, tally in ordered],
        [tally.last for _, tally in ordered],
        [tally.sample.expected for _, tally in ordered],
        [tally.sample.found for _, tally in ordered],
        [None if value is None else dumps(value) for value in values],
    )


class PlanStore:
    """profiles.plans and profiles.plan_violations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def present(self, tenant_id: str, known_version: int, most_waiting: int) -> Present | None:
        """The newest version, and how many events wait. None where there is no plan."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_PRESENT, tenant_id, known_version, most_waiting)
        return Present(*row) if row else None

    async def groups(self, tenant_id: str, version: int, limit: int) -> set[tuple[str, str, str, str]]:
        """Under what violations of a version are counted."""
        async with self._database.connection() as connection:
            return {(row[0], row[1], row[2], row[3]) for row in await connection.fetch(_GROUPS, tenant_id, version, limit)}

    async def find(self, tenant_id: str, version: int) -> PlanRow | None:
        """A version, 0 for the newest."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant_id, version)
        return PlanRow(*row) if row else None

    async def versions(self, tenant_id: str, before: int, limit: int) -> list[PlanRow]:
        """Older than `before`, newest first, with empty documents."""
        async with self._database.connection() as connection:
            return [PlanRow(*row) for row in await connection.fetch(_VERSIONS, tenant_id, before, limit)]

    async def put(self, tenant_id: str, document: bytes) -> PlanRow:
        """A new version, or the newest where its document is the same."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, tenant_id)
            row = await connection.fetchrow(_FIND, tenant_id, 0)
            if row is None or row["document"] != document:
                row = await connection.fetchrow(_ADD, tenant_id, document)
        return PlanRow(*row)  # pyright: ignore[reportOptionalIterable]

    async def violations(self, tenant_id: str, after: int, limit: int) -> list[ViolationRow]:
        """Those of the newest version first, the most frequent first; `after` are passed over."""
        async with self._database.connection() as connection:
            return [ViolationRow(*row) for row in await connection.fetch(_VIOLATIONS, tenant_id, after, limit)]

    async def forget_violations(self, before: datetime) -> None:
        """Groups that were last seen before then."""
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, before)

    async def recent(self, tenant_id: str, scanned: int, limit: int) -> list[bytes]:
        """Payloads of the tenant's newest events among the newest `scanned` of all, newest first."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_RECENT, tenant_id, scanned, limit)]
