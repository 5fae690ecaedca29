"""References in, scores with reasons out."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from rapport.scoring.v1 import scoring_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml.bundle import Model
from ml.features.catalogue import NAMES
from tests.integration.scoring.conftest import BUYER, Platform
from tests.integration.scoring.stand_ins import NOW, OTHER, SERVED, model_files


async def test_a_score_is_never_a_bare_number(platform: Platform) -> None:
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    [result] = await platform.score("user_id:ada")
    score, model = result.score, Model(model_files(), version="1")
    row = np.array([[BUYER.get(name, np.nan) for name in NAMES]])
    assert (result.ref, result.profile_id) == ("user_id:ada", str(profile_id))
    assert score.probability == pytest.approx(model.predict(row)[0])
    assert score.logistic_probability == pytest.approx(model.logistic(row)[0])
    assert score.percentile == model.percentile(score.probability)
    assert (score.model, score.version, score.feature_digest) == ("churn", "1", SERVED)
    assert score.as_of.ToDatetime(UTC) == score.newest_event.ToDatetime(UTC) == NOW
    assert dict(score.features) == BUYER
    assert 0 < len(score.reasons) <= 5
    strengths = [abs(reason.contribution) for reason in score.reasons]
    assert strengths == sorted(strengths, reverse=True)
    texts = {reason.feature: reason.text for reason in score.reasons}
    assert texts["days_since_last_order"] == "last order 80 days ago, usually every 20"


async def test_each_is_answered_in_order_with_one_call_for_all(platform: Platform) -> None:
    await platform.promote("1")
    platform.customer("user_id:buyer")
    platform.customer("user_id:visitor", orders_count=0)
    refs = ["user_id:nobody", "user_id:buyer", "user_id:visitor", "user_id:buyer"]
    results = await platform.score(*refs)
    assert [result.ref for result in results] == refs
    assert [result.not_scored.reason for result in results] == ["UNKNOWN_PROFILE", "", "NEVER_BOUGHT", ""]
    assert results[1].score.probability == results[3].score.probability
    assert platform.profiles.calls["ComputeFeatures"] == 1


async def test_without_a_model_the_answer_says_so(platform: Platform) -> None:
    platform.customer("user_id:ada")
    [result] = await platform.score("user_id:ada")
    assert result.not_scored.reason == "NO_MODEL"
    with pytest.raises(NotFound) as caught:
        await platform.serving()
    assert caught.value.reason is Reason.NO_MODEL


async def test_a_score_becomes_the_latest_and_a_fact(platform: Platform) -> None:
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    [result] = await platform.score("user_id:ada")
    assert await platform.latest(profile_id) == result.score
    await platform.send()
    [fact] = platform.profiles.told()
    assert fact["profile"] == str(profile_id)
    assert (fact["model"], fact["version"], fact["purpose"]) == ("churn", "1", "serving")
    assert fact["probability"] == result.score.probability
    assert fact["features"] == dict(result.score.features)
    assert datetime.fromisoformat(fact["asOf"]) == NOW


async def test_a_repeat_is_told_once_and_a_later_score_again(platform: Platform) -> None:
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    for _ in range(3):
        await platform.score("user_id:ada")
    platform.tick()
    platform.profiles.meet("user_id:ada", profile_id, **(BUYER | {"days_since_last_order": 1}))
    [result] = await platform.score("user_id:ada")
    await platform.send()
    assert len(platform.profiles.told()) == 2
    assert await platform.latest(profile_id) == result.score


async def test_late_events_give_the_same_instant_another_score(platform: Platform) -> None:
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    [before] = await platform.score("user_id:ada")
    platform.profiles.meet("user_id:ada", profile_id, **(BUYER | {"days_since_last_order": 1}))
    [after] = await platform.score("user_id:ada")
    assert after.score.probability < before.score.probability
    assert (await platform.latest(profile_id)).probability == after.score.probability
    await platform.send()
    assert len(platform.profiles.told()) == 2


@pytest.mark.parametrize("question", [{"at": NOW - timedelta(days=90)}, {"version": "2"}])
async def test_a_score_for_evaluation_is_told_but_nobodys_latest(platform: Platform, question: dict[str, Any]) -> None:
    await platform.promote("2", seed=1)
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    [result] = await platform.score("user_id:ada", **question)
    assert result.score.version == question.get("version", "1")
    assert result.score.as_of.ToDatetime(UTC) == question.get("at", NOW)
    with pytest.raises(NotFound):
        await platform.latest(profile_id)
    await platform.send()
    assert [fact["purpose"] for fact in platform.profiles.told()] == ["evaluation"]


async def test_a_challenger_is_scored_without_being_champion(platform: Platform) -> None:
    await platform.promote("1")
    platform.mlflow.register(f"{platform.tenant}.churn", "7", model_files(7))
    platform.customer("user_id:ada")
    [challenger], [champion] = await platform.score("user_id:ada", version="7"), await platform.score("user_id:ada")
    assert (challenger.score.version, champion.score.version) == ("7", "1")
    assert challenger.score.probability != champion.score.probability
    assert await platform.serving() == "1"


async def test_an_unknown_version_is_refused(platform: Platform) -> None:
    platform.customer("user_id:ada")
    with pytest.raises(NotFound) as caught:
        await platform.score("user_id:ada", version="99")
    assert caught.value.reason is Reason.UNKNOWN_MODEL_VERSION


async def test_a_thousand_at_once_are_scored_as_one_by_one(platform: Platform) -> None:
    await platform.promote("1")
    chance = np.random.default_rng(4)
    refs = [f"user_id:{number}" for number in range(1000)]
    for ref in refs:
        platform.customer(ref, days_since_last_order=float(chance.integers(1, 300)))
    together = await platform.score(*refs)
    assert len({result.score.probability for result in together}) > 5
    for number in (0, 17, 999):
        [alone] = await platform.score(refs[number])
        assert alone.score.probability == together[number].score.probability
        assert alone.score.reasons == together[number].score.reasons
    found = await platform.service.GetScoreDistribution(pb.GetScoreDistributionRequest(model="churn"))
    assert (found.profile_count, sum(found.bin_counts), len(found.bin_counts)) == (1000, 1000, 10)
    assert found.mean_probability == pytest.approx(np.mean([result.score.probability for result in together]))


async def test_an_empty_distribution_is_one(platform: Platform) -> None:
    found = await platform.service.GetScoreDistribution(pb.GetScoreDistributionRequest(model="churn"))
    assert (list(found.bin_counts), found.profile_count, found.HasField("newest")) == ([0] * 10, 0, False)


async def test_a_merge_takes_the_newest_score_along(platform: Platform) -> None:
    await platform.promote("1")
    visitor = platform.customer("user_id:visitor", days_since_last_order=1)
    platform.tick()
    customer = platform.customer("user_id:customer")
    await platform.score("user_id:customer")
    platform.tick()
    [newest] = await platform.score("user_id:visitor")
    await platform.event("Profile Merged", visitor, **{"from": str(visitor), "into": str(customer), "since": ""})
    assert (await platform.latest(customer)).probability == newest.score.probability
    with pytest.raises(NotFound):
        await platform.latest(visitor)


async def test_a_score_of_two_people_is_nobodys_once_they_part(platform: Platform) -> None:
    await platform.promote("1")
    visitor, customer = platform.customer("user_id:visitor"), platform.customer("user_id:customer")
    await platform.score("user_id:customer")
    said = {"from": str(customer), "into": str(visitor), "nodes": [str(visitor)], "since": ""}
    await platform.event("Profile Unmerged", visitor, **said)
    with pytest.raises(NotFound):
        await platform.latest(customer)
    [result] = await platform.score("user_id:customer")
    assert (await platform.latest(customer)).probability == result.score.probability


async def test_another_tenant_sees_neither_model_nor_score(platform: Platform) -> None:
    await platform.promote("1")
    profile_id = platform.customer("user_id:ada")
    await platform.score("user_id:ada")
    with context.use(tenant="t" + uuid.uuid4().hex[:8]):
        [result] = await platform.score("user_id:ada")
        assert result.not_scored.reason == "NO_MODEL"
        with pytest.raises(NotFound):
            await platform.score("user_id:ada", version="1")
        with pytest.raises(NotFound):
            await platform.latest(profile_id)
        found = await platform.service.GetScoreDistribution(pb.GetScoreDistributionRequest(model="churn"))
        assert found.profile_count == 0


async def test_when_the_platform_serves_other_features_the_model_is_refused_with_both_named(platform: Platform) -> None:
    await platform.promote("1")
    platform.customer("user_id:ada")
    platform.profiles.digest = OTHER
    with pytest.raises(Conflict) as caught:
        await platform.score("user_id:ada")
    assert caught.value.reason is Reason.FEATURE_DIGEST_MISMATCH
    assert SERVED in caught.value.message
    assert OTHER in caught.value.message
    with pytest.raises(Conflict) as caught:
        await platform.score("user_id:ada", version="1")
    assert caught.value.reason is Reason.FEATURE_DIGEST_MISMATCH


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"model": "clv"}, "model"),
        ({"model": "churn", "refs": ["user_id:a"] * 1001}, "refs"),
        ({"model": "churn", "refs": [""]}, "refs"),
        ({"model": "churn", "refs": ["user_id:" + "x" * 600]}, "refs"),
        ({"model": "churn", "refs": ["a\0b"]}, "refs"),
        ({"model": "churn", "version": "../../etc"}, "version"),
        ({"model": "churn", "version": "champion"}, "version"),
        ({"model": "churn", "at": {"seconds": 10**15}}, "at"),
    ],
)
async def test_a_wrong_question_is_refused_with_its_field(platform: Platform, question: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await platform.service.ScoreProfiles(pb.ScoreProfilesRequest(**question))
    assert caught.value.field == field


async def test_no_one_asked_for_is_no_one_answered(platform: Platform) -> None:
    assert await platform.score() == []
