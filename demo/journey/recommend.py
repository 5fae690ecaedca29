"""Recommendations, judged by the baskets that came after: hit rate at 10 beside most-popular."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from demo.journey.traveller import Traveller, instant, iso

LIMIT = 10
HORIZON_DAYS = 90


async def recommend(traveller: Traveller) -> None:
    """A hit: at least one of ten items is in what the customer bought after the as-of time.

    "All" counts every customer who bought before and after; "new" only those who then bought something for the first
    time, and only such items.
    """
    record = traveller.record
    async with traveller.phase("recommend", "Recommending") as advance:
        if advance is None:
            return
        as_of = record.notes["as_of"] or iso(instant(record.values["clock"]) - timedelta(days=HORIZON_DAYS))
        bought = _split(traveller, instant(as_of))
        if not bought:
            record.miss("recommendation", "nobody bought before and after the as-of time")
            return
        await traveller.client.call("POST", "/v1/recommendations:rebuild", {"at": as_of})
        for key, strategy, include in (
            ("hit_rate_at_10", "personal", True),
            ("popular_hit_rate_at_10", "popular", True),
            ("new_hit_rate_at_10", "personal", False),
            ("popular_new_hit_rate_at_10", "popular", False),
        ):
            wanted = {user: (after if include else after - before) for user, (before, after) in bought.items()}
            wanted = {user: items for user, items in wanted.items() if items}
            hits = await _hits(traveller, wanted, advance, strategy=strategy, includePurchased=include, at=as_of)
            record.values[f"recommendation.{key}"] = round(hits / len(wanted), 4) if wanted else None
            record.values[f"recommendation.{key}_customers"] = len(wanted)
        await traveller.client.call("POST", "/v1/recommendations:rebuild", {})


def _split(traveller: Traveller, as_of: datetime) -> dict[str, tuple[set[str], set[str]]]:
    """user -> (items bought before, items bought after), for those who did both."""
    split: dict[str, tuple[set[str], set[str]]] = {}
    for user, purchases in traveller.watched.purchases.items():
        before = {item for when, item in purchases if when < as_of}
        after = {item for when, item in purchases if when >= as_of}
        if before and after:
            split[user] = (before, after)
    return split


async def _hits(
    traveller: Traveller, wanted: dict[str, set[str]], advance: Callable[[int | None, int], None], **body: Any
) -> int:
    users = list(wanted)
    refs = [f"user_id:{user}" for user in users]
    answers = await traveller.many("/v1/recommendations:batch", refs, advance, limit=LIMIT, **body)
    results = [result for answer in answers for result in answer["results"]]
    return sum(
        any(item["itemId"] in wanted[user] for item in result["items"]) for user, result in zip(users, results, strict=True)
    )
