"""Reads of profiles: who somebody is, was, and what is publicly known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.db import Database

_NOW = "SELECT node_id, profile_id FROM profiles.nodes WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
# $1 tenant, $2 nodes, $3 at: where each belonged by what was known then.
AT = """
SELECT DISTINCT ON (node_id) node_id, profile_id FROM profiles.node_profiles
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND since <= $3 ORDER BY node_id, since DESC
"""
_NODES_NOW = "SELECT node_id FROM profiles.nodes WHERE tenant_id = $1 AND profile_id = $2"
_NODES_AT = """
SELECT link.node_id FROM profiles.node_profiles AS link
WHERE link.tenant_id = $1 AND link.profile_id = $2 AND link.since <= $3 AND NOT EXISTS (
    SELECT FROM profiles.node_profiles AS later
    WHERE later.tenant_id = $1 AND later.node_id = link.node_id AND later.since > link.since AND later.since <= $3
)
"""
_ROWS = """
SELECT profile_id, first_seen, last_seen, event_count, identified FROM profiles.profiles
WHERE tenant_id = $1 AND {condition}
"""
_TRAITS = """
SELECT profile_id, jsonb_object_agg(key, value) FILTER (WHERE value <> 'null')::text AS traits FROM (
    SELECT DISTINCT ON (node.profile_id, trait.key) node.profile_id, trait.key, trait.value
    FROM profiles.nodes AS node JOIN profiles.traits AS trait USING (tenant_id, node_id)
    WHERE node.tenant_id = $1 AND node.profile_id = ANY($2::uuid[])
    ORDER BY node.profile_id, trait.key, trait.ts DESC, trait.event_id DESC
) AS newest GROUP BY profile_id
"""
# A node that was always this profile's has been so since it was first seen. One that came back counts from its first time.
_IDENTITIES = """
SELECT node.profile_id, node.node_id, greatest(min(step.since), min(node.first_seen)) AS since
FROM profiles.nodes AS node JOIN profiles.node_profiles AS step USING (tenant_id, node_id, profile_id)
WHERE node.tenant_id = $1 AND node.profile_id = ANY($2::uuid[])
GROUP BY node.profile_id, node.node_id ORDER BY node.profile_id, since, node.node_id
"""
_COUNTS = "SELECT count(*), count(*) FILTER (WHERE identified) FROM profiles.profiles WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A node of a profile, and since when it is one."""

    node_id: UUID
    since: datetime


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """`traits` is a JSON object."""

    profile_id: UUID
    first_seen: datetime
    last_seen: datetime
    event_count: int
    identified: bool
    traits: bytes
    identities: Sequence[IdentityRow]


class ProfileStore:
    """Queries over profiles, nodes and traits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resolve(self, tenant_id: str, node_ids: Sequence[UUID]) -> dict[UUID, UUID]:
        """The profile that each known node belongs to now. A profile's id is one of its nodes."""
        async with self._database.connection() as connection:
            return {row[0]: row[1] for row in await connection.fetch(_NOW, tenant_id, node_ids)}

    async def resolve_at(self, tenant_id: str, node_ids: Sequence[UUID], at: datetime) -> dict[UUID, UUID]:
        """The profile that each known node belonged to at an instant, by what was known then."""
        async with self._database.connection() as connection:
            return {row[0]: row[1] for row in await connection.fetch(AT, tenant_id, node_ids, at)}

    async def nodes(self, tenant_id: str, profile_id: UUID) -> list[UUID]:
        """The nodes of a profile."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_NODES_NOW, tenant_id, profile_id)]

    async def nodes_at(self, tenant_id: str, profile_id: UUID, at: datetime) -> list[UUID]:
        """The nodes that a profile had at an instant."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_NODES_AT, tenant_id, profile_id, at)]

    async def find(self, tenant_id: str, profile_id: UUID) -> ProfileRow | None:
        """None where there is no such profile, or where it is part of another."""
        found = await self._read(_ROWS.format(condition="profile_id = $2"), tenant_id, profile_id)
        return found[0] if found else None

    async def page(self, tenant_id: str, after: UUID | None, limit: int, *, identified_only: bool) -> list[ProfileRow]:
        """By profile id, so that a page stays where it is while others come."""
        condition = "profile_id > $2" + (" AND identified" if identified_only else "") + " ORDER BY profile_id LIMIT $3"
        return await self._read(_ROWS.format(condition=condition), tenant_id, after or UUID(int=0), limit)

    async def _read(self, query: str, tenant_id: str, *arguments: object) -> list[ProfileRow]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(query, tenant_id, *arguments)
            profile_ids = [row["profile_id"] for row in rows]
            traits = {row[0]: row[1] for row in await connection.fetch(_TRAITS, tenant_id, profile_ids)} if rows else {}
            links = await connection.fetch(_IDENTITIES, tenant_id, profile_ids) if rows else []
        identities: dict[UUID, list[IdentityRow]] = {}
        for link in links:
            identities.setdefault(link["profile_id"], []).append(IdentityRow(link["node_id"], link["since"]))
        return [_profile(row, traits, identities) for row in rows]

    async def counts(self, tenant_id: str) -> tuple[int, int]:
        """(all profiles, those with a user id)."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_COUNTS, tenant_id)
        return (row[0], row[1]) if row else (0, 0)


def _profile(row: Any, traits: Mapping[UUID, str | None], identities: Mapping[UUID, list[IdentityRow]]) -> ProfileRow:
    profile_id: UUID = row["profile_id"]
    return ProfileRow(
        profile_id,
        row["first_seen"],
        row["last_seen"],
        row["event_count"],
        row["identified"],
        (traits.get(profile_id) or "{}").encode(),
        identities.get(profile_id, []),
    )
