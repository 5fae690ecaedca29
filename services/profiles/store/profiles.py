"""Reads of profiles: who somebody is, was, and what is publicly known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from chassis.db import Database

_NOW = "SELECT node_id, profile_id FROM profiles.nodes WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
# $1 tenant, $2 nodes, $3 at: where each belonged by what was known then.
AT = """
SELECT DISTINCT ON (node_id) node_id, profile_id FROM profiles.node_profiles
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND since <= $3 ORDER BY node_id, since DESC
"""
# $1 tenant, $2 node. Not two statements: a merge between them would leave the profile without nodes.
_PERSON_NOW = """
SELECT profile_id, node_id FROM profiles.nodes WHERE tenant_id = $1 AND profile_id = (
    SELECT asked.profile_id FROM profiles.nodes AS asked WHERE asked.tenant_id = $1 AND asked.node_id = $2
)
"""
# $1 tenant, $2 node, $3 at: all nodes of the profile that it belonged to by what was known then.
_PERSON_AT = """
SELECT link.profile_id, link.node_id FROM profiles.node_profiles AS link
WHERE link.tenant_id = $1 AND link.since <= $3 AND link.profile_id = (
    SELECT asked.profile_id FROM profiles.node_profiles AS asked
    WHERE asked.tenant_id = $1 AND asked.node_id = $2 AND asked.since <= $3 ORDER BY asked.since DESC LIMIT 1
) AND NOT EXISTS (
    SELECT FROM profiles.node_profiles AS later
    WHERE later.tenant_id = $1 AND later.node_id = link.node_id AND later.since > link.since AND later.since <= $3
)
"""
# One statement, for one profile as for a page: a second trip to the database costs more than any of it.
# A node that was always this profile's has been so since it was first seen. One that came back counts from its first time.
_ROWS = """
SELECT profile_id, first_seen, last_seen, event_count, identified, traits, node_ids, sinces
FROM profiles.profiles AS profile, LATERAL (
    SELECT jsonb_object_agg(key, value) FILTER (WHERE value <> 'null')::text AS traits FROM (
        SELECT DISTINCT ON (trait.key) trait.key, trait.value
        FROM profiles.nodes AS node JOIN profiles.traits AS trait USING (tenant_id, node_id)
        WHERE node.tenant_id = $1 AND node.profile_id = profile.profile_id
        ORDER BY trait.key, trait.ts DESC, trait.event_id DESC
    ) AS newest
) AS known, LATERAL (
    SELECT array_agg(node_id ORDER BY since, node_id) AS node_ids, array_agg(since ORDER BY since, node_id) AS sinces FROM (
        SELECT node.node_id, greatest(min(step.since), min(node.first_seen)) AS since
        FROM profiles.nodes AS node JOIN profiles.node_profiles AS step USING (tenant_id, node_id, profile_id)
        WHERE node.tenant_id = $1 AND node.profile_id = profile.profile_id GROUP BY node.node_id
    ) AS steps
) AS nodes
WHERE tenant_id = $1 AND {condition}
"""
_OF_NODE = _ROWS.format(
    condition="profile_id = (SELECT node.profile_id FROM profiles.nodes AS node WHERE node.tenant_id = $1 AND node_id = $2)"
)
_OF_NODES = f"""
SELECT node.node_id AS asked, found.* FROM profiles.nodes AS node
JOIN ({
    _ROWS.format(
        condition="profile_id IN (SELECT node.profile_id FROM profiles.nodes AS node "
        "WHERE node.tenant_id = $1 AND node_id = ANY($2::uuid[]))"
    )
}) AS found USING (profile_id)
WHERE node.tenant_id = $1 AND node.node_id = ANY($2::uuid[])
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


class Person(NamedTuple):
    """A profile with all its nodes."""

    profile_id: UUID
    node_ids: Sequence[UUID]


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

    async def person(self, tenant_id: str, node_id: UUID) -> Person | None:
        """Who a node belongs to now; None where nobody knows it."""
        return await self._person(_PERSON_NOW, tenant_id, node_id)

    async def person_at(self, tenant_id: str, node_id: UUID, at: datetime) -> Person | None:
        """Who a node belonged to at an instant; None where nobody knew it then."""
        return await self._person(_PERSON_AT, tenant_id, node_id, at)

    async def _person(self, query: str, *arguments: object) -> Person | None:
        async with self._database.connection() as connection:
            rows = await connection.fetch(query, *arguments)
        return Person(rows[0][0], [row[1] for row in rows]) if rows else None

    async def of_node(self, tenant_id: str, node_id: UUID) -> ProfileRow | None:
        """The profile that a node belongs to now; None where nobody knows it."""
        found = await self._read(_OF_NODE, tenant_id, node_id)
        return found[0] if found else None

    async def of_nodes(self, tenant_id: str, node_ids: Sequence[UUID]) -> dict[UUID, ProfileRow]:
        """The profile that each known node belongs to now."""
        async with self._database.connection() as connection:
            return {row["asked"]: _profile(row) for row in await connection.fetch(_OF_NODES, tenant_id, node_ids)}

    async def page(self, tenant_id: str, after: UUID | None, limit: int, *, identified_only: bool) -> list[ProfileRow]:
        """By profile id, so that a page stays where it is while others come."""
        condition = "profile_id > $2" + (" AND identified" if identified_only else "") + " ORDER BY profile_id LIMIT $3"
        return await self._read(_ROWS.format(condition=condition), tenant_id, after or UUID(int=0), limit)

    async def _read(self, query: str, tenant_id: str, *arguments: object) -> list[ProfileRow]:
        async with self._database.connection() as connection:
            return [_profile(row) for row in await connection.fetch(query, tenant_id, *arguments)]

    async def counts(self, tenant_id: str) -> tuple[int, int]:
        """(all profiles, those with a user id)."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_COUNTS, tenant_id)
        return (row[0], row[1]) if row else (0, 0)


def _profile(row: Any) -> ProfileRow:
    links = zip(row["node_ids"] or (), row["sinces"] or (), strict=True)
    return ProfileRow(
        row["profile_id"],
        row["first_seen"],
        row["last_seen"],
        row["event_count"],
        row["identified"],
        (row["traits"] or "{}").encode(),
        [IdentityRow(*link) for link in links],
    )
