"""Links between identifiers and rulings on them, and what they make of profiles. Part of the projector's transaction.

Tables are named without a schema, see projection.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias
from uuid import UUID

from chassis.db import Connection
from services.profiles.domain.identity import (
    MAX_LINKS,
    Link,
    Moves,
    NodeTrait,
    Parting,
    Resolved,
    Ruling,
    Step,
    histories,
    losing,
    moves,
)
from services.profiles.store.issues import save_issues
from services.profiles.store.kinship import MAX_KIN, Kin, first_links, load, profiles_of
from services.profiles.store.log import Entry, append_entries
from services.profiles.store.moments import from_us, to_us

_ROUNDS: Final = 20

_SAVE_LINKS = f"""
WITH new AS (
    SELECT node_a, node_b, {from_us("since")} AS since, event_id
    FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bytea[]) AS given (node_a, node_b, since, event_id)
)
INSERT INTO links AS link (tenant_id, node_a, node_b, since, event_id)
SELECT $1, new.node_a, new.node_b, new.since, new.event_id
FROM new LEFT JOIN links AS old ON old.tenant_id = $1 AND old.node_a = new.node_a AND old.node_b = new.node_b
WHERE old.since IS NULL OR (new.since, new.event_id) < (old.since, coalesce(old.event_id, ''))
ON CONFLICT (tenant_id, node_a, node_b) DO UPDATE SET since = excluded.since, event_id = excluded.event_id
RETURNING node_a, node_b, {to_us("since")} AS since, event_id
"""
_SAVE_RULINGS = f"""
INSERT INTO identity_rulings (tenant_id, node_a, node_b, event_id, since, is_parted)
SELECT $1, node_a, node_b, event_id, {from_us("since")}, is_parted
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bytea[], $6::boolean[])
    AS new (node_a, node_b, since, event_id, is_parted)
