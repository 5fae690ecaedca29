"""How stale scores are, and how long a fact has waited."""

import pytest
from prometheus_client import REGISTRY

from chassis.errors import Unavailable
from services.scoring.domain import Ages
from tests.integration.scoring.conftest import Platform


async def _grow_older(platform: Platform, interval: str) -> None:
    async with platform.database.connection() as connection:
        await connection.execute(
            f"UPDATE scoring.scores SET scored_at = scored_at - interval '{interval}' WHERE tenant_id = $1", platform.tenant
        )


async def _ages(platform: Platform) -> Ages:
    """Of this test's scores alone: other tests leave theirs."""
    async with platform.database.connection() as connection:
        await connection.execute("DELETE FROM scoring.scores WHERE tenant_id <> $1", platform.tenant)
    return await platform.store.ages()


async def test_scores_are_counted_by_age_each_once(platform: Platform) -> None:
    await platform.promote("1")
    for ref, interval in (("user_id:d", "9 days"), ("user_id:c", "1 day"), ("user_id:b", "12 hours"), ("user_id:a", "0")):
        platform.customer(ref)
        await platform.score(ref)
        await _grow_older(platform, interval)
    assert await _ages(platform) == Ages(day=2, two_days=1, week=0, older=1)
    assert (await _ages(platform)).shares() == {"1d": 0.5, "2d": 0.25, "7d": 0.0, "older": 0.25}


async def test_a_score_that_comes_out_the_same_is_fresh_again(platform: Platform) -> None:
    await platform.promote("1")
    platform.customer("user_id:ada")
    await platform.score("user_id:ada")
    await _grow_older(platform, "3 days")
    assert await _ages(platform) == Ages(day=0, two_days=0, week=1, older=0)
    await platform.score("user_id:ada")
    assert await _ages(platform) == Ages(day=1, two_days=0, week=0, older=0)
    await platform.send()
    assert len(platform.profiles.told()) == 1


async def test_a_fact_that_the_log_does_not_take_grows_older(platform: Platform) -> None:
    async def refuse(facts: object) -> None:
        raise Unavailable("no")

    await platform.promote("1")
    platform.customer("user_id:ada")
    await platform.score("user_id:ada")
    async with platform.database.connection() as connection:
        await connection.execute("UPDATE scoring.outbox SET created_at = created_at - interval '10 minutes'")
    with pytest.raises(Unavailable):
        await platform.outbox._send_some(platform.database, refuse, 500)
    assert (REGISTRY.get_sample_value("rapport_outbox_oldest_seconds", {"service": "scoring"}) or 0) > 600
    assert REGISTRY.get_sample_value("rapport_outbox_pending_events", {"service": "scoring"}) == 1
