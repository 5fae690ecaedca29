"""Links between identifiers, and what they make of profiles. Part of the projector's transaction."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.db import Connection
from services.profiles.domain.identity import Link, Merge, Step, histories, merges
from services.profiles.store.log import Entry, append_entries
from services.profiles.store.moments import from_us, to_us

# A node with more links is no person; further ones are not even remembered.
MAX_LINKS: Final = 300

_LINKS = f"""
WITH new AS (
    SELECT node_a, node_b, {from_us("since")} AS since
    FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS given (node_a, node_b, since)
)
INSERT INTO profiles.links AS link (tenant_id, node_a, node_b, since)
SELECT $1, new.node_a, new.node_b, new.since
FROM new LEFT JOIN profiles.links AS old ON old.tenant_id = $1 AND old.node_a = new.node_a AND old.node_b = new.node_b
WHERE new.since < old.since OR (old.since IS NULL AND NOT EXISTS (
    SELECT FROM unnest(ARRAY[new.node_a, new.node_b]) AS ends (node_id)
    WHERE (SELECT count(*) FROM (
        (SELECT FROM profiles.links AS own WHERE own.tenant_id = $1 AND own.node_a = ends.node_id LIMIT $5)
        UNION ALL
        (SELECT FROM profiles.links AS own WHERE own.tenant_id = $1 AND own.node_b = ends.node_id LIMIT $5)
    ) AS counted) >= $5
))
ON CONFLICT (tenant_id, node_a, node_b) DO UPDATE SET since = least(link.since, excluded.since)
RETURNING node_a, node_b
"""
_MEMBERS = "SELECT node_id, profile_id FROM profiles.nodes WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"
_LINKS_OF = f"""
SELECT node_a, node_b, {to_us("since")} AS since FROM profiles.links
WHERE tenant_id = $1 AND node_a = ANY($2::uuid[])
"""
_STEPS_OF = f"""
SELECT node_id, profile_id, {to_us("since")} AS since FROM profiles.node_profiles
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) ORDER BY node_id, node_profiles.since
"""
_DROP_STEPS = "DELETE FROM profiles.node_profiles WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_ADD_STEPS = f"""
INSERT INTO profiles.node_profiles (tenant_id, node_id, profile_id, since)
SELECT $1, node_id, profile_id, coalesce({from_us("since")}, '-infinity')
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS new (node_id, profile_id, since)
"""
_MOVE_NODES = """
UPDATE profiles.nodes AS node SET profile_id = new.profile_id
FROM unnest($2::uuid[], $3::uuid[]) AS new (node_id, profile_id)
WHERE node.tenant_id = $1 AND node.node_id = new.node_id AND node.profile_id <> new.profile_id
"""
_DROP_PROFILES = "DELETE FROM profiles.profiles WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"

# (tenant id, merges) -> the log entries that tell others of them.
Announce = Callable[[str, Sequence[Merge]], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Merged:
    """What new links made of profiles: which were `affected`, which stand there now, and how many links were refused."""

    affected: Set[UUID] = frozenset()
    standing: Set[UUID] = frozenset()
    refused: int = 0


async def save_links(
    connection: Connection,
    tenant_id: str,
    links: Mapping[tuple[str, str], int],
    profile_of: Mapping[UUID, UUID],
    announce: Announce,
) -> Merged:
    """Merges what new links connect. Rows of profiles that are no more go; the others are the caller's to write.

    `links`: both ends, the smaller first, and since when, in microseconds. `profile_of`: where each end belongs by now.
    """
    pairs = sorted(links)
    rows = await connection.fetch(
        _LINKS, tenant_id, [a for a, _ in pairs], [b for _, b in pairs], [links[pair] for pair in pairs], MAX_LINKS
    )
    if not rows:
        return Merged()
    affected = {profile_of[row[end]] for row in rows for end in ("node_a", "node_b")}
    before = [row["node_id"] for row in await connection.fetch(_MEMBERS, tenant_id, list(affected))]
    after, refused = histories(before, await _links_among(connection, tenant_id, before))
    if changed := await _changed(connection, tenant_id, after):
        await _write_steps(connection, tenant_id, changed)
    if found := merges(affected, after):
        await connection.execute(_DROP_PROFILES, tenant_id, [merge.from_id for merge in found])
        await append_entries(connection, tenant_id, announce(tenant_id, found))
    return Merged(affected, {steps[-1].profile_id for steps in after.values()}, refused)


async def _links_among(connection: Connection, tenant_id: str, nodes: Sequence[UUID]) -> list[Link]:
    """A link that was refused once may lead out of what is known here: that one is not among them."""
    known = set(nodes)
    rows = await connection.fetch(_LINKS_OF, tenant_id, nodes)
    return [Link(row["node_a"], row["node_b"], row["since"]) for row in rows if row["node_b"] in known]


async def _changed(connection: Connection, tenant_id: str, after: Mapping[UUID, Sequence[Step]]) -> dict[UUID, Sequence[Step]]:
    """Those nodes whose steps are not what is stored."""
    stored: dict[UUID, list[Step]] = {}
    for row in await connection.fetch(_STEPS_OF, tenant_id, list(after)):
        stored.setdefault(row["node_id"], []).append(Step(row["profile_id"], row["since"]))
    return {node: steps for node, steps in after.items() if stored.get(node) != steps}


async def _write_steps(connection: Connection, tenant_id: str, steps: Mapping[UUID, Sequence[Step]]) -> None:
    rows = [(node, step.profile_id, step.since_us) for node, each in steps.items() for step in each]
    await connection.execute(_DROP_STEPS, tenant_id, list(steps))
    await connection.execute(_ADD_STEPS, tenant_id, *map(list, zip(*rows, strict=True)))
    present = [(node, each[-1].profile_id) for node, each in steps.items()]
    await connection.execute(_MOVE_NODES, tenant_id, *map(list, zip(*present, strict=True)))
