"""Loads all that decides who is whom around some profiles. Names projections without a schema, see projection.py."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.db import Connection
from services.profiles.domain.identity import MAX_LINKS, Late, Link, Ruling, Step
from services.profiles.store.moments import to_us

# What is loaded at most. Beyond it a change far away may be seen late: no customer comes near.
MAX_KIN: Final = 5_000

_FAMILY = f"""
SELECT node_id, profile_id, {to_us("since")} AS since FROM node_profiles
WHERE tenant_id = $1 AND node_id = ANY(ARRAY(
    SELECT node_id FROM node_profiles WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])
))
ORDER BY node_id, node_profiles.since
"""
_LINKS = f"""
SELECT node.node_id, link.node_a, link.node_b, {to_us("link.since")} AS since, coalesce(link.event_id, '') AS event_id
FROM unnest($2::uuid[]) AS node (node_id) CROSS JOIN LATERAL (
    (SELECT node_a, node_b, since, event_id FROM links WHERE tenant_id = $1 AND node_a = node.node_id
     ORDER BY since, event_id NULLS FIRST, node_b LIMIT $3)
    UNION ALL
    (SELECT node_a, node_b, since, event_id FROM links WHERE tenant_id = $1 AND node_b = node.node_id
     ORDER BY since, event_id NULLS FIRST, node_a LIMIT $3)
) AS link
"""
_RULINGS = f"""
SELECT node_a, node_b, {to_us("since")} AS since, event_id, is_parted FROM identity_rulings
WHERE tenant_id = $1 AND node_a = ANY($2::uuid[])
"""
_PROFILES_OF = "SELECT node_id, profile_id FROM nodes WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"


@dataclass(frozen=True, slots=True)
class Kin:
    """Nodes that are or ever were one profile, with their steps as stored; their links, also those that lead out of here."""

    steps: Mapping[UUID, Sequence[Step]]
    links: Sequence[Link]
    rulings: Sequence[Ruling]
    late: Set[Late]

    @property
    def outward(self) -> list[Link]:
        """The links that lead out of here."""
        return [link for link in self.links if link.a not in self.steps or link.b not in self.steps]


async def load(connection: Connection, tenant_id: str, profile_ids: Iterable[UUID]) -> Kin:
    """Everybody who ever was one with the nodes of these profiles, on any way."""
    steps = await _family(connection, tenant_id, set(profile_ids))
    nodes = list(steps)
    found = await first_links(connection, tenant_id, nodes)
    rows = await connection.fetch(_RULINGS, tenant_id, nodes)
    rulings = [Ruling(*row) for row in rows if row["node_b"] in steps]
    known = {link for links in found.values() for link in links}
    return Kin(steps, list(known), rulings, _late(found, known))


async def _family(connection: Connection, tenant_id: str, names: set[UUID]) -> dict[UUID, list[Step]]:
    while True:
        steps: dict[UUID, list[Step]] = {}
        for row in await connection.fetch(_FAMILY, tenant_id, list(names)):
            steps.setdefault(row["node_id"], []).append(Step(row["profile_id"], row["since"]))
        found = {step.profile_id for each in steps.values() for step in each}
        if found <= names or len(steps) > MAX_KIN:
            return steps
        names |= found


async def first_links(connection: Connection, tenant_id: str, nodes: Sequence[UUID]) -> dict[UUID, list[Link]]:
    """Of each node its first links in their order, one more than count."""
    found: dict[UUID, list[Link]] = {}
    for row in await connection.fetch(_LINKS, tenant_id, nodes, MAX_LINKS + 1):
        found.setdefault(row["node_id"], []).append(Link(row["node_a"], row["node_b"], row["since"], row["event_id"]))
    for links in found.values():
        links.sort(key=lambda link: link.order)
        del links[MAX_LINKS + 1 :]
    return found


def _late(found: Mapping[UUID, Sequence[Link]], known: Set[Link]) -> set[Late]:
    hot = {node: set(links[:MAX_LINKS]) for node, links in found.items() if len(links) > MAX_LINKS}
    if not hot:
        return set()
    return {(end, link) for link in known for end in (link.a, link.b) if end in hot and link not in hot[end]}


async def profiles_of(connection: Connection, tenant_id: str, nodes: Iterable[UUID]) -> dict[UUID, UUID]:
    """The profile that each of them belongs to now."""
    rows = await connection.fetch(_PROFILES_OF, tenant_id, list(nodes))
    return {row["node_id"]: row["profile_id"] for row in rows}
