"""What the projector writes: one transaction for each batch of the log, the cursor's move included.

The cursor is moved first, and its row stays locked: whatever is read here, nobody else is changing.

Tables of projections are named without a schema, here and in merging.py: the connection's search_path has it. The service
runs with `profiles`, a rebuild with tables of its own beside it (rebuild.py). All other tables are named in full.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.log import Cursor, Position
from services.profiles.domain.identity import Link, Moves, Namespace, Ruling, namespace_of
from services.profiles.store.accounts import Grouping, save_groups
from services.profiles.store.consents import Recorded, save_consents
from services.profiles.store.log import Entry
from services.profiles.store.merging import Announce, Merged, save_identities
from services.profiles.store.moments import from_us, to_us
from services.profiles.timeline import TimelineRow

MAX_PERSONAL: Final = 20

_COLUMNS: Final = (
    "tenant_id", "node_id", "event_id", "ts", "known_at", "received_at",
    "type", "name", "source", "channel", "numbers", "texts", "rest",
)  # fmt: skip
_TIMELINE = f"""
INSERT INTO timeline ({", ".join(_COLUMNS)})
SELECT $1, node_id, event_id, {from_us("ts")}, {from_us("known")}, {from_us("received")}, type, name, source, channel,
    numbers::jsonb, texts::jsonb, rest::jsonb
FROM unnest(
    $2::uuid[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[], $13::text[]
) AS new (node_id, event_id, ts, known, received, type, name, source, channel, numbers, texts, rest)
ON CONFLICT DO NOTHING RETURNING event_id
"""
_KNOWN_NODES = f"""
SELECT node_id, profile_id, {to_us("first_seen")} AS first FROM nodes
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])
"""
_NODES = f"""
INSERT INTO nodes AS node (tenant_id, node_id, profile_id, first_seen, last_seen, event_count)
SELECT $1, node_id, node_id, {from_us("first")}, {from_us("last")}, count
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[]) AS new (node_id, first, last, count)
ON CONFLICT (tenant_id, node_id) DO UPDATE SET
    first_seen = least(node.first_seen, excluded.first_seen), last_seen = greatest(node.last_seen, excluded.last_seen),
    event_count = node.event_count + excluded.event_count
"""
_FIRST_PROFILES = """
INSERT INTO node_profiles (tenant_id, node_id, profile_id, since)
SELECT $1, node_id, node_id, '-infinity' FROM unnest($2::uuid[]) AS new (node_id) ON CONFLICT DO NOTHING
"""
# Of a profile that nothing happened to but events: what they add.
_ADD_TO_PROFILES = f"""
INSERT INTO profiles AS profile (tenant_id, profile_id, first_seen, last_seen, event_count, identified)
SELECT $1, profile_id, {from_us("first")}, {from_us("last")}, count, identified
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
    AS new (profile_id, first, last, count, identified)
ON CONFLICT (tenant_id, profile_id) DO UPDATE SET
    first_seen = least(profile.first_seen, excluded.first_seen),
    -- Where nothing was its own, this stood for when it was first named.
    last_seen = CASE WHEN profile.event_count = 0 THEN excluded.last_seen
        ELSE greatest(profile.last_seen, excluded.last_seen) END,
    event_count = profile.event_count + excluded.event_count
"""
# Of a profile whose nodes have changed: all of it, anew.
_PROFILES = """
INSERT INTO profiles (tenant_id, profile_id, first_seen, last_seen, event_count, identified)
SELECT $1, profile_id, min(first_seen), coalesce(max(last_seen), min(first_seen)), sum(event_count), bool_or(identified)
FROM unnest($2::uuid[], $3::boolean[]) AS standing (profile_id, identified)
JOIN nodes USING (profile_id) WHERE nodes.tenant_id = $1
GROUP BY profile_id
ON CONFLICT (tenant_id, profile_id) DO UPDATE SET
    first_seen = excluded.first_seen, last_seen = excluded.last_seen, event_count = excluded.event_count
