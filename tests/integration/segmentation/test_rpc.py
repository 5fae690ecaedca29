"""The Segmentation service over real gRPC."""

import uuid

import pytest
from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from tests.integration.segmentation.conftest import Platform


def orders_at_least(count: float) -> pb.Condition:
    comparison = pb.Comparison(feature="orders_count", operator=pb.OPERATOR_GREATER_OR_EQUAL, numbers=[count])
    return pb.Condition(comparison=comparison)


def all_of(*conditions: pb.Condition) -> pb.Condition:
    return pb.Condition(all_of=pb.AllOf(conditions=conditions))


def in_segment(key: str) -> pb.Condition:
    return pb.Condition(in_segment=key)


async def create(platform: Platform, key: str, condition: pb.Condition, name: str = "Name") -> pb.Segment:
    request = pb.CreateSegmentRequest(key=key, name=name, description="Made by a test.", condition=condition)
    return (await platform.stub.CreateSegment(request)).segment


async def test_a_new_tenant_has_the_shipped_segments(platform: Platform) -> None:
    listed = (await platform.stub.ListSegments(pb.ListSegmentsRequest())).segments
    assert [segment.key for segment in listed if segment.family == "life_cycle"] == ["potential", "new", "active", "lost"]
    assert len([segment for segment in listed if segment.family == "rfm"]) == 10
    assert all(segment.HasField("condition") is (segment.family != "rfm") for segment in listed)
    assert all(segment.version == 1 and segment.HasField("created") for segment in listed)
    assert "not computed yet" in next(segment.rfm_rule for segment in listed if segment.key == "loyal")


async def test_a_new_segment_has_its_members_at_once(platform: Platform) -> None:
    one, two = platform.shop.add(platform.tenant, 5), platform.shop.add(platform.tenant, 5, 6)
    segment = await create(platform, "repeat_buyers", orders_at_least(2))
    assert (segment.version, segment.member_count, segment.family) == (1, 1, "custom")
    assert segment.HasField("refreshed")
    assert "repeat_buyers" in await platform.keys(two)
    assert "repeat_buyers" not in await platform.keys(one)
    await platform.send()
    assert ("Segment Entered", "repeat_buyers", two) in platform.shop.told(platform.tenant)


async def test_a_preview_counts_without_saving_anything(platform: Platform) -> None:
    for orders in range(4):
        platform.shop.add(platform.tenant, *range(1, orders + 1))
    condition = all_of(orders_at_least(2), in_segment("new"))
    preview = await platform.stub.PreviewSegment(pb.PreviewSegmentRequest(condition=condition))
    assert (preview.member_count, preview.profile_count) == (1, 4)
    assert len((await platform.stub.ListSegments(pb.ListSegmentsRequest())).segments) == 14


async def test_a_preview_of_traits_alone_counts_too(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant)
    platform.shop.add(platform.tenant)
    await platform.identify(ann, plan="pro")
    await platform.settle()
    condition = pb.Condition(comparison=pb.Comparison(trait="plan", operator=pb.OPERATOR_ONE_OF, texts=["pro", "team"]))
    preview = await platform.stub.PreviewSegment(pb.PreviewSegmentRequest(condition=condition))
    assert (preview.member_count, preview.profile_count) == (1, 2)


async def test_a_tenant_without_profiles_previews_nobody(platform: Platform) -> None:
    preview = await platform.stub.PreviewSegment(pb.PreviewSegmentRequest(condition=orders_at_least(1)))
    assert (preview.member_count, preview.profile_count, preview.HasField("at")) == (0, 0, True)


async def test_an_update_is_a_new_version_and_moves_the_members(platform: Platform) -> None:
    two, three = platform.shop.add(platform.tenant, 5, 6), platform.shop.add(platform.tenant, 5, 6, 7)
    await create(platform, "often", orders_at_least(2))
    segment = (await platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key="often", condition=orders_at_least(3)))).segment
    assert (segment.version, segment.member_count, segment.condition) == (2, 1, orders_at_least(3))
    assert ("often" in await platform.keys(two), "often" in await platform.keys(three)) == (False, True)
    await platform.send()
    assert ("Segment Exited", "often", two) in platform.shop.told(platform.tenant)
    same = (await platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key="often", condition=orders_at_least(3)))).segment
    assert same.version == 2


async def test_creating_the_same_again_is_no_error_and_another_is(platform: Platform) -> None:
    first = await create(platform, "often", orders_at_least(2))
    again = await create(platform, "often", orders_at_least(2))
    assert (again.version, again.created) == (1, first.created)
    with pytest.raises(Conflict) as refused:
        await create(platform, "often", orders_at_least(3))
    assert refused.value.reason is Reason.ALREADY_EXISTS


async def test_a_circle_is_refused_with_its_way(platform: Platform) -> None:
    await create(platform, "a", orders_at_least(1))
    await create(platform, "b", all_of(in_segment("a"), in_segment("new")))
    with pytest.raises(InvalidArgument, match="a -> b -> a") as refused:
        await platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key="a", condition=in_segment("b")))
    assert refused.value.reason is Reason.CIRCULAR_SEGMENT
    with pytest.raises(InvalidArgument) as refused:
        await create(platform, "self", in_segment("self"))
    assert refused.value.reason is Reason.CIRCULAR_SEGMENT


