"""What a portrait reads beside features: traits as they were known at an instant, and sums over a timeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.db import Database
from services.profiles.domain.portrait import Activity, Favourite, SurveyAnswer

MAX_IDENTIFIES = 500
MAX_SEALED = 200
MAX_FAVOURITES = 3
MAX_ANSWERS = 20


def _favourites(label: str) -> str:
    return f"""ARRAY(
        SELECT ROW({label}, sum(quantity)) FROM bought WHERE {label} <> ''
        GROUP BY {label} ORDER BY sum(quantity) DESC, {label} COLLATE "C" LIMIT {MAX_FAVOURITES}
    )"""


# $1 tenant, $2 nodes, $3 at. One statement: the blocks agree with each other, the events are read once, and it is one trip.
_READ = f"""
WITH seen AS MATERIALIZED (
    SELECT type, name, channel, source LIKE 'rapport.%' AS is_fact, ts, event_id, numbers, texts, rest
    FROM profiles.timeline AS event
    WHERE event.tenant_id = $1 AND event.node_id = ANY($2::uuid[]) AND event.ts < $3 AND event.known_at <= $3
), orders AS (
    SELECT rest -> 'products' AS products FROM seen WHERE type = 'track' AND name = 'Order Completed'
), bought AS (
    SELECT product ->> 'category' AS category, product ->> 'name' AS name,
        CASE WHEN jsonb_typeof(product -> 'quantity') = 'number' THEN (product ->> 'quantity')::numeric ELSE 1 END AS quantity
    FROM orders
    CROSS JOIN LATERAL jsonb_array_elements(CASE WHEN jsonb_typeof(products) = 'array' THEN products ELSE '[]' END) AS product
), answers AS (
    SELECT DISTINCT ON (texts ->> 'surveyId')
        texts ->> 'surveyId' AS survey, texts ->> 'kind' AS kind, (numbers ->> 'rating')::numeric AS rating, ts
    FROM seen WHERE type = 'track' AND name = 'Survey Answered' AND is_fact
    ORDER BY texts ->> 'surveyId', ts DESC, event_id DESC LIMIT {MAX_ANSWERS}
)
SELECT
    ARRAY(
        SELECT ROW(type, name, channel, is_fact, count(*), min(ts), max(ts)) FROM seen GROUP BY type, name, channel, is_fact
    ) AS activities,
    (
        SELECT count(DISTINCT (ts AT TIME ZONE 'UTC')::date) FROM seen WHERE NOT is_fact
        AND (type IN ('page', 'screen') OR name IN ('Product Viewed', 'Product Added', 'Product List Viewed'))
    ) AS visit_days,
    ARRAY(
        SELECT ROW(numbers::text, texts::text, rest::text) FROM seen WHERE type = 'identify'
        ORDER BY ts DESC, event_id DESC LIMIT {MAX_IDENTIFIES}
    ) AS traits,
    ARRAY(
        SELECT ROW(node_id, event_id, ts, sealed) FROM profiles.personal_traits
        WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND ts < $3 AND known_at <= $3
        ORDER BY ts DESC, event_id DESC LIMIT {MAX_SEALED}
    ) AS sealed,
    {_favourites("category")} AS categories,
    {_favourites("name")} AS products,
    ARRAY(SELECT ROW(kind, rating, ts) FROM answers ORDER BY survey) AS answers
"""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A sealed part of an identify call."""

    node_id: UUID
    event_id: bytes
    ts: datetime
    sealed: bytes


@dataclass(frozen=True, slots=True)
class PortraitRows:
    """All that was found. `traits` are (numbers, texts, rest) of identify calls, newest first; `sealed` too."""

    activities: Sequence[Activity]
    visit_days: int
    traits: Sequence[tuple[str, str, str]]
    sealed: Sequence[SealedRow]
    categories: Sequence[Favourite]
    products: Sequence[Favourite]
    answers: Sequence[SurveyAnswer]


class PortraitStore:
    """One read of everything."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant_id: str, node_ids: Sequence[UUID], at: datetime) -> PortraitRows:
        """What the nodes' timeline says strictly before `at`, by what was known then."""
        async with self._database.connection() as connection:
            (found,) = await connection.fetch(_READ, tenant_id, node_ids, at)
        return PortraitRows(
            [Activity(*row) for row in found["activities"]],
            found["visit_days"],
            [tuple(row) for row in found["traits"]],
            [SealedRow(*row) for row in found["sealed"]],
            [Favourite(*row) for row in found["categories"]],
            [Favourite(*row) for row in found["products"]],
            [SurveyAnswer(*row) for row in found["answers"]],
        )
