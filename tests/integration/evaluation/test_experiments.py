"""Experiments over the wire: who is assigned, what is counted, what is refused."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from rapport.evaluation.v1 import evaluation_pb2 as pb

from chassis import context
from chassis.errors import Conflict, Error, InvalidArgument, NotFound, Reason
from tests.integration.evaluation.stand_ins import START, Log, Profiles, eventually

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub

    from tests.integration.evaluation.conftest import Start

DAY = timedelta(days=1)


def spring(**changes: Any) -> pb.CreateExperimentRequest:
    values: dict[str, Any] = {
        "experiment_id": "spring",
        "hypothesis": "An offer keeps customers",
        "variants": [pb.Variant(key="control", share=0.5), pb.Variant(key="offer", share=0.5)],
        "outcome_event": "Order Completed",
        "outcome_window_days": 30,
        "margin": 0.02,
    }
    return pb.CreateExperimentRequest(**(values | changes))


async def assign(evaluation: "EvaluationAsyncStub", people: list[UUID]) -> dict[UUID, pb.Assignment]:
    given: dict[UUID, pb.Assignment] = {}
    for first in range(0, len(people), 1000):
        part = people[first : first + 1000]
        request = pb.AssignVariantsRequest(experiment_id="spring", profile_ids=[str(each) for each in part])
        response = await evaluation.AssignVariants(request)
        given |= dict(zip(part, response.assignments, strict=True))
    return given


async def results(evaluation: "EvaluationAsyncStub") -> pb.GetExperimentResultsResponse:
    return await evaluation.GetExperimentResults(pb.GetExperimentResultsRequest(experiment_id="spring"))


async def test_an_experiment_is_created_once_and_a_repeat_is_no_error(evaluation: "EvaluationAsyncStub", tenant: str) -> None:
    created = (await evaluation.CreateExperiment(spring())).experiment
    assert (await evaluation.CreateExperiment(spring())).experiment == created
    listed = (await evaluation.ListExperiments(pb.ListExperimentsRequest())).experiments
    assert list(listed) == [created]
    assert created.created.ToDatetime().replace(tzinfo=START.tzinfo) == START
    with pytest.raises(Conflict) as refused:
        await evaluation.CreateExperiment(spring(margin=0.05))
    assert refused.value.reason is Reason.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"experiment_id": ""}, "experiment_id"),
        ({"experiment_id": "a b"}, "experiment_id"),
        ({"experiment_id": "x" * 129}, "experiment_id"),
        ({"hypothesis": "nul\0"}, "hypothesis"),
        ({"hypothesis": "x" * 2001}, "hypothesis"),
        ({"outcome_event": ""}, "outcome_event"),
        ({"outcome_window_days": 0}, "outcome_window_days"),
        ({"margin": float("nan")}, "margin"),
        ({"variants": [pb.Variant(key="control", share=1)]}, "variants"),
        ({"variants": [pb.Variant(key="a", share=0.7), pb.Variant(key="b", share=0.7)]}, "variants.share"),
        ({"variants": [pb.Variant(key="", share=0.5), pb.Variant(key="b", share=0.5)]}, "variants.key"),
    ],
)
async def test_a_bad_experiment_is_refused_with_the_field(
    evaluation: "EvaluationAsyncStub", tenant: str, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await evaluation.CreateExperiment(spring(**changes))
    assert refused.value.field == field


async def test_assignments_stay_as_they_are_and_are_told_once(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles
) -> None:
    people = profiles.people(tenant, 1200)
    await evaluation.CreateExperiment(spring())
    given = await assign(evaluation, people)
    profiles.now[tenant] += 5 * DAY
    assert await assign(evaluation, people) == given
    counts = Counter(each.variant for each in given.values())
    assert 540 < counts["offer"] < 660
    await eventually(lambda: len(profiles.facts[tenant]) >= 1200)
    facts = {UUID(fact.profile_id): fact for fact in profiles.facts[tenant]}
    assert len(profiles.facts[tenant]) == 1200
    fact = facts[people[0]]
    assert (fact.name, fact.source) == ("Experiment Assigned", "rapport.evaluation")
    assert fact.properties.decode() == f'{{"experiment_id":"spring","variation_id":"{given[people[0]].variant}"}}'
    assert fact.timestamp == given[people[0]].assigned
    assert (await results(evaluation)).sample_ratio_p > 0.001


async def test_assigning_at_once_from_many_sides_gives_one_answer(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles
) -> None:
    people = profiles.people(tenant, 200)
    await evaluation.CreateExperiment(spring())
    answers = await asyncio.gather(*(assign(evaluation, people) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    await eventually(lambda: len(profiles.facts[tenant]) >= 200)
    await asyncio.sleep(0.6)
    assert len(profiles.facts[tenant]) == 200


async def test_exposures_count_once_and_only_for_the_assigned(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles
) -> None:
    people = profiles.people(tenant, 10)
    await evaluation.CreateExperiment(spring())
    await assign(evaluation, people[:6])
    request = pb.RecordExposuresRequest(experiment_id="spring", profile_ids=[str(each) for each in people[4:]])
    for _ in range(2):
        assert (await evaluation.RecordExposures(request)).recorded_count == 2
    assert sum(each.exposed_count for each in (await results(evaluation)).variants) == 2
    await eventually(lambda: len(profiles.facts[tenant]) >= 8)
    assert Counter(fact.name for fact in profiles.facts[tenant]) == {"Experiment Assigned": 6, "Experiment Viewed": 2}


async def test_only_customers_whose_window_has_ended_are_judged_and_only_outcomes_inside_it_count(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    early, late = profiles.people(tenant, 40), profiles.people(tenant, 40)
    await evaluation.CreateExperiment(spring())
    await assign(evaluation, early)
    profiles.now[tenant] += 10 * DAY
    await assign(evaluation, late)
    await log.orders(early[:10], START)  # at the instant of the assignment: inside
    await log.orders(early[10:15], START - timedelta(microseconds=1))  # before
    await log.orders(early[15:20], START + 30 * DAY)  # the window is half-open
    await log.orders(early[20:24], START + 30 * DAY - timedelta(microseconds=1))
    await log.orders(early[20:24], START + 2 * DAY)  # twice is one conversion
    await log.orders(late, START + 11 * DAY)  # converted, not judged yet
    await log.orders(early[24:30], START + DAY, name="Product Viewed")  # another event
    profiles.now[tenant] = START + 30 * DAY
    judged = await results(evaluation)
    assert sum(each.assigned_count for each in judged.variants) == 80
    assert sum(each.judged_count for each in judged.variants) == 40
    assert sum(each.converted_count for each in judged.variants) == 14
    assert judged.verdict == pb.VERDICT_NOT_ENOUGH_DATA
    profiles.now[tenant] = START + 40 * DAY
    assert sum(each.judged_count for each in (await results(evaluation)).variants) == 80


async def test_an_effect_is_found_with_its_interval_and_its_verdict(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    people = profiles.people(tenant, 2000)
    await evaluation.CreateExperiment(spring(outcome_event="Trial Started"))
    given = await assign(evaluation, people)
    treated = [each for each in people if given[each].variant == "offer"]
    control = [each for each in people if given[each].variant == "control"]
    await log.orders([*treated[: len(treated) // 4], *control[: len(control) // 10]], START + DAY, name="Trial Started")
    profiles.now[tenant] = START + 31 * DAY
    judged = await results(evaluation)
    assert judged.verdict == pb.VERDICT_BETTER
    assert judged.effect == pytest.approx(0.15, abs=0.002)
    assert 0.11 < judged.low < judged.effect < judged.high < 0.19
    assert "one look" in judged.explanation


async def test_a_merged_customer_keeps_the_earlier_assignment(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    people = profiles.people(tenant, 60)
    await evaluation.CreateExperiment(spring())
    first = await assign(evaluation, people)
    gone = next(each for each in people if first[each].variant == "offer")
    profiles.now[tenant] += DAY
    newcomers = profiles.people(tenant, 60)
    second = await assign(evaluation, newcomers)
    kept = next(each for each in newcomers if second[each].variant == "control")
    stranger = profiles.people(tenant, 1)[0]
    await log.orders([gone], START + 2 * DAY)
    await log.merge(gone, kept)
    await log.merge(kept, stranger)
    await log.orders([gone], START + 3 * DAY)  # an old id still resolves
    profiles.merged |= {gone: stranger, kept: stranger}
    profiles.now[tenant] = START + 40 * DAY
    judged = await results(evaluation)
    assert sum(each.assigned_count for each in judged.variants) == 119
    assert {each.key: each.converted_count for each in judged.variants} == {"control": 0, "offer": 1}
    again = await assign(evaluation, [gone, kept, stranger])
    assert {(each.profile_id, each.variant) for each in again.values()} == {(str(stranger), "offer")}
    assert again[kept].assigned == first[gone].assigned


async def test_customers_who_part_have_their_own_assignments_and_outcomes_again(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles, log: Log
) -> None:
    people = profiles.people(tenant, 60)
    await evaluation.CreateExperiment(spring())
    first = await assign(evaluation, people)
    gone = next(each for each in people if first[each].variant == "offer")
    kept = profiles.people(tenant, 1)[0]
    await log.merge(gone, kept)
    await log.orders([gone], START + 2 * DAY)
    await log.part(kept, gone)
    await log.orders([gone], START + 3 * DAY)
    profiles.now[tenant] = START + 40 * DAY
    judged = await results(evaluation)
    assert {each.key: each.converted_count for each in judged.variants} == {"control": 0, "offer": 1}
    again = await assign(evaluation, [gone, kept])
    assert again[gone].assigned == first[gone].assigned
    assert again[gone].profile_id == str(gone)
    assert again[kept].profile_id == str(kept)


async def test_unknown_customers_and_experiments_are_refused(
    evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles
) -> None:
    people = [str(each) for each in profiles.people(tenant, 2)]
    request = pb.AssignVariantsRequest(experiment_id="spring", profile_ids=people)
    with pytest.raises(NotFound):
        await evaluation.AssignVariants(request)
    await evaluation.CreateExperiment(spring())
    request.profile_ids.append(str(uuid4()))
    with pytest.raises(NotFound) as refused:
        await evaluation.AssignVariants(request)
    assert refused.value.reason is Reason.UNKNOWN_PROFILE
    assert refused.value.field == "profile_ids[2]"
    for ids in ([], ["shop"], people * 501):
        with pytest.raises(InvalidArgument):
            await evaluation.AssignVariants(pb.AssignVariantsRequest(experiment_id="spring", profile_ids=ids))


async def test_another_tenant_sees_nothing_of_it(evaluation: "EvaluationAsyncStub", tenant: str, profiles: Profiles) -> None:
    people = profiles.people(tenant, 5)
    await evaluation.CreateExperiment(spring())
    await assign(evaluation, people)
    with context.use(tenant=f"{tenant}-other"):
        assert not (await evaluation.ListExperiments(pb.ListExperimentsRequest())).experiments
        for ask in (results(evaluation), assign(evaluation, people)):
            with pytest.raises(NotFound):
                await ask
        await evaluation.CreateExperiment(spring())
        with pytest.raises(NotFound):
            await assign(evaluation, people)
        assert sum(each.assigned_count for each in (await results(evaluation)).variants) == 0


async def test_a_second_process_of_the_service_takes_part(start: "Start", tenant: str, profiles: Profiles, log: Log) -> None:
    one, other = await start(), await start()
    people = profiles.people(tenant, 100)
    await one.CreateExperiment(spring())
    given = await assign(other, people)
    await log.orders(people, START + DAY)
    profiles.now[tenant] = START + 31 * DAY
    for evaluation in (one, other):
        assert sum(each.converted_count for each in (await results(evaluation)).variants) == 100
        assert await assign(evaluation, people) == given


async def test_every_refusal_is_one_of_ours(evaluation: "EvaluationAsyncStub", tenant: str) -> None:
    for request in (
        evaluation.RecordExposures(pb.RecordExposuresRequest()),
        evaluation.AssignVariants(pb.AssignVariantsRequest(experiment_id="\0")),
        evaluation.GetExperimentResults(pb.GetExperimentResultsRequest(experiment_id="x" * 10_000)),
        evaluation.CreateExperiment(pb.CreateExperimentRequest()),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await request
        assert isinstance(refused.value, Error)
        assert refused.value.reason is not Reason.INTERNAL
