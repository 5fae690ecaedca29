"""Which model answers."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from chassis import context
from chassis.errors import Conflict, Reason, Unavailable
from services.scoring.models import Models
from tests.integration.scoring.conftest import Platform
from tests.integration.scoring.stand_ins import OTHER, SERVED


async def test_a_promotion_changes_the_model_without_a_restart(platform: Platform) -> None:
    following = asyncio.create_task(platform.models.follow())
    try:
        platform.customer("user_id:ada")
        digests = [await platform.promote(version, seed=int(version)) for version in ("1", "2")]
        assert digests[0] != digests[1]
        assert await platform.serving() == "2"
        [result] = await platform.score("user_id:ada")
        assert result.score.version == "2"
        await platform.promote("1", seed=1)  # back again
        assert await platform.serving() == "1"
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_what_another_replica_has_read_is_seen_in_the_table(platform: Platform) -> None:
    other = platform.new_models()
    await other.look()
    await platform.promote("1")
    assert await other.champion(platform.tenant, "churn") is None
    await other.look()
    serving = await other.champion(platform.tenant, "churn")
    assert serving is not None
    assert serving.model.version == "1"


async def test_it_starts_from_its_cache_while_mlflow_is_down(platform: Platform) -> None:
    digest = await platform.promote("1")
    platform.mlflow.stop()
    started = platform.new_models()
    await started.look()
    serving = await started.champion(platform.tenant, "churn")
    assert serving is not None
    assert serving.model.digest == digest


async def test_while_mlflow_is_down_the_old_model_goes_on_and_the_new_one_comes_later(platform: Platform) -> None:
    await platform.promote("1")
    platform.customer("user_id:ada")
    platform.mlflow.stop()
    await platform.promote("2", seed=2)
    assert await platform.serving() == "1"
    [result] = await platform.score("user_id:ada")
    assert result.score.version == "1"
    platform.mlflow.start()
    await _pass_pauses(platform.models)
    assert await platform.serving() == "2"


async def test_without_an_old_model_the_caller_hears_why(platform: Platform) -> None:
    platform.customer("user_id:ada")
    platform.mlflow.stop()
    await platform.promote("1")
    with pytest.raises(Unavailable) as caught:
        await platform.score("user_id:ada")
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    platform.mlflow.start()
    await _pass_pauses(platform.models)
    [result] = await platform.score("user_id:ada")
    assert result.score.version == "1"


async def test_a_model_of_other_features_does_not_take_the_place_of_one_that_fits(platform: Platform) -> None:
    await platform.promote("1")
    await platform.promote("2", seed=2, feature_digest=OTHER)
    assert await platform.serving() == "1"


async def test_the_only_model_is_refused_where_its_features_are_others(platform: Platform) -> None:
    platform.customer("user_id:ada")
    await platform.promote("1", feature_digest=OTHER)
    with pytest.raises(Conflict) as caught:
        await platform.score("user_id:ada")
    assert caught.value.reason is Reason.FEATURE_DIGEST_MISMATCH
    assert SERVED in caught.value.message
    assert OTHER in caught.value.message


async def test_files_that_are_not_the_promoted_ones_are_refused(platform: Platform) -> None:
    await platform.promote("1")
    await platform.promote("2", seed=2, digest="c" * 64)
    assert await platform.serving() == "1"


async def test_a_damaged_cache_is_filled_again(platform: Platform) -> None:
    await platform.promote("1")
    [file] = platform.folder.rglob("model.ubj")
    file.write_bytes(b"not a model")
    started = platform.new_models()
    await started.look()
    assert await started.champion(platform.tenant, "churn") is not None
    assert file.read_bytes() != b"not a model"


async def test_a_damaged_cache_without_mlflow_is_unavailable_and_never_served(platform: Platform) -> None:
    await platform.promote("1")
    [file] = platform.folder.rglob("model.ubj")
    file.write_bytes(b"not a model")
    platform.mlflow.stop()
    started = platform.new_models()
    await started.look()
    with pytest.raises(Unavailable):
        await started.champion(platform.tenant, "churn")


async def test_a_customer_cannot_promote(platform: Platform) -> None:
    await platform.promote("1")
    said: dict[str, Any] = {"model": "churn", "registeredName": "x", "toVersion": "9", "digest": "", "featureDigest": ""}
    await platform.event("Model Promoted", source="shop", **said)
    await platform.models.look()
    assert await platform.serving() == "1"


async def test_the_least_used_model_leaves_and_comes_back_when_asked_for(platform: Platform, tmp_path: Path) -> None:
    models = Models(platform.store, platform.client, mlflow_url=platform.mlflow.url, folder=tmp_path, most=1)
    await platform.promote("1")
    with context.everyone():
        async with platform.database.connection() as connection:
            await connection.execute(
                "INSERT INTO scoring.champions SELECT 'zz-other', model, registered_name, version, digest, feature_digest, "
                "promoted_at, recorded_at FROM scoring.champions WHERE tenant_id = $1",
                platform.tenant,
            )
        await models.look()
    for tenant in (platform.tenant, "zz-other", platform.tenant):
        with context.use(tenant=tenant):
            assert await models.champion(tenant, "churn") is not None
        assert list(models._serving) == [(tenant, "churn")]


async def test_those_who_ask_together_load_once(platform: Platform) -> None:
    await platform.promote("1")
    started = platform.new_models()
    started._champions = await platform.store.champions()
    found = await asyncio.gather(*(started.champion(platform.tenant, "churn") for _ in range(5)))
    assert len({id(each) for each in found}) == 1


async def _pass_pauses(models: Models) -> None:
    """As if the time until the next try had passed."""
    for retry in models._retries.values():
        retry.at = 0.0
    await models.look()