"""
_TRAITS = f"""
INSERT INTO traits AS trait (tenant_id, node_id, key, value, ts, event_id)
SELECT $1, node_id, key, value::jsonb, {from_us("ts")}, event_id
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bytea[]) AS new (node_id, key, value, ts, event_id)
ON CONFLICT (tenant_id, node_id, key) DO UPDATE SET value = excluded.value, ts = excluded.ts, event_id = excluded.event_id
WHERE (excluded.ts, excluded.event_id) > (trait.ts, trait.event_id)
"""
_PERSONAL = f"""
INSERT INTO personal_traits AS trait (tenant_id, node_id, traits_digest, ts, event_id, known_at, sealed)
SELECT $1, node_id, traits_digest, {from_us("ts")}, event_id, {from_us("known")}, sealed
FROM unnest($2::uuid[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[])
    AS new (node_id, traits_digest, ts, event_id, known, sealed)
ON CONFLICT (tenant_id, node_id, traits_digest) DO UPDATE SET
    ts = excluded.ts, event_id = excluded.event_id, known_at = excluded.known_at, sealed = excluded.sealed
WHERE (excluded.ts, excluded.event_id) > (trait.ts, trait.event_id)
"""
_PRUNE_PERSONAL = """
DELETE FROM personal_traits AS trait USING (
    SELECT node_id, traits_digest, row_number() OVER (PARTITION BY node_id ORDER BY ts DESC, event_id DESC) AS place
    FROM personal_traits WHERE tenant_id = $1 AND node_id = ANY($2::uuid[])
) AS old
WHERE trait.tenant_id = $1 AND trait.node_id = old.node_id AND trait.traits_digest = old.traits_digest AND old.place > $3
"""
_IDENTIFIERS = f"""
INSERT INTO identifiers AS known (tenant_id, identifier_id, node_id, ts, event_id)
SELECT $1, identifier_id, node_id, {from_us("ts")}, event_id
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bytea[]) AS new (identifier_id, node_id, ts, event_id)
ON CONFLICT (tenant_id, identifier_id, node_id) DO UPDATE SET ts = excluded.ts, event_id = excluded.event_id
WHERE (excluded.ts, excluded.event_id) > (known.ts, known.event_id)
"""
_CLOCK = f"""
INSERT INTO clocks AS clock (tenant_id, newest_ts, event_count) VALUES ($1, {from_us("$2::bigint")}, $3)
ON CONFLICT (tenant_id) DO UPDATE SET
    newest_ts = greatest(clock.newest_ts, excluded.newest_ts), event_count = clock.event_count + excluded.event_count
