"""Membership follows the log, the clock and merges; every change is told once."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis import context
from chassis.errors import Conflict
from services.segmentation.domain import Definition
from services.segmentation.store import SegmentStore
from services.segmentation.usecases import Memberships
from services.segmentation.wire import condition_from_proto
from tests.integration.segmentation.conftest import Platform
from tests.integration.segmentation.shop import NOW

STAGES = {"potential", "new", "active", "lost"}


async def recompute(platform: Platform) -> pb.RecomputeMembershipsResponse:
    return await platform.stub.RecomputeMemberships(pb.RecomputeMembershipsRequest())


async def test_an_order_moves_a_customer_through_the_life_cycle(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant)
    await platform.event(ann, kind="page", name="Home")
    await platform.settle()
    assert await platform.keys(ann) == {"potential"}
    platform.shop.order(platform.tenant, ann)
    await platform.event(ann)
    await platform.settle()
    assert await platform.keys(ann) == {"new"}
    assert sorted(platform.shop.told(platform.tenant)) == [
        ("Segment Entered", "new", ann),
        ("Segment Entered", "potential", ann),
        ("Segment Exited", "potential", ann),
    ]
    assert await platform.dirty() == 0


async def test_nothing_is_told_where_nothing_changed(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10, 400)
    for _ in range(3):
        await platform.event(ann)
        await platform.settle()
    assert platform.shop.told(platform.tenant) == [("Segment Entered", "active", ann)]
    assert (await recompute(platform)).entered_count == 0


async def test_facts_about_services_touch_nobody(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10)
    for name, source in (("Churn Scored", "rapport.scoring"), ("Segment Entered", "rapport.segmentation")):
        await platform.event(ann, name=name, source=source)
    await platform.project()
    assert await platform.dirty() == 0


async def test_no_client_can_merge_others_by_naming_its_channel_after_us(platform: Platform) -> None:
    ann, bob = platform.shop.add(platform.tenant, 10, 400), platform.shop.add(platform.tenant, 300)
    await recompute(platform)
    for source in ("rapport.profiles", "web"):
        await platform.event(ann, name="Profile Merged", source=source, channel=source, from_=ann, into=bob)
    await platform.settle()
    assert await platform.keys(ann) == {"active"}
    assert await platform.keys(bob) == {"lost"}


async def test_many_events_of_one_customer_are_one_evaluation(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10)
    for _ in range(20):
        await platform.event(ann, kind="page", name="Home")
    await platform.settle()
    assert platform.shop.batches == [1]


async def test_the_flow_is_waited_for(platform: Platform) -> None:
    await platform.event(platform.shop.add(platform.tenant, 10))
    await platform.project()
    assert platform.tenant not in await platform.evaluations.waiting(quiet_s=30, most_s=60)
    assert platform.tenant in await platform.evaluations.waiting(quiet_s=30, most_s=0)
    assert platform.tenant in await platform.evaluations.waiting(quiet_s=0, most_s=60)


async def test_a_profile_is_evaluated_only_when_profiles_has_its_newest_event(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant)
    bob = platform.shop.add(platform.tenant, 10, 400)
    await platform.event(bob)
    await platform.event(ann)
    await platform.project()
    platform.shop.lag = 100_000
    assert await platform.refresher.step() == 0
    platform.shop.order(platform.tenant, ann)
    platform.shop.lag = 0
    await platform.settle()
    assert await platform.keys(ann) == {"new"}
    assert platform.shop.told(platform.tenant).count(("Segment Entered", "potential", ann)) == 0


async def test_rows_that_profiles_has_passed_are_not_held_up_by_later_ones(platform: Platform) -> None:
    ann, bob = platform.shop.add(platform.tenant, 10, 400), platform.shop.add(platform.tenant, 300)
    await platform.event(ann)
    await platform.project()
    await platform.event(bob)
    await platform.project()
    platform.shop.lag = 1
    assert await platform.refresher.step() == 1
    assert (await platform.keys(ann), await platform.keys(bob)) == ({"active"}, set())
    platform.shop.lag = 0
    assert await platform.refresher.step() == 1
    assert await platform.keys(bob) == {"lost"}


async def test_rows_of_other_tenants_hold_nobody_up(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10, 400)
    await platform.event(ann)
    for _ in range(3):
        await platform.event(str(uuid4()), tenant=f"{platform.tenant}-other")
    with context.everyone():
        await platform.project()
        assert await platform.refresher.step() > 0
    assert await platform.keys(ann) == {"active"}
    with context.use(tenant=f"{platform.tenant}-other"):
        async with platform.database.transaction() as connection:
            await connection.execute("DELETE FROM segmentation.dirty")
            await connection.execute("DELETE FROM segmentation.tenants")


async def test_who_waits_too_long_is_evaluated_and_stays_marked(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10, 400)
    await platform.event(ann)
    await platform.project()
    marks = await platform.evaluations.take(platform.tenant, (0, 0), 0, patience_s=0, limit=10)
    assert [(str(mark.node_id), mark.is_settled) for mark in marks] == [(ann, False)]
    await platform.memberships.evaluate([ann], marks)
    assert await platform.keys(ann) == {"active"}
    assert await platform.dirty() == 1


async def test_an_event_that_comes_in_during_an_evaluation_is_not_lost(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10, 400)
    await platform.event(ann)
    await platform.project()
    head = await platform.evaluations.log_head()
    marks = await platform.evaluations.take(platform.tenant, head, 0, patience_s=60, limit=10)
    await platform.event(ann)
    await platform.project()
    await platform.memberships.evaluate([ann], marks)
    assert await platform.dirty() == 1
    await platform.settle()
    assert await platform.dirty() == 0


async def test_a_batch_of_the_log_that_another_reader_took_is_not_written_twice(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10)
    await platform.event(ann)
    handed: list[tuple] = []

    async def keep(records, position) -> None:
        handed.append((records, position))
        await platform.projector.handle(records, position)

    await platform.reader.step(keep)
    with pytest.raises(Conflict):
        await platform.projector.handle(*handed[0])


async def test_traits_decide_and_the_newest_counts(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant)
    pro = pb.Condition(comparison=pb.Comparison(trait="plan", operator=pb.OPERATOR_EQUAL, texts=["pro"]))
    await platform.stub.CreateSegment(pb.CreateSegmentRequest(key="pro", name="Pro", condition=pro))
    await platform.identify(ann, plan="pro", tags=["x"], ts=NOW)
    await platform.identify(ann, plan="free", ts=NOW - timedelta(days=1))
    await platform.settle()
    assert await platform.keys(ann) == {"potential", "pro"}
    await platform.identify(ann, plan=None, ts=NOW + timedelta(seconds=1))
    await platform.settle()
    assert await platform.keys(ann) == {"potential"}


async def test_traits_of_an_anonymous_id_count_for_the_profile_that_it_belongs_to(platform: Platform) -> None:
    ann, device = platform.shop.add(platform.tenant), str(uuid4())
    platform.shop.merged[platform.tenant][device] = ann
    seats = pb.Condition(comparison=pb.Comparison(trait="seats", operator=pb.OPERATOR_GREATER, numbers=[10]))
    await platform.stub.CreateSegment(pb.CreateSegmentRequest(key="big", name="Big", condition=seats))
    await platform.identify(device, seats=12)
    await platform.settle()
    assert await platform.keys(ann) == {"potential", "big"}
    await recompute(platform)
    assert await platform.keys(ann) == {"potential", "big"}


async def test_a_merge_leaves_one_profile_with_what_holds_for_both_together(platform: Platform) -> None:
    ann, device = platform.shop.add(platform.tenant, 300), platform.shop.add(platform.tenant, 5)
    await recompute(platform)
    assert (await platform.keys(ann), await platform.keys(device)) == ({"lost"}, {"new"})
    platform.shop.merge(platform.tenant, device, ann)
    await platform.merged(device, ann)
    await platform.settle()
    assert (await platform.keys(ann), await platform.keys(device)) == ({"active"}, set())
    # Who keeps memberships moves them at the merge too, so the halves' stages have to be left by name.
    assert [name for name, key, who in platform.shop.told(platform.tenant) if (key, who) == ("lost", ann)] == [
        "Segment Entered",
        "Segment Exited",
    ]
    assert ("Segment Exited", "new", ann) in platform.shop.told(platform.tenant)


async def test_profiles_that_part_are_evaluated_with_their_own_traits_again(platform: Platform) -> None:
    ann, device = platform.shop.add(platform.tenant), platform.shop.add(platform.tenant)
    seats = pb.Condition(comparison=pb.Comparison(trait="seats", operator=pb.OPERATOR_GREATER, numbers=[10]))
    await platform.stub.CreateSegment(pb.CreateSegmentRequest(key="big", name="Big", condition=seats))
    await platform.identify(device, seats=12)
    platform.shop.merged[platform.tenant][device] = ann
    await platform.merged(device, ann)
    await platform.settle()
    assert await platform.keys(ann) == {"potential", "big"}
    del platform.shop.merged[platform.tenant][device]
    traits = [{"node": device, "name": "seats", "value": 12, "time": "2026-01-01T00:00:00.000000Z"}]
    said = {"from_": ann, "into": device, "nodes": [device], "traits": traits}
    await platform.event(device, name="Profile Unmerged", source="rapport.profiles", **said)
    await platform.settle()
    assert (await platform.keys(ann), await platform.keys(device)) == ({"potential"}, {"potential", "big"})


async def test_what_was_told_of_a_profile_that_is_gone_is_told_again_of_the_other(platform: Platform) -> None:
    """Else a late "Exited" of the one would be the last that others hear of the other."""
    ann, device = platform.shop.add(platform.tenant, 10, 400), platform.shop.add(platform.tenant, 12, 300)
    await recompute(platform)
    platform.shop.merge(platform.tenant, device, ann)
    await platform.merged(device, ann)
    await platform.settle()
    assert await platform.keys(ann) == {"active"}
    told = [fact for fact in platform.shop.told(platform.tenant) if fact[2] == ann]
    assert told == [("Segment Entered", "active", ann)] * 2
    await platform.event(ann)
    await platform.settle()
    assert len([fact for fact in platform.shop.told(platform.tenant) if fact[2] == ann]) == 2


async def test_two_replicas_do_not_undo_each_other(platform: Platform) -> None:
    people = [platform.shop.add(platform.tenant, 10, 400) for _ in range(10)]
    other = Memberships(platform.evaluations, platform.profiles)
    await asyncio.gather(*(each.evaluate(people) for each in (platform.memberships, other)))
    await platform.send()
    assert sorted(platform.shop.told(platform.tenant)) == sorted(("Segment Entered", "active", person) for person in people)


async def test_a_membership_that_ends_with_no_event_is_found_by_the_timer(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 89, 400)
    await platform.event(ann)
    await platform.settle()
    await platform.timer.step()
    assert await platform.keys(ann) == {"active"}
    platform.shop.now[platform.tenant] = NOW + timedelta(minutes=59)
    await platform.event(platform.shop.add(platform.tenant))
    await platform.settle()
    await platform.timer.step()
    assert await platform.keys(ann) == {"active"}
    platform.shop.now[platform.tenant] = NOW + timedelta(days=2)
    await platform.event(platform.shop.add(platform.tenant))
    await platform.settle()
    await platform.timer.step()
    assert await platform.keys(ann) == {"lost"}


async def test_the_timer_waits_for_a_calm_but_not_for_ever(platform: Platform) -> None:
    await platform.event(platform.shop.add(platform.tenant, 10))
    await platform.project()

    async def is_due(*, interval_s: float = 60, pause_s: float = 60, calm_s: float = 0) -> bool:
        found = await platform.evaluations.due(interval_s=interval_s, pause_s=pause_s, calm_s=calm_s)
        return platform.tenant in [each.tenant for each in found]

    assert await is_due() is False
    assert await is_due(pause_s=0) is True
    await platform.settle()
    assert await is_due() is True
    assert await is_due(calm_s=60) is False
    await platform.timer.step()
    assert await is_due() is False
    assert await is_due(interval_s=0) is True


async def test_the_timer_finishes_what_a_definition_began(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 10, 400)
    await recompute(platform)
    any_order = pb.Condition(comparison=pb.Comparison(feature="orders_count", operator=pb.OPERATOR_GREATER, numbers=[0]))
    async with platform.database.transaction() as connection:
        # As if the process had died after the definition was saved.
        await connection.execute("UPDATE segmentation.tenants SET turn = turn + 1 WHERE tenant_id = $1", platform.tenant)
    store = SegmentStore(platform.database)
    turn, _ = await store.plan(platform.tenant)
    definition = Definition("buyers", "Buyers", "", condition=condition_from_proto(any_order))
    await store.add(platform.tenant, definition, turn=turn, actor="test")
    stored = (await platform.stub.GetSegment(pb.GetSegmentRequest(key="buyers"))).segment
    assert (stored.member_count, stored.HasField("refreshed")) == (0, False)
    await platform.timer.step()
    stored = (await platform.stub.GetSegment(pb.GetSegmentRequest(key="buyers"))).segment
    assert (stored.member_count, stored.HasField("refreshed")) == (1, True)
    assert "buyers" in await platform.keys(ann)


async def test_recompute_cuts_quintiles_and_covers_every_customer(platform: Platform) -> None:
    customers = [platform.shop.add(platform.tenant, *range(number, 400, 7 + number), amount=number) for number in range(1, 61)]
    visitor = platform.shop.add(platform.tenant)
    answer = await recompute(platform)
    assert answer.profile_count == 61
    assert answer.at.ToDatetime(NOW.tzinfo) == NOW
    listed = (await platform.stub.ListSegments(pb.ListSegmentsRequest())).segments
    rfm = [segment for segment in listed if segment.family == "rfm"]
    assert sum(segment.member_count for segment in rfm) == 60
    assert sum(segment.member_count for segment in listed if segment.family == "life_cycle") == 61
    assert all(segment.rfm_rule.endswith("(quintiles of 60 customers with orders at 2026-03-01)") for segment in rfm)
    for customer in customers[:5]:
        assert len(await platform.keys(customer)) == 2
    assert await platform.keys(visitor) == {"potential"}
    again = await recompute(platform)
    assert (again.entered_count, again.exited_count) == (0, 0)
    versions = {segment.version for segment in (await platform.stub.ListSegments(pb.ListSegmentsRequest())).segments}
    assert versions == {1}


async def test_a_shop_of_three_says_that_it_is_too_small_for_quintiles(platform: Platform) -> None:
    for age in (1, 10, 100):
        platform.shop.add(platform.tenant, age)
    await recompute(platform)
    champions = (await platform.stub.GetSegment(pb.GetSegmentRequest(key="champions"))).segment
    assert champions.member_count == 0
    assert "not computed: 3 customers with orders" in champions.rfm_rule


async def test_evaluations_at_the_same_time_do_not_undo_each_other(platform: Platform) -> None:
    people = [platform.shop.add(platform.tenant, 10, 400) for _ in range(30)]
    for person in people:
        await platform.event(person)
    await platform.project()
    with context.use(tenant=platform.tenant):
        await asyncio.gather(recompute(platform), platform.settle(), recompute(platform), platform.memberships.sweep())
    await platform.send()
    told = platform.shop.told(platform.tenant)
    assert sorted(told) == sorted(set(told))
    for person in people:
        assert len(await platform.keys(person) & STAGES) == 1


async def test_profiles_are_asked_in_pages_of_a_thousand(platform: Platform) -> None:
    for _ in range(1_001):
        platform.shop.add(platform.tenant)
    await recompute(platform)
    assert sorted(platform.shop.batches) == [1, 1, 1000, 1000]
