"""What the projector writes."""

from collections.abc import Mapping
from typing import Final

from chassis.db import Connection, Database
from chassis.log import Cursor, Position
from services.recommendation.domain.changes import Changes, final_profiles, stays

_NAME_ITEMS: Final = """
INSERT INTO recommendation.items AS known (tenant_id, item_id, name, category, named_at)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT (tenant_id, item_id) DO UPDATE SET
    name = CASE WHEN excluded.name = '' THEN known.name ELSE excluded.name END,
    category = CASE WHEN excluded.category = '' THEN known.category ELSE excluded.category END,
    named_at = excluded.named_at
WHERE excluded.named_at >= known.named_at
    AND (excluded.name NOT IN ('', known.name) OR excluded.category NOT IN ('', known.category))
"""

# Who a node has become is looked up in the same statement.
_ADD_PURCHASES: Final = """
WITH added AS (
    INSERT INTO recommendation.purchases
    SELECT $1, COALESCE(merges.profile_id, said.node_id), items.item_no, said.order_id, said.bought_at, said.known_at,
        said.node_id
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
        AS said (node_id, item_id, order_id, bought_at, known_at)
    JOIN recommendation.items ON items.tenant_id = $1 AND items.item_id = said.item_id
    LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.node_id
    ON CONFLICT DO NOTHING
    RETURNING 1
)
INSERT INTO recommendation.volumes AS known SELECT $1, count(*) FROM added
ON CONFLICT (tenant_id) DO UPDATE SET purchase_count = known.purchase_count + excluded.purchase_count
"""

_ADD_PAYMENTS: Final = """
INSERT INTO recommendation.spending
SELECT $1, COALESCE(merges.profile_id, said.node_id), said.event_id, said.happened_at, said.amount, said.node_id
FROM unnest($2::uuid[], $3::bytea[], $4::timestamptz[], $5::float8[]) AS said (node_id, event_id, happened_at, amount)
LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.node_id
ON CONFLICT DO NOTHING
"""

# After _EXIT: what began among the moves ends among them, or not yet.
_STAY: Final = """
INSERT INTO recommendation.memberships
SELECT DISTINCT ON (2, 3, 4) $1, COALESCE(merges.profile_id, said.node_id), said.segment, said.entered_at, said.exited_at
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[]) WITH ORDINALITY
    AS said (node_id, segment, entered_at, exited_at, place)
LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.node_id
ORDER BY 2, 3, 4, said.place DESC
ON CONFLICT (tenant_id, profile_id, segment, entered_at) DO UPDATE SET exited_at = excluded.exited_at
"""

_EXIT: Final = """
UPDATE recommendation.memberships AS known SET exited_at = gone.exited_at
FROM (
    SELECT COALESCE(merges.profile_id, said.node_id) AS profile_id, said.segment, said.exited_at
    FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS said (node_id, segment, exited_at)
    LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.node_id
) AS gone
WHERE known.tenant_id = $1 AND known.profile_id = gone.profile_id AND known.segment = gone.segment
    AND known.exited_at IS NULL AND known.entered_at <= gone.exited_at
"""

_SCORE: Final = """
INSERT INTO recommendation.scores AS known
SELECT DISTINCT ON (2) $1, COALESCE(merges.profile_id, said.node_id), said.probability, said.as_of
FROM unnest($2::uuid[], $3::float8[], $4::timestamptz[]) AS said (node_id, probability, as_of)
LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.node_id
ORDER BY 2, said.as_of DESC
ON CONFLICT (tenant_id, profile_id) DO UPDATE SET probability = excluded.probability, as_of = excluded.as_of
WHERE excluded.as_of >= known.as_of
"""

_SET_CATALOGUE: Final = """
UPDATE recommendation.items SET in_catalogue = said.in_catalogue, catalogue_version = said.version
FROM unnest($2::text[], $3::boolean[], $4::int[]) AS said (item_id, in_catalogue, version)
WHERE items.tenant_id = $1 AND items.item_id = said.item_id AND items.catalogue_version < said.version
"""

# $2: profiles that are gone, $3: what each went into.
_MERGE: Final = (
    """
    UPDATE recommendation.merges SET profile_id = said.kept FROM unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
    WHERE tenant_id = $1 AND profile_id = said.gone""",
    """
    INSERT INTO recommendation.merges SELECT $1, * FROM unnest($2::uuid[], $3::uuid[])
    ON CONFLICT (tenant_id, node_id) DO UPDATE SET profile_id = excluded.profile_id""",
    """
    WITH moved AS (
        DELETE FROM recommendation.purchases USING unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
        WHERE tenant_id = $1 AND profile_id = said.gone
        RETURNING kept, item_no, order_id, bought_at, known_at, COALESCE(node_id, gone)
    )
    INSERT INTO recommendation.purchases SELECT $1, * FROM moved ON CONFLICT DO NOTHING""",
    """
    WITH moved AS (
        DELETE FROM recommendation.spending USING unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
        WHERE tenant_id = $1 AND profile_id = said.gone
        RETURNING kept, event_id, happened_at, amount, COALESCE(node_id, gone)
    )
    INSERT INTO recommendation.spending SELECT $1, * FROM moved ON CONFLICT DO NOTHING""",
    # What a profile was in before it went into another is history of that other one; what it was in until now ends.
    """
    WITH moved AS (
        DELETE FROM recommendation.memberships USING unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
        WHERE tenant_id = $1 AND profile_id = said.gone RETURNING kept, segment, entered_at, exited_at
    )
    INSERT INTO recommendation.memberships SELECT $1, * FROM moved WHERE exited_at IS NOT NULL ON CONFLICT DO NOTHING""",
    """
    WITH moved AS (
        DELETE FROM recommendation.scores USING unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
        WHERE tenant_id = $1 AND profile_id = said.gone RETURNING kept, probability, as_of
    )
    INSERT INTO recommendation.scores AS known SELECT DISTINCT ON (kept) $1, * FROM moved ORDER BY kept, as_of DESC
    ON CONFLICT (tenant_id, profile_id) DO UPDATE SET probability = excluded.probability, as_of = excluded.as_of
    WHERE excluded.as_of > known.as_of""",
)