async def test_unknown_names_are_refused(platform: Platform) -> None:
    unknown = pb.Condition(comparison=pb.Comparison(feature="shoe_size", operator=pb.OPERATOR_PRESENT))
    for call in (
        create(platform, "feet", unknown),
        platform.stub.PreviewSegment(pb.PreviewSegmentRequest(condition=unknown)),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await call
        assert (refused.value.reason, refused.value.field) == (Reason.UNKNOWN_FEATURE, "condition.feature")
    with pytest.raises(InvalidArgument) as refused:
        await create(platform, "deep", all_of(orders_at_least(1), in_segment("nowhere")))
    assert refused.value.field == "condition.allOf[1].inSegment"
    with pytest.raises(InvalidArgument) as refused:
        await platform.stub.PreviewSegment(pb.PreviewSegmentRequest())
    assert refused.value.reason is Reason.MISSING_FIELD


async def test_a_shipped_segment_is_neither_made_again_nor_changed(platform: Platform) -> None:
    for call in (
        create(platform, "champions", orders_at_least(1)),
        platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key="lost", condition=orders_at_least(1))),
    ):
        with pytest.raises(Conflict) as refused:
            await call
        assert refused.value.reason is Reason.SHIPPED_SEGMENT


@pytest.mark.parametrize("key", ["", "nowhere", "a\0b", "x" * 5000])
async def test_a_segment_that_there_is_not_is_not_found(platform: Platform, key: str) -> None:
    person = platform.shop.add(platform.tenant)
    for call in (
        platform.stub.GetSegment(pb.GetSegmentRequest(key=key)),
        platform.stub.ListMembers(pb.ListMembersRequest(key=key)),
        platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key=key, condition=orders_at_least(1))),
        platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key=key, profile_id=person)),
    ):
        with pytest.raises(NotFound):
            await call


async def test_members_come_in_pages(platform: Platform) -> None:
    people = {platform.shop.add(platform.tenant, 5, 6) for _ in range(7)}
    await create(platform, "often", orders_at_least(2))
    seen: list[str] = []
    token, pages = "", 0
    while True:
        page = await platform.stub.ListMembers(pb.ListMembersRequest(key="often", page_size=3, page_token=token))
        seen += [member.profile_id for member in page.members]
        pages += 1
        if not (token := page.next_page_token):
            break
    assert (seen, pages) == (sorted(people), 3)
    with pytest.raises(InvalidArgument) as refused:
        await platform.stub.ListMembers(pb.ListMembersRequest(key="often", page_token="nonsense"))
    assert refused.value.reason is Reason.INVALID_CURSOR


async def test_why_a_customer_is_in_a_segment(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 5.5, 6)
    await create(platform, "often", all_of(orders_at_least(2), in_segment("new")))
    answer = await platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="often", profile_id=ann))
    assert (answer.member, answer.version) == (True, 1)
    assert [(each.condition, each.value, each.held, each.depth) for each in answer.findings] == [
        ("all of", "", True, 0),
        ("orders_count >= 2", "2", True, 1),
        ('in segment "new"', "member", True, 1),
    ]
    active = await platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="active", profile_id=ann))
    assert active.member is False
    assert ("days_since_last_order < 90", "5.5", True) in [(each.condition, each.value, each.held) for each in active.findings]


async def test_nobody_is_explained_who_is_not_known(platform: Platform) -> None:
    with pytest.raises(NotFound) as refused:
        await platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="new", profile_id=str(uuid.uuid4())))
    assert refused.value.reason is Reason.UNKNOWN_PROFILE
    with pytest.raises(InvalidArgument):
        await platform.stub.ListMemberships(pb.ListMembershipsRequest(profile_id="ann@example.com"))


async def test_another_tenant_sees_and_changes_nothing(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 5, 6)
    await create(platform, "often", orders_at_least(2))
    other = f"t{uuid.uuid4().hex[:12]}"
    with context.use(tenant=other):
        assert len((await platform.stub.ListSegments(pb.ListSegmentsRequest())).segments) == 14
        assert (await platform.stub.ListMembers(pb.ListMembersRequest(key="new"))).members == []
        assert (await platform.stub.ListMemberships(pb.ListMembershipsRequest(profile_id=ann))).memberships == []
        for call in (
            platform.stub.GetSegment(pb.GetSegmentRequest(key="often")),
            platform.stub.ListMembers(pb.ListMembersRequest(key="often")),
            platform.stub.UpdateSegment(pb.UpdateSegmentRequest(key="often", condition=orders_at_least(1))),
            platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="new", profile_id=ann)),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(InvalidArgument):
            await create(platform, "mine", in_segment("often"))
        assert (await create(platform, "often", orders_at_least(9))).member_count == 0
        assert (await platform.stub.RecomputeMemberships(pb.RecomputeMembershipsRequest())).profile_count == 0
    assert (await platform.stub.GetSegment(pb.GetSegmentRequest(key="often"))).segment.member_count == 1


async def test_a_call_without_a_tenant_is_refused(platform: Platform) -> None:
    with context.use(tenant=""), pytest.raises(InvalidArgument) as refused:
        await platform.stub.ListSegments(pb.ListSegmentsRequest())
    assert refused.value.reason is Reason.MISSING_TENANT
