"""Models over the wire: judged by what happened, promoted by the record, rolled back without a registry."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.evaluation.v1 import evaluation_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason, Unavailable
from tests.integration.evaluation.stand_ins import SERVED_DIGEST, START, Log, Profiles, eventually

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub

    from tests.integration.evaluation.conftest import Start

DAY = timedelta(days=1)
AS_OF = START + 100 * DAY
OUTCOMES_IN = AS_OF + 90 * DAY

Register = Callable[..., str]


def stamp(moment: Any) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


async def shop(
    log: Log, profiles: Profiles, tenant: str, *, version: str, skill: float = 1.5, seed: int = 1, count: int = 400
) -> list[UUID]:
    """Scores of `count` customers and what they did; the clock moves to where that is known."""
    chance = np.random.default_rng(seed)
    people = profiles.people(tenant, count)
    stays = chance.random(count) < 0.6
    probability = 1 / (1 + np.exp(-(chance.normal(size=count) - skill * stays)))
    recency = np.exp(chance.normal(size=count) * 0.5 - 0.4 * stays) * 60
    await log.scores(zip(people, probability.tolist(), recency.tolist(), strict=True), as_of=AS_OF, version=version)
    await log.orders([each for each, stay in zip(people, stays, strict=True) if stay], AS_OF + 30 * DAY)
    profiles.now[tenant] = OUTCOMES_IN
    return people


async def evaluate(evaluation: "EvaluationAsyncStub", version: str, as_of: Any = AS_OF) -> pb.ModelEvaluation:
    request = pb.EvaluateModelRequest(model="churn", version=version, as_of=stamp(as_of))
    return (await evaluation.EvaluateModel(request)).evaluation


async def promote(evaluation: "EvaluationAsyncStub", version: str, reason: str = "it is better") -> pb.Promotion:
    request = pb.PromoteModelRequest(model="churn", version=version, reason=reason)
    return (await evaluation.PromoteModel(request)).promotion


async def roll_back(evaluation: "EvaluationAsyncStub") -> pb.Promotion:
    request = pb.RollbackModelRequest(model="churn", reason="errors went up")
    return (await evaluation.RollbackModel(request)).promotion


async def versions(evaluation: "EvaluationAsyncStub") -> dict[str, pb.ModelVersion]:
    listed = await evaluation.ListModelVersions(pb.ListModelVersionsRequest(model="churn"))
    return {each.version: each for each in listed.versions}


async def aliases(evaluation: "EvaluationAsyncStub") -> dict[str, str]:
    return {alias: version for version, each in (await versions(evaluation)).items() for alias in each.aliases}


async def stand(evaluation: "EvaluationAsyncStub", wanted: dict[str, str]) -> bool:
    return await aliases(evaluation) == {alias: version for alias, version in wanted.items() if version}


def digest_of(tenant: str, number: int) -> str:
    return hashlib.sha256(f"{tenant}{number}".encode()).hexdigest()


@pytest.fixture
def register(mlflow_url: str, tenant: str) -> Register:
    """`register(feature_digest=...)`: the next version of this tenant's churn model, in the real registry."""
    api = httpx.Client(base_url=f"{mlflow_url}/api/2.0/mlflow", trust_env=False, timeout=30)
    name = f"{tenant}.churn"
    count = 0

    def post(path: str, body: Any) -> Any:
        response = api.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    post("/registered-models/create", {"name": name})

    def add(*, feature_digest: str = SERVED_DIGEST, digest: str | None = None, judged_at: str = "") -> str:
        nonlocal count
        count += 1
        tags = {"digest": digest_of(tenant, count) if digest is None else digest, "feature_digest": feature_digest}
        tags |= {"judged_at": judged_at} if judged_at else {}
        run = post("/runs/create", {"experiment_id": "0"})["run"]["info"]
        body = {
            "name": name,
            "source": f"{run['artifact_uri']}/model",
            "run_id": run["run_id"],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return str(post("/model-versions/create", body)["model_version"]["version"])

    return add


async def test_a_model_is_judged_by_what_happened(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    await shop(log, profiles, tenant, version="1")
    judged = await evaluate(evaluation, "1")
    assert judged.verdict == pb.VERDICT_BETTER
    assert judged.row_count == 400
    assert judged.rate == pytest.approx(0.4, abs=0.06)
    assert judged.recency_auc < judged.auc_low < judged.auc < judged.auc_high
    assert judged.lift == pytest.approx(judged.auc - judged.recency_auc)
    assert judged.logistic_auc == judged.auc
    assert 0 < judged.recent_count < 400
    assert sum(each.row_count for each in judged.bins) == 400
    listed = await evaluation.ListModelEvaluations(pb.ListModelEvaluationsRequest(model="churn"))
    assert list(listed.evaluations) == [judged]
    again = await evaluate(evaluation, "1")
    assert again.evaluated != judged.evaluated
    again.evaluated.CopyFrom(judged.evaluated)
    assert again == judged
    assert len((await evaluation.ListModelEvaluations(pb.ListModelEvaluationsRequest(model="churn"))).evaluations) == 1


async def test_churned_is_who_ordered_nothing_in_the_ninety_days(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    people = profiles.people(tenant, 8)
    await log.scores([(each, 0.5, 10.0) for each in people], as_of=AS_OF, version="1")
    await log.scores([(people[0], 0.5, 10.0)], as_of=AS_OF + DAY, version="1")  # of another time
    await log.scores([(people[0], 0.5, 10.0)], as_of=AS_OF, version="1")  # a repeat
    microsecond = timedelta(microseconds=1)
    for customer, at in zip(people, (AS_OF, AS_OF - microsecond, OUTCOMES_IN, OUTCOMES_IN - microsecond), strict=False):
        await log.orders([customer], at)
    await log.orders([people[4]], AS_OF + DAY, name="Product Viewed")
    profiles.now[tenant] = OUTCOMES_IN
    judged = await evaluate(evaluation, "1")
    assert judged.row_count == 8
    assert judged.rate == pytest.approx(6 / 8)
    assert judged.verdict == pb.VERDICT_NOT_ENOUGH_DATA
    assert not judged.HasField("lift_low") or judged.explanation


async def test_the_order_of_one_who_was_merged_counts_for_whom_they_have_become(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    gone, kept, other, lone = profiles.people(tenant, 4)
    await log.scores([(gone, 0.9, 5.0), (kept, 0.2, 6.0), (other, 0.3, 7.0)], as_of=AS_OF, version="1")
    await log.orders([lone], AS_OF + DAY)
    await log.merge(gone, kept)
    await log.merge(lone, other)
    profiles.now[tenant] = OUTCOMES_IN
    judged = await evaluate(evaluation, "1")
    assert (judged.row_count, judged.rate) == (2, 0.5)
    # The surviving profile keeps its own score.
    assert judged.auc == 0.0


async def test_an_evaluation_before_the_outcomes_are_in_is_refused(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    await shop(log, profiles, tenant, version="1")
    profiles.now[tenant] = OUTCOMES_IN - timedelta(seconds=1)
    with pytest.raises(Conflict, match="the outcomes are not in") as refused:
        await evaluate(evaluation, "1")
    assert refused.value.reason is Reason.OUTCOMES_MISSING


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "weather"}, "model"),
        ({"model": ""}, "model"),
        ({"version": ""}, "version"),
        ({"version": "1'; --"}, "version"),
        ({"as_of": None}, "as_of"),
        ({"as_of": Timestamp(seconds=2**40)}, "as_of"),
        ({"as_of": Timestamp(seconds=-10)}, "as_of"),
    ],
)
async def test_a_bad_request_is_refused_with_the_field(
    evaluation: "EvaluationAsyncStub", tenant: str, changes: dict[str, Any], field: str
) -> None:
    values: dict[str, Any] = {"model": "churn", "version": "1", "as_of": stamp(AS_OF)}
    with pytest.raises(InvalidArgument) as refused:
        await evaluation.EvaluateModel(pb.EvaluateModelRequest(**(values | changes)))
    assert refused.value.field == field


async def test_a_version_that_nobody_scored_with_leaves_no_evaluation(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles
) -> None:
    profiles.now[tenant] = OUTCOMES_IN
    judged = await evaluate(evaluation, "77")
    assert judged.verdict == pb.VERDICT_NOT_ENOUGH_DATA
    assert not (await evaluation.ListModelEvaluations(pb.ListModelEvaluationsRequest(model="churn"))).evaluations


async def test_the_event_loop_lives_while_a_model_is_judged(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    await shop(log, profiles, tenant, version="1", count=5000)
    judging = asyncio.create_task(evaluate(evaluation, "1"))
    slowest, loop = 0.0, asyncio.get_running_loop()
    began = loop.time()
    while not judging.done():
        started = loop.time()
        await asyncio.sleep(0.005)
        slowest = max(slowest, loop.time() - started)
    assert (await judging).row_count == 5000
    elapsed = loop.time() - began
    print(f"of {elapsed:.2f} s the loop stood still for at most {slowest:.3f} s at once")
    assert slowest < elapsed / 2


async def test_a_good_model_becomes_champion_and_the_next_one_leaves_it_as_previous(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    for version in (register(), register()):
        await shop(log, profiles, tenant, version=version)
        await evaluate(evaluation, version)
    first = await promote(evaluation, "1", "the first")
    assert (first.from_version, first.to_version, first.kind) == ("", "1", "promotion")
    assert (first.actor, first.reason, first.digest) == ("test", "the first", digest_of(tenant, 1))
    assert first.registered_name == f"{tenant}.churn"
    assert await aliases(evaluation) == {"champion": "1"}
    second = await promote(evaluation, "2")
    assert second.from_version == "1"
    assert await aliases(evaluation) == {"champion": "2", "previous": "1"}
    assert await promote(evaluation, "2", "again") == second
    back = await roll_back(evaluation)
    assert (back.from_version, back.to_version, back.kind) == ("2", "1", "rollback")
    assert back.digest == digest_of(tenant, 1)
    assert await aliases(evaluation) == {"champion": "1", "previous": "2"}
    with pytest.raises(Conflict) as refused:
        await roll_back(evaluation)
    assert refused.value.reason is Reason.NO_PREVIOUS_MODEL
    history = (await evaluation.ListPromotions(pb.ListPromotionsRequest(model="churn"))).promotions
    assert list(history) == [back, second, first]
    listed = await versions(evaluation)
    assert list(listed) == ["2", "1"]
    assert listed["1"].feature_digest == SERVED_DIGEST
    assert len(listed["1"].run_id) == 32


async def test_a_promotion_is_told_to_the_log(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    version = register()
    await shop(log, profiles, tenant, version=version)
    await evaluate(evaluation, version)
    await promote(evaluation, version, "it is better")
    await eventually(lambda: bool(profiles.facts[tenant]))
    [fact] = profiles.facts[tenant]
    assert (fact.name, fact.profile_id, fact.source) == ("Model Promoted", "", "rapport.evaluation")
    assert not fact.HasField("timestamp")
    for part in (f'"toVersion":"{version}"', '"alias":"champion"', f'"digest":"{digest_of(tenant, 1)}"', '"kind":"promotion"'):
        assert part in fact.properties.decode()


async def test_what_may_not_be_promoted_is_refused_with_its_reason_and_leaves_no_record(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    losing, unjudged, other, nameless = register(), register(), register(feature_digest="0" * 64), register(digest="")
    await shop(log, profiles, tenant, version=losing, skill=-1.0)
    assert (await evaluate(evaluation, losing)).verdict == pb.VERDICT_WORSE
    for version in (other, nameless):
        await shop(log, profiles, tenant, version=version)
        await evaluate(evaluation, version)
    for version, error, reason in (
        ("99", NotFound, Reason.UNKNOWN_MODEL_VERSION),
        ("abc", NotFound, Reason.UNKNOWN_MODEL_VERSION),
        (losing, Conflict, Reason.LOSES_TO_BASELINE),
        (unjudged, Conflict, Reason.NOT_EVALUATED),
        (other, Conflict, Reason.FEATURE_DIGEST_MISMATCH),
        (nameless, Conflict, Reason.MODEL_DIGEST_MISMATCH),
    ):
        with pytest.raises(error) as refused:
            await promote(evaluation, version)
        assert refused.value.reason is reason, version
    with pytest.raises(InvalidArgument):
        await promote(evaluation, losing, reason=" ")
    assert not (await evaluation.ListPromotions(pb.ListPromotionsRequest(model="churn"))).promotions
    assert await aliases(evaluation) == {}
    assert not profiles.facts[tenant]


async def test_a_version_is_not_promoted_by_outcomes_that_it_has_learnt_from(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    late, right = register(judged_at=(AS_OF + DAY).isoformat()), register(judged_at=AS_OF.isoformat())
    for version in (late, right):
        await shop(log, profiles, tenant, version=version)
        await evaluate(evaluation, version)
    with pytest.raises(Conflict, match="before which it has learnt") as refused:
        await promote(evaluation, late)
    assert refused.value.reason is Reason.NOT_EVALUATED
    assert (await promote(evaluation, right)).to_version == right


async def test_without_the_registry_a_promotion_is_refused_at_once_and_a_rollback_works(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    with_registry = await start(mlflow_url=mlflow_url)
    for version in (register(), register(), register()):
        await shop(log, profiles, tenant, version=version)
        await evaluate(with_registry, version)
    await promote(with_registry, "1")
    await promote(with_registry, "2")
    without = await start()
    for ask in (promote(without, "3"), versions(without)):
        with pytest.raises(Unavailable) as refused:
            async with asyncio.timeout(3):
                await ask
        assert refused.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert len((await without.ListPromotions(pb.ListPromotionsRequest(model="churn"))).promotions) == 2
    assert (await roll_back(without)).to_version == "1"
    # Whoever reaches the registry makes it follow the record.
    await eventually(lambda: stand(with_registry, {"champion": "1", "previous": "2"}))


async def test_a_rollback_to_a_model_of_features_that_are_served_no_more_is_refused(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    await shop(log, profiles, tenant, version=register())
    await evaluate(evaluation, "1")
    await promote(evaluation, "1")
    profiles.feature_digest = "a" * 64
    await shop(log, profiles, tenant, version=register(feature_digest="a" * 64))
    await evaluate(evaluation, "2")
    await promote(evaluation, "2")
    with pytest.raises(Conflict, match="a" * 64) as refused:
        await roll_back(evaluation)
    assert refused.value.reason is Reason.FEATURE_DIGEST_MISMATCH


async def test_two_promotions_at_once_leave_one_history(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    one, other = await start(mlflow_url=mlflow_url), await start(mlflow_url=mlflow_url)
    for version in (register(), register()):
        await shop(log, profiles, tenant, version=version)
        await evaluate(one, version)
    await asyncio.gather(promote(one, "1"), promote(other, "2"), promote(one, "2"), promote(other, "1"), return_exceptions=True)
    history = (await one.ListPromotions(pb.ListPromotionsRequest(model="churn"))).promotions
    came_from = [each.from_version for each in reversed(history)]
    assert came_from == ["", *(each.to_version for each in reversed(history[1:]))]
    await eventually(lambda: stand(one, {"champion": history[0].to_version, "previous": history[0].from_version}))


async def test_another_tenant_has_neither_evaluations_nor_champions_nor_versions(
    start: "Start", mlflow_url: str, tenant: str, profiles: Profiles, log: Log, register: Register
) -> None:
    evaluation = await start(mlflow_url=mlflow_url)
    await shop(log, profiles, tenant, version=register())
    await evaluate(evaluation, "1")
    await promote(evaluation, "1")
    with context.use(tenant=f"{tenant}-other"):
        profiles.now[f"{tenant}-other"] = OUTCOMES_IN
        assert (await evaluate(evaluation, "1")).row_count == 0
        assert await versions(evaluation) == {}
        assert not (await evaluation.ListPromotions(pb.ListPromotionsRequest(model="churn"))).promotions
        with pytest.raises(NotFound):
            await promote(evaluation, "1")
        with pytest.raises(Conflict):
            await roll_back(evaluation)
