"""Statements that more than one store needs, inside the caller's transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from chassis.db import Connection
from services.segmentation.domain import SHIPPED, Cuts, Definition, Family, Plan, Trait, Use, condition_from_json

# asyncpg's Record: by name, as a mapping.
Row: TypeAlias = Any

_TENANT: Final = """
SELECT turn, swept_turn, seen_at, refreshed_at FROM segmentation.tenants WHERE tenant_id = $1
"""
_SEGMENTS: Final = """
SELECT s.key, s.name, s.description, s.version, s.turn, s.created_at, s.purpose, s.channel, v.condition
FROM segmentation.segments AS s
JOIN segmentation.segment_versions AS v ON (v.tenant_id, v.key, v.version) = (s.tenant_id, s.key, s.version)
WHERE s.tenant_id = $1 ORDER BY s.key
"""
_CUTS: Final = """
SELECT version, at, customer_count, recency, frequency, monetary FROM segmentation.cuts
WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1
"""
_TAKE_TURN: Final = """
UPDATE segmentation.tenants SET turn = turn + 1 WHERE tenant_id = $1 AND turn = $2 RETURNING turn
"""
# Of the same time the one that came later counts.
_ADD_TRAITS: Final = """
INSERT INTO segmentation.traits AS known (tenant_id, profile_id, name, value, ts)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[]::jsonb[], $5::timestamptz[])
ON CONFLICT (tenant_id, profile_id, name) DO UPDATE SET value = excluded.value, ts = excluded.ts
WHERE excluded.ts >= known.ts
"""
_MOVE_TRAITS: Final = """
WITH moves AS (SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS move (source, target)),
gone AS (
    DELETE FROM segmentation.traits USING moves
    WHERE tenant_id = $1 AND profile_id = source RETURNING target, name, value, ts
)
INSERT INTO segmentation.traits AS known (tenant_id, profile_id, name, value, ts)
SELECT DISTINCT ON (target, name) $1, target, name, value, ts FROM gone ORDER BY target, name, ts DESC
ON CONFLICT (tenant_id, profile_id, name) DO UPDATE SET value = excluded.value, ts = excluded.ts
WHERE excluded.ts > known.ts
"""


async def ensure_tenant(connection: Connection, tenant: str) -> Row:
    """The tenant's row, made where there is none yet."""
    row = await connection.fetchrow(_TENANT, tenant)
    if row is None:
        await connection.execute("INSERT INTO segmentation.tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant)
        row = await connection.fetchrow(_TENANT, tenant)
    assert row is not None  # noqa: S101  (nothing deletes tenants)
    return row


class Overtaken(Exception):
    """Somebody else wrote after the plan was loaded: what was decided on it is void, and decided again."""


async def take_turn(connection: Connection, tenant: str, turn: int) -> int:
    """The next turn. Locks the tenant's row until the end of the transaction. Raises Overtaken where `turn` is over."""
    next_turn = await connection.fetchval(_TAKE_TURN, tenant, turn)
    if next_turn is None:
        raise Overtaken
    return next_turn


async def load_segments(connection: Connection, tenant: str) -> Sequence[Row]:
    """The tenant's own segments at their newest version, by key."""
    return await connection.fetch(_SEGMENTS, tenant)


async def load_cuts(connection: Connection, tenant: str) -> Cuts | None:
    """The newest quintile cuts."""
    row = await connection.fetchrow(_CUTS, tenant)
    if row is None:
        return None
    borders = (tuple(row["recency"]), tuple(row["frequency"]), tuple(row["monetary"]))
    return Cuts(*borders, row["customer_count"], row["at"], row["version"])


def definition_of(row: Row) -> Definition:
    """A tenant's own segment."""
    condition = condition_from_json(json.loads(row["condition"]))
    use = Use(row["purpose"], row["channel"]) if row["purpose"] else None
    return Definition(row["key"], row["name"], row["description"], condition=condition, version=row["version"], use=use)


def shipped(cuts: Cuts | None) -> Sequence[Definition]:
    """What every tenant has; RFM segments at the version of the cuts."""
    version = cuts.version if cuts else 1
    return [replace(each, version=version) if each.family is Family.RFM else each for each in SHIPPED]


def plan_of(rows: Sequence[Row], cuts: Cuts | None) -> Plan:
    """All segments of a tenant: what is shipped and its own."""
    return Plan([*shipped(cuts), *map(definition_of, rows)], cuts)


async def add_traits(connection: Connection, tenant: str, traits: Sequence[Trait]) -> None:
    """At most one of each profile and name."""
    if traits:
        rows = [(each.profile_id, each.name, each.stored, each.ts) for each in traits]
        await connection.execute(_ADD_TRAITS, tenant, *columns(rows))


async def move_traits(connection: Connection, tenant: str, moves: Mapping[UUID, UUID]) -> None:
    """From one profile to another; the newest of each name stays. No target is a source."""
    if moves:
        await connection.execute(_MOVE_TRAITS, tenant, list(moves), list(moves.values()))


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """For unnest: rows to columns. Not for no rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def is_refreshed(row: Row, turn: int) -> datetime | None:
    """When every profile was last evaluated, as long as it was after the turn in which a segment was defined."""
    return row["refreshed_at"] if turn <= row["swept_turn"] else None
