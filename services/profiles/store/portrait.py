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

_SEEN = """
FROM profiles.timeline AS event
WHERE event.tenant_id = $1 AND event.node_id = ANY($2::uuid[]) AND event.ts < $3 AND event.known_at <= $3
"""
_ACTIVITY = f"""
SELECT type, name, channel, source LIKE 'rapport.%' AS is_fact, count(*), min(ts) AS first, max(ts) AS last {_SEEN}
GROUP BY type, name, channel, is_fact
"""
_VISIT_DAYS = f"""
SELECT count(DISTINCT (ts AT TIME ZONE 'UTC')::date) {_SEEN}
AND source NOT LIKE 'rapport.%'
AND (type IN ('page', 'screen') OR name IN ('Product Viewed', 'Product Added', 'Product List Viewed'))
"""
_TRAITS = (
    f"SELECT numbers::text, texts::text, rest::text {_SEEN} AND type = 'identify' ORDER BY ts DESC, event_id DESC LIMIT $4"
)
_SEALED = """
SELECT node_id, event_id, ts, sealed FROM profiles.personal_traits
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND ts < $3 AND known_at <= $3 ORDER BY ts DESC, event_id DESC LIMIT $4
"""
_FAVOURITES = f"""
SELECT label, sum(quantity) AS quantity FROM (
    SELECT product ->> $4 AS label,
        CASE WHEN jsonb_typeof(product -> 'quantity') = 'number' THEN (product ->> 'quantity')::numeric ELSE 1 END AS quantity
    FROM (
        SELECT event.rest -> 'products' AS products {_SEEN} AND event.type = 'track' AND event.name = 'Order Completed'
    ) AS orders
    CROSS JOIN LATERAL jsonb_array_elements(CASE WHEN jsonb_typeof(products) = 'array' THEN products ELSE '[]' END) AS product
) AS bought
WHERE label <> '' GROUP BY label ORDER BY quantity DESC, label COLLATE "C" LIMIT $5
"""
_ANSWERS = f"""
SELECT DISTINCT ON (texts ->> 'surveyId') texts ->> 'kind' AS kind, (numbers ->> 'rating')::numeric AS rating, ts {_SEEN}
AND type = 'track' AND name = 'Survey Answered' AND source LIKE 'rapport.%'
ORDER BY texts ->> 'surveyId', ts DESC, event_id DESC LIMIT $4
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
    """One read of everything, in one transaction, so that the blocks agree with each other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant_id: str, node_ids: Sequence[UUID], at: datetime) -> PortraitRows:
        """What the nodes' timeline says strictly before `at`, by what was known then."""
        scope = (tenant_id, node_ids, at)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            activities = [Activity(*row) for row in await connection.fetch(_ACTIVITY, *scope)]
            visit_days = await connection.fetchval(_VISIT_DAYS, *scope)
            traits = [tuple(row) for row in await connection.fetch(_TRAITS, *scope, MAX_IDENTIFIES)]
            sealed = [SealedRow(*row) for row in await connection.fetch(_SEALED, *scope, MAX_SEALED)]
            categories, products = [
                [Favourite(*row) for row in await connection.fetch(_FAVOURITES, *scope, key, MAX_FAVOURITES)]
                for key in ("category", "name")
            ]
            answers = [SurveyAnswer(*row) for row in await connection.fetch(_ANSWERS, *scope, MAX_ANSWERS)]
        return PortraitRows(activities, visit_days, traits, sealed, categories, products, answers)
