"""What people allowed, all of it, and the purposes that a tenant declared. The writes of the former are the projector's.

Tables of projections are named without a schema, see projection.py.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from chassis.db import Connection, Database
from services.profiles.domain.consent import Basis, Channel, Record, State
from services.profiles.store.moments import from_us

_SAVE: Final = f"""
INSERT INTO consents (tenant_id, node_id, purpose, channel, event_id, state, source, proof_version, ts, recorded_at)
SELECT $1, node_id, purpose, channel, event_id, state, source, proof_version, {from_us("ts")}, {from_us("recorded")}
FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[]
) AS new (node_id, purpose, channel, event_id, state, source, proof_version, ts, recorded)
ON CONFLICT DO NOTHING
"""
# Of each purpose, channel and state the last time that it was said: nothing before decides.
_NEWEST: Final = """
SELECT profile_id, purpose, channel, state, source, proof_version, ts, recorded_at, event_id FROM (
    SELECT node.profile_id, said.*, rank() OVER (
        PARTITION BY node.profile_id, said.purpose, said.channel, said.state ORDER BY said.ts DESC
    ) AS age
    FROM nodes AS node JOIN consents AS said USING (tenant_id, node_id)
    WHERE node.tenant_id = $1 AND node.profile_id = ANY($2::uuid[]) AND ($3::text[] IS NULL OR said.purpose = ANY($3))
) AS told WHERE age = 1
"""
# One row for each thing that was said, newest first; an event may say several.
_HISTORY: Final = """
SELECT said.purpose, said.channel, said.state, said.source, said.proof_version, said.ts, said.recorded_at, said.event_id
FROM nodes AS node JOIN consents AS said USING (tenant_id, node_id)
WHERE node.tenant_id = $1
    AND node.profile_id = (SELECT asked.profile_id FROM nodes AS asked WHERE asked.tenant_id = $1 AND asked.node_id = $2)
    AND (said.ts, said.event_id, said.purpose, said.channel) < ($3, $4, $5, $6)
ORDER BY said.ts DESC, said.event_id DESC, said.purpose DESC, said.channel DESC LIMIT $7
"""
_HOLDS: Final = """
SELECT EXISTS (
    SELECT FROM consents WHERE tenant_id = $1 AND node_id = $2 AND purpose = $3 AND channel = $4 AND event_id = $5
)
"""
_RESOLVE: Final = "SELECT node_id, profile_id FROM nodes WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_PROFILES: Final = "SELECT profile_id FROM profiles WHERE tenant_id = $1 AND profile_id > $2 ORDER BY profile_id LIMIT $3"
_NODES: Final = "SELECT node_id, profile_id FROM nodes WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"
_BASES: Final = """
SELECT purpose, legal_basis FROM profiles.purposes WHERE tenant_id = $1 AND ($2::text[] IS NULL OR purpose = ANY($2))
"""
_PURPOSES: Final = """
SELECT purpose, description, legal_basis, changed_at FROM profiles.purposes WHERE tenant_id = $1 ORDER BY purpose
"""
_PUT: Final = """
INSERT INTO profiles.purposes AS known (tenant_id, purpose, description, legal_basis)
SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM profiles.purposes WHERE tenant_id = $1 AND purpose <> $2) < $5
ON CONFLICT (tenant_id, purpose) DO UPDATE SET
    description = excluded.description, legal_basis = excluded.legal_basis, changed_at = now()
RETURNING purpose, description, legal_basis, changed_at
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record as the projector finds it, with the node that it is about. Times in microseconds."""

    node_id: str
    purpose: str
    channel: str
    event_id: bytes
    state: str
    source: str
    proof_version: str
    ts_us: int
    recorded_us: int


@dataclass(frozen=True, slots=True)
class PurposeRow:
    """A purpose that was declared."""

    key: str
    description: str
    basis: Basis
    changed: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What decides on some people: the profile of each known node, what each profile said, and what purposes stand on."""

    profile_of: Mapping[UUID, UUID]
    records: Mapping[UUID, Sequence[Record]]
    bases: Mapping[str, Basis]


# Where a page ends: the columns that the history is ordered by.
Place = tuple[datetime, bytes, str, str]


async def save_consents(connection: Connection, tenant_id: str, said: Iterable[Recorded]) -> None:
    """Not for none. What was written before stays as it is."""
    rows = [
        (one.node_id, one.purpose, one.channel, one.event_id, one.state, one.source, one.proof_version, one.ts_us,
         one.recorded_us)
        for one in said
    ]  # fmt: skip
    await connection.execute(_SAVE, tenant_id, *map(list, zip(*rows, strict=True)))


class ConsentStore:
    """profiles.consents and profiles.purposes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, tenant_id: str, node_ids: Sequence[UUID], purposes: Sequence[str] | None) -> Known:
        """`purposes` None: all."""
        async with self._instant() as connection:
            return await _known(connection, tenant_id, (_RESOLVE, node_ids), purposes)

    async def everybody(self, tenant_id: str, purpose: str, page: int) -> AsyncGenerator[Known]:
        """All profiles with all their nodes, so many at a time, of one instant: a merge between two pages could hide a word."""
        async with self._instant() as connection:
            after = UUID(int=0)
            while profiles := [row[0] for row in await connection.fetch(_PROFILES, tenant_id, after, page)]:
                yield await _known(connection, tenant_id, (_NODES, profiles), [purpose])
                after = profiles[-1]

    @asynccontextmanager
    async def _instant(self) -> AsyncGenerator[Connection]:
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def holds(self, tenant_id: str, node_id: UUID, purpose: str, channel: str, event_id: bytes) -> bool:
        """Whether the projections show it."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_HOLDS, tenant_id, node_id, purpose, channel, event_id)

    async def history(self, tenant_id: str, node_id: UUID, before: Place, limit: int) -> list[Record]:
        """Of the person that a node belongs to, newest first."""
        async with self._database.connection() as connection:
            return [_record(row) for row in await connection.fetch(_HISTORY, tenant_id, node_id, *before, limit)]

    async def purposes(self, tenant_id: str) -> list[PurposeRow]:
        """By key."""
        async with self._database.connection() as connection:
            return [_purpose(row) for row in await connection.fetch(_PURPOSES, tenant_id)]

    async def put_purpose(self, tenant_id: str, key: str, description: str, basis: Basis, *, most: int) -> PurposeRow | None:
        """None where the tenant has `most` others."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_PUT, tenant_id, key, description, basis.value, most)
        return _purpose(row) if row else None


async def _known(
    connection: Connection, tenant_id: str, asked: tuple[str, Sequence[UUID]], purposes: Sequence[str] | None
) -> Known:
    """`asked`: a query of nodes and their profiles, and for which ids."""
    query, ids = asked
    profile_of: dict[UUID, UUID] = {row[0]: row[1] for row in await connection.fetch(query, tenant_id, ids)}
    rows = await connection.fetch(_NEWEST, tenant_id, list(set(profile_of.values())), purposes)
    bases = {row[0]: Basis(row[1]) for row in await connection.fetch(_BASES, tenant_id, purposes)}
    records: dict[UUID, list[Record]] = {}
    for row in rows:
        records.setdefault(row[0], []).append(_record(row[1:]))
    return Known(profile_of, records, bases)


def _record(row: Any) -> Record:
    purpose, channel, state, source, proof_version, ts, recorded, event_id = row
    return Record(purpose, Channel(channel), State(state), source, proof_version, ts, recorded, event_id)


def _purpose(row: Any) -> PurposeRow:
    return PurposeRow(row[0], row[1], Basis(row[2]), row[3])