"""


@dataclass(slots=True)
class Trait:
    """The newest value of a trait; ties go to the greater event id."""

    ts_us: int
    event_id: bytes
    value: str


@dataclass(slots=True)
class Sealed:
    """The newest sealed part that says the same of a person."""

    ts_us: int
    event_id: bytes
    known_us: int
    sealed: bytes


@dataclass(slots=True)
class Batch:
    """What a batch of the log says of one tenant. Node ids are texts, times microseconds."""

    tenant_id: str
    rows: list[TimelineRow] = field(default_factory=list[TimelineRow])
    # Of customers' events: event id -> node; these are counted where they are new.
    counted: dict[bytes, str] = field(default_factory=dict[bytes, str])
    # Node -> when it was first named; when its last event was.
    first: dict[str, int] = field(default_factory=dict[str, int])
    last: dict[str, int] = field(default_factory=dict[str, int])
    # Both ends, the smaller first -> since when, and which event says so first.
    links: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict[tuple[str, str], tuple[int, bytes]])
    rulings: list[Ruling] = field(default_factory=list[Ruling])
    # Identifier that joins nobody, node -> the newest event that names both.
    found: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict[tuple[str, str], tuple[int, bytes]])
    groups: list[Grouping] = field(default_factory=list[Grouping])
    consents: list[Recorded] = field(default_factory=list[Recorded])
    traits: dict[tuple[str, str], Trait] = field(default_factory=dict[tuple[str, str], Trait])
    personal: dict[tuple[str, bytes], Sealed] = field(default_factory=dict[tuple[str, bytes], Sealed])


class ProjectionStore:
    """All projections of profiles."""

    def __init__(self, database: Database, cursor: Cursor, *, announces: bool = True) -> None:
        """`announces`: whether the log is told of merges; a replay of the log has it from there already."""
        self._database = database
        self._cursor = cursor
        self._announces = announces

    async def save(self, batches: Iterable[Batch], position: Position, announce: Announce) -> int:
        """Writes what a stretch of the log says and moves the cursor; repeating it changes nothing.

        `announce(tenant id, moves)` gives the entries that tell others what became of profiles; they are appended in the
        same transaction. Returns how many links were refused. Raises Conflict where another process was first.
        """
        refused = 0
        async with self._database.transaction() as connection:
            await self._cursor.advance(connection, position)
            for batch in batches:
                refused += await _save(connection, batch, announce if self._announces else _silent)
        return refused


def _silent(_tenant_id: str, _found: Moves) -> Sequence[Entry]:
    return ()


async def _save(connection: Connection, batch: Batch, announce: Announce) -> int:
    tenant_id = batch.tenant_id
    fresh = await _add_rows(connection, tenant_id, batch.rows) if batch.rows else set[bytes]()
    counts = Counter(node_id for event_id, node_id in batch.counted.items() if event_id in fresh)
    merged = Merged()
    if batch.first or batch.rulings:
        profile_of, named = await _save_nodes(connection, batch, counts)
        if batch.links or batch.rulings:
            links = [Link(UUID(a), UUID(b), *since) for (a, b), since in sorted(batch.links.items())]
            merged = await save_identities(connection, tenant_id, links, batch.rulings, profile_of, announce)
        now = {**profile_of, **merged.moved}
        anew = merged.changed | {now[node] for node in named}
        await _add_to_profiles(connection, batch, counts, now, anew)
        if anew:
            await connection.execute(_PROFILES, tenant_id, list(anew), _identified(anew))
    await _save_traits(connection, batch)
    if batch.found:
        found = [(*pair, *order) for pair, order in batch.found.items()]
        await connection.execute(_IDENTIFIERS, tenant_id, *map(list, zip(*found, strict=True)))
    if batch.groups:
        await save_groups(connection, tenant_id, batch.groups)
    if batch.consents:
        await save_consents(connection, tenant_id, batch.consents)
    if batch.last:
        await connection.execute(_CLOCK, tenant_id, max(batch.last.values()), counts.total())
    return merged.refused_count


async def _add_rows(connection: Connection, tenant_id: str, rows: Sequence[TimelineRow]) -> set[bytes]:
    """The event ids that are new: all of them, unless the log was read again."""
    found = await connection.fetch(_TIMELINE, tenant_id, *map(list, zip(*rows, strict=True)))
    return {row[0] for row in found}


async def _save_nodes(connection: Connection, batch: Batch, counts: Counter[str]) -> tuple[dict[UUID, UUID], set[UUID]]:
    """(the profile that each node of the batch belongs to by now; nodes that were named earlier than was known, without an
    event of their own)."""
    tenant_id = batch.tenant_id
    ruled = {end for ruling in batch.rulings for end in (ruling.a, ruling.b)}
    rows = await connection.fetch(_KNOWN_NODES, tenant_id, [*batch.first, *ruled])
    profile_of: dict[UUID, UUID] = {row["node_id"]: row["profile_id"] for row in rows}
    known = {str(row["node_id"]): row["first"] for row in rows}
    # A device that is only named along with its user, as ever, is not written again.
    changed = [node for node, us in batch.first.items() if node in batch.last or node not in known or us < known[node]]
    new = [node_id for node_id in changed if node_id not in known]
    if changed:
        await connection.execute(
            _NODES,
            tenant_id,
            changed,
            [batch.first[node_id] for node_id in changed],
            [batch.last.get(node_id) for node_id in changed],
            [counts[node_id] for node_id in changed],
        )
    if new:
        await connection.execute(_FIRST_PROFILES, tenant_id, new)
    named = {UUID(node_id) for node_id in changed if node_id not in batch.last}
    return profile_of | {node: node for node in map(UUID, new)}, named


async def _add_to_profiles(
    connection: Connection, batch: Batch, counts: Counter[str], profile_of: Mapping[UUID, UUID], others: Set[UUID]
) -> None:
    """All profiles of the batch but `others`, which are written anew."""
    first, last, count = dict[UUID, int](), dict[UUID, int](), Counter[UUID]()
    for node_id, last_us in batch.last.items():
        profile_id = profile_of[UUID(node_id)]
        if profile_id not in others:
            first_us = batch.first[node_id]
            first[profile_id] = min(first_us, first.get(profile_id, first_us))
            last[profile_id] = max(last_us, last.get(profile_id, last_us))
            count[profile_id] += counts[node_id]
    if first:
        columns = (list(first), list(first.values()), list(last.values()), [count[profile_id] for profile_id in first])
        await connection.execute(_ADD_TO_PROFILES, batch.tenant_id, *columns, _identified(first))


def _identified(profile_ids: Iterable[UUID]) -> list[bool]:
    """Of each: whether it has a user id, which then names it."""
    return [namespace_of(profile_id) is Namespace.USER_ID for profile_id in profile_ids]


async def _save_traits(connection: Connection, batch: Batch) -> None:
    if batch.traits:
        rows = [(node_id, key, one.value, one.ts_us, one.event_id) for (node_id, key), one in batch.traits.items()]
        await connection.execute(_TRAITS, batch.tenant_id, *map(list, zip(*rows, strict=True)))
    if batch.personal:
        parts = [
            (node_id, digest, one.ts_us, one.event_id, one.known_us, one.sealed)
            for (node_id, digest), one in batch.personal.items()
        ]
        await connection.execute(_PERSONAL, batch.tenant_id, *map(list, zip(*parts, strict=True)))
        await connection.execute(_PRUNE_PERSONAL, batch.tenant_id, [part[0] for part in parts], MAX_PERSONAL)
