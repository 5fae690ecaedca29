"""Definitions with their versions, and reads of who is in what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Connection, Database
from chassis.errors import Conflict, NotFound, Reason
from services.segmentation.domain import Condition, Cuts, Definition, Plan, Use, condition_to_json
from services.segmentation.store.rows import (
    definition_of,
    ensure_tenant,
    is_refreshed,
    load_cuts,
    load_segments,
    plan_of,
    shipped,
    take_turn,
)

_COUNTS: Final = """
SELECT segment_key, count(*) AS members FROM segmentation.memberships
WHERE tenant_id = $1 AND is_member AND ($2::text IS NULL OR segment_key = $2) GROUP BY segment_key
"""
_MEMBERS: Final = """
SELECT profile_id, since FROM segmentation.memberships
WHERE tenant_id = $1 AND segment_key = $2 AND is_member AND ($3::uuid IS NULL OR profile_id > $3)
ORDER BY profile_id LIMIT $4
"""
_MEMBERSHIPS: Final = """
SELECT segment_key, since FROM segmentation.memberships
WHERE tenant_id = $1 AND profile_id = $2 AND is_member ORDER BY segment_key
"""
_ADD: Final = """
INSERT INTO segmentation.segments (tenant_id, key, name, description, version, turn, purpose, channel)
VALUES ($1, $2, $3, $4, 1, $5, $6, $7)
ON CONFLICT DO NOTHING
"""
_REVISE: Final = "UPDATE segmentation.segments SET version = $3, turn = $4 WHERE tenant_id = $1 AND key = $2"
_USE: Final = "UPDATE segmentation.segments SET purpose = $3, channel = $4 WHERE tenant_id = $1 AND key = $2"
_ADD_VERSION: Final = """
INSERT INTO segmentation.segment_versions (tenant_id, key, version, condition, actor) VALUES ($1, $2, $3, $4::text::jsonb, $5)
"""


NO_USE: Final = Use("")


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment with what is known of its members. `refreshed` is None while they are still being found."""

    definition: Definition
    created: datetime
    refreshed: datetime | None
    member_count: int
    cuts: Cuts | None


@dataclass(frozen=True, slots=True)
class Member:
    """A profile in a segment, or a segment of a profile."""

    profile_id: UUID
    segment: str
    since: datetime


class SegmentStore:
    """Segments of a tenant, the shipped ones included."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plan(self, tenant: str) -> tuple[int, Plan]:
        """(turn, all segments): the turn is asked for again by whoever writes what was decided on the plan."""
        async with self._database.transaction() as connection:
            row = await ensure_tenant(connection, tenant)
            return row["turn"], plan_of(await load_segments(connection, tenant), await load_cuts(connection, tenant))

    async def list(self, tenant: str, key: str | None = None) -> Sequence[Stored]:
        """All segments, or the one of that key: shipped first, then by key."""
        async with self._database.transaction() as connection:
            row = await ensure_tenant(connection, tenant)
            own = await load_segments(connection, tenant)
            cuts = await load_cuts(connection, tenant)
            counts = {each["segment_key"]: each["members"] for each in await connection.fetch(_COUNTS, tenant, key)}
        ours = [Stored(each, row["seen_at"], is_refreshed(row, 0), counts.get(each.key, 0), cuts) for each in shipped(cuts)]
        mine = [
            Stored(definition_of(each), each["created_at"], is_refreshed(row, each["turn"]), counts.get(each["key"], 0), None)
            for each in own
        ]
        return [each for each in [*ours, *mine] if key is None or each.definition.key == key]

    async def get(self, tenant: str, key: str) -> Stored:
        """Raises NotFound."""
        found = await self.list(tenant, key)
        if not found:
            raise NotFound("there is no such segment", reason=Reason.NOT_FOUND, field="key")
        return found[0]

    async def add(self, tenant: str, definition: Definition, *, turn: int, actor: str) -> bool:
        """Version 1 of a new segment. False where the same is there.

        Raises Conflict where there is another of that key, Overtaken where the turn is over.
        """
        condition = _condition_of(definition)
        async with self._database.transaction() as connection:
            turn = await take_turn(connection, tenant, turn)
            use = definition.use or NO_USE
            values = (definition.key, definition.name, definition.description, turn, use.purpose, use.channel)
            if (await connection.execute(_ADD, tenant, *values)).endswith(" 0"):
                known = next(each for each in await load_segments(connection, tenant) if each["key"] == definition.key)
                if definition_of(known) != definition:
                    raise Conflict(f'there is another segment "{definition.key}"', field="key")
                return False
            await _add_version(connection, tenant, definition.key, 1, condition, actor)
        return True

    async def revise(self, tenant: str, key: str, condition: Condition, use: Use | None, *, turn: int, actor: str) -> bool:
        """A new version; False where the newest has that condition. Raises NotFound, or Overtaken where the turn is over.

        `use` None: as it was. It belongs to the segment, not to a version.
        """
        async with self._database.transaction() as connection:
            turn = await take_turn(connection, tenant, turn)
            known = next((each for each in await load_segments(connection, tenant) if each["key"] == key), None)
            if known is None:
                raise NotFound("there is no such segment", reason=Reason.NOT_FOUND, field="key")
            if use is not None:
                await connection.execute(_USE, tenant, key, use.purpose, use.channel)
            if definition_of(known).condition == condition:
                return False
            version = known["version"] + 1
            await connection.execute(_REVISE, tenant, key, version, turn)
            await _add_version(connection, tenant, key, version, condition, actor)
        return True

    async def members(self, tenant: str, key: str, *, after: UUID | None, limit: int) -> Sequence[Member]:
        """In the order of their ids."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_MEMBERS, tenant, key, after, limit)
        return [Member(row["profile_id"], key, row["since"]) for row in rows]

    async def memberships(self, tenant: str, profile_id: UUID) -> Sequence[Member]:
        """Every segment that a profile is in, by key."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_MEMBERSHIPS, tenant, profile_id)
        return [Member(profile_id, row["segment_key"], row["since"]) for row in rows]


def _condition_of(definition: Definition) -> Condition:
    assert definition.condition is not None  # noqa: S101  (only shipped segments are without)
    return definition.condition


async def _add_version(connection: Connection, tenant: str, key: str, version: int, condition: Condition, actor: str) -> None:
    await connection.execute(_ADD_VERSION, tenant, key, version, json.dumps(condition_to_json(condition)), actor)
