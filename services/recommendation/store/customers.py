"""What single customers bought and are worth, and the catalogue."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.db import Database
from chassis.errors import NotFound
from chassis.outbox import Outbox
from services.recommendation.domain.actions import Spending

_CUSTOMERS: Final = """
WITH asked AS (
    SELECT said.place, COALESCE(merges.profile_id, said.id) AS profile_id
    FROM unnest($2::uuid[]) WITH ORDINALITY AS said (id, place)
    LEFT JOIN recommendation.merges ON merges.tenant_id = $1 AND merges.node_id = said.id
), bought AS (
    SELECT profile_id, item_no, count(*)::int AS orders, (extract(epoch FROM max(bought_at)) * 1000000)::int8 AS last_us
    FROM recommendation.purchases
    WHERE tenant_id = $1 AND profile_id IN (SELECT profile_id FROM asked)
        AND ($3::timestamptz IS NULL OR bought_at < $3 AND known_at <= $3)
    GROUP BY 1, 2
), histories AS (
    SELECT profile_id, array_agg(item_no) AS items, array_agg(orders) AS orders, array_agg(last_us) AS last_us
    FROM bought GROUP BY 1
)
SELECT COALESCE(items, '{}') AS items, COALESCE(orders, '{}') AS orders, COALESCE(last_us, '{}') AS last_us, (
    SELECT segment FROM recommendation.memberships AS stays
    WHERE stays.tenant_id = $1 AND stays.profile_id = asked.profile_id
        AND ($3::timestamptz IS NULL AND exited_at IS NULL
            OR entered_at < $3 AND (exited_at IS NULL OR exited_at >= $3))
    ORDER BY entered_at DESC, segment LIMIT 1
) AS segment
FROM asked LEFT JOIN histories USING (profile_id) ORDER BY asked.place
"""

_OUT: Final = "SELECT item_no FROM recommendation.items WHERE tenant_id = $1 AND NOT in_catalogue"
_NAMES: Final = "SELECT item_no, item_id, name FROM recommendation.items WHERE tenant_id = $1 AND item_no = ANY($2)"

_STANDING: Final = """
WITH asked AS (
    SELECT COALESCE((SELECT profile_id FROM recommendation.merges WHERE tenant_id = $1 AND node_id = $2), $2) AS profile_id
), clock AS (
    SELECT max(happened_at) AS newest FROM recommendation.spending WHERE tenant_id = $1
), mine AS (
    SELECT happened_at, amount, min(happened_at) FILTER (WHERE amount >= 0) OVER () AS first
    FROM recommendation.spending WHERE tenant_id = $1 AND profile_id = (SELECT profile_id FROM asked)
), scored AS (
    SELECT probability, as_of FROM recommendation.scores
    WHERE tenant_id = $1 AND profile_id = (SELECT profile_id FROM asked)
)
SELECT (SELECT probability FROM scored), (SELECT as_of FROM scored),
    (SELECT min(first) FROM mine) AS first_order,
    (SELECT COALESCE(sum(amount) FILTER (WHERE happened_at > first), 0) FROM mine)::float8 AS revenue,
    (SELECT extract(epoch FROM GREATEST(newest, (SELECT as_of FROM scored)) - (SELECT min(first) FROM mine)) FROM clock)::float8
        / 86400 AS days
"""

# Of the customers who have a score: a visitor who can never be recognised again is no customer to compare with.
_EVERYBODY: Final = """
WITH payments AS (
    SELECT profile_id, happened_at, amount, min(happened_at) FILTER (WHERE amount >= 0) OVER (PARTITION BY profile_id) AS first
    FROM recommendation.spending AS paid
    WHERE tenant_id = $1 AND EXISTS (
        SELECT FROM recommendation.scores WHERE scores.tenant_id = $1 AND scores.profile_id = paid.profile_id
    )
), customers AS (
    SELECT min(first) AS first, COALESCE(sum(amount) FILTER (WHERE happened_at > first), 0) AS revenue
    FROM payments GROUP BY profile_id
)
SELECT COALESCE(sum(revenue), 0)::float8 AS revenue,
    COALESCE(sum(extract(epoch FROM clock.newest - first)), 0)::float8 / 86400 AS days
FROM customers, (SELECT max(happened_at) AS newest FROM recommendation.spending WHERE tenant_id = $1) AS clock
WHERE first IS NOT NULL
"""

_UPDATE_ITEM: Final = """
UPDATE recommendation.items SET in_catalogue = $3, catalogue_version = catalogue_version + 1
WHERE tenant_id = $1 AND item_id = $2 AND in_catalogue <> $3 RETURNING catalogue_version
"""
_HAS_ITEM: Final = "SELECT EXISTS (SELECT FROM recommendation.items WHERE tenant_id = $1 AND item_id = $2)"


@dataclass(frozen=True, slots=True)
class Customer:
    """What one customer bought, as item numbers, and the life-cycle segment, "" where none is known."""

    items: list[int]
    orders: list[int]
    last_us: list[int]
    segment: str


@dataclass(frozen=True, slots=True)
class Label:
    """How an item is called outside."""

    item_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Standing:
    """`probability` and `scored` None: never scored. `spending` None: never bought."""

    probability: float | None
    scored: datetime | None
    spending: Spending | None


class CustomerStore:
    """Reads of customers, and the one write that is not the projector's."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def customers(self, tenant_id: str, profile_ids: Sequence[UUID], at: datetime | None) -> list[Customer]:
        """In order; who is not known has bought nothing. `at` None: all that is known now."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_CUSTOMERS, tenant_id, list(profile_ids), at)
        return [Customer(row["items"], row["orders"], row["last_us"], row["segment"] or "") for row in rows]

    async def items_out(self, tenant_id: str) -> list[int]:
        """Numbers of the items that are not in the catalogue."""
        async with self._database.connection() as connection:
            return [row["item_no"] for row in await connection.fetch(_OUT, tenant_id)]

    async def labels(self, tenant_id: str, item_numbers: Collection[int]) -> Mapping[int, Label]:
        """By item number."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_NAMES, tenant_id, list(item_numbers))
        return {row["item_no"]: Label(row["item_id"], row["name"]) for row in rows}

    async def standing(self, tenant_id: str, profile_id: UUID) -> Standing:
        """Risk and spending of one customer, up to the newest payment of the shop or the score's as-of, what is later."""
        async with self._database.connection() as connection:
            [row] = await connection.fetch(_STANDING, tenant_id, profile_id)
        spending = Spending(row["revenue"], row["days"]) if row["first_order"] else None
        return Standing(row["probability"], row["as_of"], spending)

    async def everybody(self, tenant_id: str) -> Spending:
        """The spending of all scored customers together, and the sum of their days."""
        async with self._database.connection() as connection:
            [row] = await connection.fetch(_EVERYBODY, tenant_id)
        return Spending(row["revenue"], row["days"])

    async def update_item(self, tenant_id: str, item_id: str, *, in_catalogue: bool, fact_of: Callable[[int], bytes]) -> None:
        """Takes an item out or in, and records it as `fact_of(version)`; a repeat changes nothing. Raises NotFound."""
        async with self._database.transaction() as connection:
            version = await connection.fetchval(_UPDATE_ITEM, tenant_id, item_id, in_catalogue)
            if version is not None:
                await self._outbox.add(connection, tenant_id, [fact_of(version)])
            elif not await connection.fetchval(_HAS_ITEM, tenant_id, item_id):
                raise NotFound("no order has ever named this item", field="item_id")