ON CONFLICT DO NOTHING RETURNING node_a, node_b
"""
_HOT = """
SELECT node_id FROM unnest($2::uuid[]) AS ends (node_id)
WHERE (SELECT count(*) FROM (
    (SELECT FROM links WHERE tenant_id = $1 AND node_a = ends.node_id LIMIT $3)
    UNION ALL
    (SELECT FROM links WHERE tenant_id = $1 AND node_b = ends.node_id LIMIT $3)
) AS counted) >= $3
"""
_DROP_STEPS = "DELETE FROM node_profiles WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])"
_ADD_STEPS = f"""
INSERT INTO node_profiles (tenant_id, node_id, profile_id, since)
SELECT $1, node_id, profile_id, coalesce({from_us("since")}, '-infinity')
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS new (node_id, profile_id, since)
"""
_MOVE_NODES = """
UPDATE nodes AS node SET profile_id = new.profile_id
FROM unnest($2::uuid[], $3::uuid[]) AS new (node_id, profile_id)
WHERE node.tenant_id = $1 AND node.node_id = new.node_id AND node.profile_id <> new.profile_id
"""
_DROP_PROFILES = "DELETE FROM profiles WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"

_TRAITS = f"""
SELECT node_id, key, value::text, {to_us("ts")} AS ts FROM traits
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) ORDER BY traits.ts DESC, key LIMIT $3
"""
# What a fact may carry; the newest are told.
MAX_TRAITS: Final = 500

# (tenant id, what became of profiles) -> the log entries that tell others of it.
Announce: TypeAlias = Callable[[str, Moves], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Merged:
    """What links and rulings made of profiles.

    `moved`: where nodes belong now that belonged elsewhere. `changed`: the profiles that gained or lost nodes, and stand.
    `refused_count`: of the new links, how many join nobody.
    """

    moved: Mapping[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    changed: Set[UUID] = frozenset()
    refused_count: int = 0


async def save_identities(
    connection: Connection,
    tenant_id: str,
    links: Sequence[Link],
    rulings: Sequence[Ruling],
    profile_of: Mapping[UUID, UUID],
    announce: Announce,
) -> Merged:
    """Merges what new links connect and parts what rulings part. Rows of profiles that are no more go; the others are the
    caller's to write. `profile_of`: where each end belongs by now, where it is known at all.
    """
    new = await _save_links(connection, tenant_id, links) if links else []
    ruled = await _save_rulings(connection, tenant_id, rulings) if rulings else set[UUID]()
    ends = ruled | await _counting_ends(connection, tenant_id, new)
    if not (seeds := {profile_of[end] for end in ends if end in profile_of}):
        return Merged(refused_count=len(new))
    kin, resolved = await _resolve(connection, tenant_id, seeds)
    changed = {node: steps for node, steps in resolved.steps.items() if list(kin.steps[node]) != steps}
    if changed:
        await _write_steps(connection, tenant_id, changed)
    await save_issues(connection, tenant_id, kin, resolved)
    before = {node: kin.steps[node][-1].profile_id for node in kin.steps}
    moved = {node: steps[-1].profile_id for node, steps in changed.items() if steps[-1].profile_id != before[node]}
    standing = await _tell(connection, tenant_id, before, moved, resolved, announce) if moved else set[UUID]()
    return Merged(moved, standing, _refused_count(new, resolved))


async def _save_links(connection: Connection, tenant_id: str, links: Sequence[Link]) -> list[Link]:
    """Those that are new, or older than was known."""
    columns = zip(*((link.a, link.b, link.since_us, link.event_id) for link in links), strict=True)
    return [Link(*row) for row in await connection.fetch(_SAVE_LINKS, tenant_id, *map(list, columns))]


async def _save_rulings(connection: Connection, tenant_id: str, rulings: Sequence[Ruling]) -> set[UUID]:
    columns = zip(*((each.a, each.b, each.since_us, each.event_id, each.is_parted) for each in rulings), strict=True)
    rows = await connection.fetch(_SAVE_RULINGS, tenant_id, *map(list, columns))
    return {row[end] for row in rows for end in ("node_a", "node_b")}


async def _counting_ends(connection: Connection, tenant_id: str, links: Sequence[Link]) -> set[UUID]:
    """The ends of links, without those at which a link comes after all that count."""
    ends = {end for link in links for end in (link.a, link.b)}
    hot = [row[0] for row in await connection.fetch(_HOT, tenant_id, list(ends), MAX_LINKS + 1)] if ends else []
    if not hot:
        return ends
    first = {node: set(links[:MAX_LINKS]) for node, links in (await first_links(connection, tenant_id, hot)).items()}
    return {end for link in links for end in (link.a, link.b) if end not in first or link in first[end]}


async def _resolve(connection: Connection, tenant_id: str, seeds: set[UUID]) -> tuple[Kin, Resolved]:
    """Goes on to neighbours as long as a link that was refused to them may be followed now."""
    names = set(seeds)
    for _ in range(_ROUNDS):
        kin = await load(connection, tenant_id, names)
        resolved = histories(kin.steps, kin.links, kin.rulings, late=kin.late)
        reached = losing(kin.steps, resolved.steps, kin.outward, has_rulings=bool(kin.rulings))
        more = set((await profiles_of(connection, tenant_id, reached)).values()) - names if reached else set[UUID]()
        if not more or len(kin.steps) > MAX_KIN:
            return kin, resolved
        names |= more
    return kin, resolved


async def _write_steps(connection: Connection, tenant_id: str, steps: Mapping[UUID, Sequence[Step]]) -> None:
    rows = [(node, step.profile_id, step.since_us) for node, each in steps.items() for step in each]
    await connection.execute(_DROP_STEPS, tenant_id, list(steps))
    await connection.execute(_ADD_STEPS, tenant_id, *map(list, zip(*rows, strict=True)))
    present = [(node, each[-1].profile_id) for node, each in steps.items()]
    await connection.execute(_MOVE_NODES, tenant_id, *map(list, zip(*present, strict=True)))


async def _tell(
    connection: Connection,
    tenant_id: str,
    before: Mapping[UUID, UUID],
    moved: Mapping[UUID, UUID],
    resolved: Resolved,
    announce: Announce,
) -> set[UUID]:
    """The profiles that gained or lost nodes, and stand."""
    touched = {profile for node, now in moved.items() for profile in (before[node], now)}
    standing = {profile for profile in touched if resolved.steps[profile][-1].profile_id == profile}
    if gone := touched - standing:
        await connection.execute(_DROP_PROFILES, tenant_id, list(gone))
    found = moves(before, resolved.steps)
    if found.partings:
        found = replace(found, traits=await _traits(connection, tenant_id, found.partings, resolved))
    if (found.merges or found.partings) and (entries := announce(tenant_id, found)):
        await append_entries(connection, tenant_id, entries)
    return standing


async def _traits(
    connection: Connection, tenant_id: str, partings: Sequence[Parting], resolved: Resolved
) -> dict[UUID, list[NodeTrait]]:
    """By profile, of all that parted."""
    profiles = {profile for parting in partings for profile in (parting.from_id, parting.into_id)}
    now = {node: steps[-1].profile_id for node, steps in resolved.steps.items() if steps[-1].profile_id in profiles}
    found: dict[UUID, list[NodeTrait]] = {}
    for row in await connection.fetch(_TRAITS, tenant_id, list(now), MAX_TRAITS):
        found.setdefault(now[row["node_id"]], []).append(NodeTrait(*row))
    return found


def _refused_count(new: Iterable[Link], resolved: Resolved) -> int:
    """A link that leads out of what was resolved joins nobody either."""
    now = {node: steps[-1].profile_id for node, steps in resolved.steps.items()}
    return sum(link.a not in now or link.b not in now or now[link.a] != now[link.b] for link in new)