# $2: nodes, $3: the profile that each belongs to now, $4: the one that it parted from. What segmentation says of both, and
# what they are scored, comes anew.
_PART: Final = (
    """
    DELETE FROM recommendation.merges USING unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)
    WHERE tenant_id = $1 AND node_id IN (said.node, said.kept)""",
    """
    INSERT INTO recommendation.merges
    SELECT $1, node, kept FROM unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted) WHERE node <> kept
    ON CONFLICT (tenant_id, node_id) DO UPDATE SET profile_id = excluded.profile_id""",
    """
    WITH moved AS (
        DELETE FROM recommendation.purchases
        USING unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)
        WHERE tenant_id = $1 AND profile_id = said.parted AND node_id = said.node
        RETURNING kept, item_no, order_id, bought_at, known_at, node_id
    )
    INSERT INTO recommendation.purchases SELECT $1, * FROM moved ON CONFLICT DO NOTHING""",
    """
    WITH moved AS (
        DELETE FROM recommendation.spending
        USING unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)
        WHERE tenant_id = $1 AND profile_id = said.parted AND node_id = said.node
        RETURNING kept, event_id, happened_at, amount, node_id
    )
    INSERT INTO recommendation.spending SELECT $1, * FROM moved ON CONFLICT DO NOTHING""",
    """
    DELETE FROM recommendation.scores USING unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS said (node, kept, parted)
    WHERE tenant_id = $1 AND profile_id IN (said.kept, said.parted)""",
)


class ProjectionStore:
    """Writes are idempotent: what was written before is left alone."""

    def __init__(self, database: Database, cursor: Cursor) -> None:
        self._database = database
        self._cursor = cursor

    async def apply(self, changes: Mapping[str, Changes], position: Position) -> None:
        """Writes what a batch of the log says, by tenant, and moves the cursor on."""
        async with self._database.transaction() as connection:
            for tenant_id, change in changes.items():
                await _apply(connection, tenant_id, change)
            await self._cursor.advance(connection, position)


async def _apply(connection: Connection, tenant_id: str, change: Changes) -> None:
    await _buy(connection, tenant_id, change)
    exits, begun = stays(change.moves)
    if exits:
        columns = zip(*((move.node_id, move.segment, move.when) for move in exits), strict=True)
        await connection.execute(_EXIT, tenant_id, *map(list, columns))
    if begun:
        columns = zip(*((stay.node_id, stay.segment, stay.entered, stay.exited) for stay in begun), strict=True)
        await connection.execute(_STAY, tenant_id, *map(list, columns))
    if scores := change.scores.values():
        columns = zip(*((each.node_id, each.probability, each.as_of) for each in scores), strict=True)
        await connection.execute(_SCORE, tenant_id, *map(list, columns))
    if entries := change.catalogue.values():
        columns = zip(*((each.item_id, each.in_catalogue, each.version) for each in entries), strict=True)
        await connection.execute(_SET_CATALOGUE, tenant_id, *map(list, columns))
    if into := final_profiles(change.merges):  # last: it takes along what this batch wrote under the old ids
        for statement in _MERGE:
            await connection.execute(statement, tenant_id, list(into), list(into.values()))
    for parting in change.partings:
        nodes, count = list(parting.nodes), len(parting.nodes)
        for statement in _PART:
            await connection.execute(statement, tenant_id, nodes, [parting.into_id] * count, [parting.profile_id] * count)


async def _buy(connection: Connection, tenant_id: str, change: Changes) -> None:
    if change.items:
        items = sorted(change.items.values(), key=lambda item: item.item_id)
        columns = zip(*((each.item_id, each.name, each.category, each.named) for each in items), strict=True)
        await connection.execute(_NAME_ITEMS, tenant_id, *map(list, columns))
    if rows := change.purchases:
        columns = zip(*((each.node_id, each.item_id, each.order_id, each.bought, each.known) for each in rows), strict=True)
        await connection.execute(_ADD_PURCHASES, tenant_id, *map(list, columns))
    if payments := change.payments:
        columns = zip(*((each.node_id, each.event_id, each.happened, each.amount) for each in payments), strict=True)
        await connection.execute(_ADD_PAYMENTS, tenant_id, *map(list, columns))
