"""Reads of who is who and why: the graph around a profile, issues, who is found by an identifier; and a tenant's rules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Database
from services.profiles.domain.identity import Resolved, histories
from services.profiles.store import kinship
from services.profiles.store.kinship import Kin

# Neighbours beyond these are not looked at: why their links are refused is not told.
MAX_NEIGHBOURS: Final = 100
MAX_SEALED: Final = 200

_NODES = """
SELECT node_id, profile_id, first_seen, event_count FROM nodes WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])
"""
_EVIDENCE = """
SELECT DISTINCT ON (event_id) event_id, ts, source FROM timeline
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND event_id = ANY($3::bytea[])
"""
_SEALED = """
SELECT node_id, event_id, sealed FROM personal_traits
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) ORDER BY ts DESC, event_id DESC LIMIT $3
"""
_FOUND = """
SELECT DISTINCT ON (known.identifier_id) known.identifier_id, node.profile_id
FROM identifiers AS known JOIN nodes AS node USING (tenant_id, node_id)
WHERE tenant_id = $1 AND known.identifier_id = ANY($2::uuid[])
ORDER BY known.identifier_id, known.ts DESC, known.event_id DESC
"""
_RULES = "SELECT rules FROM profiles.identity_rules WHERE tenant_id = $1"
_ALL_RULES = "SELECT tenant_id, rules FROM profiles.identity_rules WHERE tenant_id = ANY($1::text[])"
_SAVE_RULES = """
INSERT INTO profiles.identity_rules (tenant_id, rules) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO UPDATE SET rules = excluded.rules, changed_at = now()
"""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as it is now."""

    node_id: UUID
    profile_id: UUID
    first_seen: datetime
    event_count: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """An event that named two identifiers."""

    ts: datetime
    source: str


@dataclass(frozen=True, slots=True)
class SealedRow:
    """The sealed part of an identify call."""

    node_id: UUID
    event_id: bytes
    sealed: bytes


class IdentityStore:
    """Queries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def around(self, tenant_id: str, profile_ids: Iterable[UUID]) -> tuple[Kin, Resolved]:
        """Profiles with their kin and their neighbours by refused links, resolved as the projector does."""
        names = set(profile_ids)
        async with self._database.transaction() as connection:
            kin = await kinship.load(connection, tenant_id, names)
            outer = {end for link in kin.outward for end in (link.a, link.b) if end not in kin.steps}
            neighbours = sorted(set((await kinship.profiles_of(connection, tenant_id, outer)).values()))[:MAX_NEIGHBOURS]
            if neighbours:
                kin = await kinship.load(connection, tenant_id, names | set(neighbours))
        return kin, histories(kin.steps, kin.links, kin.rulings, late=kin.late)

    async def nodes(self, tenant_id: str, node_ids: Sequence[UUID]) -> dict[UUID, NodeRow]:
        """Those that are known."""
        async with self._database.connection() as connection:
            return {row[0]: NodeRow(*row) for row in await connection.fetch(_NODES, tenant_id, node_ids)}

    async def evidence(self, tenant_id: str, node_ids: Sequence[UUID], event_ids: Sequence[bytes]) -> dict[bytes, Evidence]:
        """Of events of these nodes."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_EVIDENCE, tenant_id, node_ids, event_ids)
        return {row["event_id"]: Evidence(row["ts"], row["source"]) for row in rows}

    async def sealed(self, tenant_id: str, node_ids: Sequence[UUID]) -> list[SealedRow]:
        """The newest identify calls that told something personal."""
        async with self._database.connection() as connection:
            return [SealedRow(*row) for row in await connection.fetch(_SEALED, tenant_id, node_ids, MAX_SEALED)]

    async def found_by(self, tenant_id: str, identifiers: Sequence[UUID]) -> dict[UUID, UUID]:
        """The profile whose person named an identifier last, of those identifiers that join nobody."""
        async with self._database.connection() as connection:
            return {row[0]: row[1] for row in await connection.fetch(_FOUND, tenant_id, identifiers)}

    async def rules(self, tenant_id: str) -> bytes | None:
        """A tenant's own rules, JSON."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_RULES, tenant_id)

    async def rules_of(self, tenant_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those of many tenants."""
        async with self._database.connection() as connection:
            return {row[0]: row[1] for row in await connection.fetch(_ALL_RULES, tenant_ids)}

    async def save_rules(self, tenant_id: str, rules: bytes) -> None:
        """In the place of those that were there."""
        async with self._database.connection() as connection:
            await connection.execute(_SAVE_RULES, tenant_id, rules)
