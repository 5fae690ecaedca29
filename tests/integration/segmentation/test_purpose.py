"""Segments that are for something: whom their consent leaves out of them is not shown."""

import pytest
from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis.errors import Conflict, Denied, InvalidArgument, Reason
from tests.integration.segmentation.conftest import Platform
from tests.integration.segmentation.test_rpc import orders_at_least

ADS = pb.SegmentUse(purpose="ads", channel="sms")


async def create(platform: Platform, key: str = "often", use: pb.SegmentUse | None = ADS) -> pb.Segment:
    request = pb.CreateSegmentRequest(key=key, name=key, condition=orders_at_least(2), use=use)
    return (await platform.stub.CreateSegment(request)).segment


async def update(platform: Platform, use: pb.SegmentUse | None) -> pb.Segment:
    request = pb.UpdateSegmentRequest(key="often", condition=orders_at_least(2), use=use)
    return (await platform.stub.UpdateSegment(request)).segment


async def members(platform: Platform) -> tuple[set[str], int]:
    found, withheld, token = set[str](), 0, ""
    while True:
        request = pb.ListMembersRequest(key="often", page_size=2, page_token=token)
        page = await platform.stub.ListMembers(request)
        found |= {member.profile_id for member in page.members}
        withheld += page.withheld_count
        if not (token := page.next_page_token):
            return found, withheld


async def test_who_does_not_allow_it_is_not_shown_as_a_member_and_counted(platform: Platform) -> None:
    people = [platform.shop.add(platform.tenant, 5, 6) for _ in range(5)]
    made = await create(platform)
    assert (made.use.purpose, made.use.channel, made.member_count) == ("ads", "sms", 5)
    assert await members(platform) == (set(people), 0)
    denied = people[2]
    platform.ledger.denied.add((denied, "ads", "sms"))
    assert await members(platform) == (set(people) - {denied}, 1)
    with pytest.raises(Denied) as refusal:
        await platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="often", profile_id=denied))
    assert refusal.value.reason is Reason.CONSENT_DENIED
    explained = await platform.stub.ExplainMembership(pb.ExplainMembershipRequest(key="often", profile_id=people[0]))
    assert explained.member
    for profile_id, shown, withheld in ((denied, False, 1), (people[0], True, 0)):
        answer = await platform.stub.ListMemberships(pb.ListMembershipsRequest(profile_id=profile_id))
        assert ("often" in {each.key for each in answer.memberships}, answer.withheld_count) == (shown, withheld)
    # The membership was kept.
    platform.ledger.denied.clear()
    assert await members(platform) == (set(people), 0)


async def test_what_a_segment_is_for_can_be_changed_and_makes_no_version(platform: Platform) -> None:
    ann = platform.shop.add(platform.tenant, 5, 6)
    platform.ledger.denied.add((ann, "ads", "sms"))
    await create(platform, use=None)
    assert await members(platform) == ({ann}, 0)
    changed = await update(platform, ADS)
    assert (changed.version, changed.use) == (1, ADS)
    assert await members(platform) == (set(), 1)
    assert (await update(platform, None)).use == ADS
    assert not (await update(platform, pb.SegmentUse())).HasField("use")
    assert await members(platform) == ({ann}, 0)


async def test_a_segment_for_something_else_is_another_segment(platform: Platform) -> None:
    await create(platform)
    await create(platform)
    with pytest.raises(Conflict):
        await create(platform, use=pb.SegmentUse(purpose="news"))


@pytest.mark.parametrize("use", [pb.SegmentUse(channel="sms"), pb.SegmentUse(purpose="ads", channel="fog")])
async def test_a_use_that_cannot_be_meant_is_refused_by_its_field(platform: Platform, use: pb.SegmentUse) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await create(platform, use=use)
    assert refusal.value.field == ("channel" if use.purpose else "purpose")


async def test_of_a_segment_for_nothing_nobody_is_asked(platform: Platform) -> None:
    platform.shop.add(platform.tenant, 5, 6)
    await create(platform, use=None)
    await members(platform)
    assert platform.ledger.calls == 0
