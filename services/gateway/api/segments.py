"""Segments: conditions, members, and why somebody is in."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field
from rapport.segmentation.v1 import segmentation_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import People
from services.gateway.api.conditions import Condition, ShownCondition, condition_message, shown
from services.gateway.api.consents import Channel, Purpose
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Cursor, Limit, Name, PathRef, PeoplePage, Slug, Text, plain

routes = router("Segments")

NewKey = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Lower-case letters, digits and _; a letter first.")
]
Key = Annotated[Slug, Path(description="The segment's key.", examples=["high_value"])]


class Segment(Answer):
    """A named group of customers."""

    key: str
    name: str
    description: str
    version: int
    condition: ShownCondition | None = Field(description="null for RFM segments, whose rule is in `rfmRule`.")
    family: str = Field(examples=["custom"])
    rfm_rule: str
    purpose: str | None = Field(description="What it is for: who does not allow that is not shown as a member.")
    channel: Channel | None
    member_count: int = Field(description="Of all who meet the condition, whatever they allow.")
    created: datetime | None
    refreshed: datetime | None


class Segments(Answer):
    """All segments of the tenant."""

    data: list[Segment]


class SegmentDraft(Asked):
    """A segment to make."""

    key: NewKey = Field(examples=["regulars"])
    name: Name = Field(examples=["Regulars"])
    description: Text = ""
    condition: Condition
    purpose: Purpose | None = Field(None, description="What it is for; none: nothing that consent is asked for.")
    channel: Channel | None = Field(None, description="Over which channel; none: any.")


class ConditionDraft(Asked):
    """A condition to try."""

    condition: Condition


class SegmentChange(ConditionDraft):
    """A condition to save. What the segment is for stays as it is where that is not given."""

    purpose: Purpose | None = None
    channel: Channel | None = None


class Preview(Answer):
    """How many a condition would hold."""

    member_count: int
    profile_count: int
    at: datetime | None


class Recomputed(Answer):
    """What a recomputation changed."""

    profile_count: int
    entered_count: int
    exited_count: int
    at: datetime | None


class Member(Answer):
    """Somebody who is in."""

    profile_id: str
    since: datetime | None


class Finding(Answer):
    """A condition, the value that it saw, and whether it held."""

    condition: str = Field(examples=["days_since_last_order < 90"])
    value: str = Field(examples=["41.2"])
    held: bool
    depth: int = Field(description="0 for the root.")


class Explanation(Answer):
    """Why a customer is in, or is not."""

    key: str
    profile_id: str
    member: bool
    version: int
    findings: list[Finding]


def _segment(message: segmentation_pb2.Segment) -> Segment:
    fields: dict[str, Any] = plain(message)
    fields |= {"purpose": message.use.purpose or None, "channel": message.use.channel or None}
    fields["condition"] = shown(message.condition) if message.HasField("condition") else None
    return Segment.model_validate(fields)


def _use(draft: SegmentDraft | SegmentChange) -> segmentation_pb2.SegmentUse | None:
    if draft.purpose is None and draft.channel is None:
        return None
    return segmentation_pb2.SegmentUse(purpose=draft.purpose or "", channel=draft.channel or "")


@routes.get("/v1/segments")
@needs(Scope.READ)
async def list_segments(services: Services) -> Segments:
    """All segments, the shipped ones too."""
    answer = await services.segmentation.ListSegments(segmentation_pb2.ListSegmentsRequest())
    return Segments(data=[_segment(each) for each in answer.segments])


@routes.post("/v1/segments")
@needs(Scope.DEFINE, creates=True)
async def create_segment(services: Services, draft: SegmentDraft) -> Segment:
    """Saves a condition under a key, and finds its members."""
    request = segmentation_pb2.CreateSegmentRequest(
        key=draft.key,
        name=draft.name,
        description=draft.description,
        condition=condition_message(draft.condition),
        use=_use(draft),
    )
    return _segment((await services.segmentation.CreateSegment(request, timeout=LONG_S)).segment)


@routes.post("/v1/segments:preview")
@needs(Scope.READ)
async def preview_segment(services: Services, draft: ConditionDraft) -> Preview:
    """How many customers a condition would hold, before it is saved."""
    request = segmentation_pb2.PreviewSegmentRequest(condition=condition_message(draft.condition))
    return Preview.of(await services.segmentation.PreviewSegment(request, timeout=LONG_S))


@routes.post("/v1/segments:recompute")
@needs(Scope.DEFINE)
async def recompute_segments(services: Services) -> Recomputed:
    """Brings all memberships up to the tenant's clock now."""
    request = segmentation_pb2.RecomputeMembershipsRequest()
    return Recomputed.of(await services.segmentation.RecomputeMemberships(request, timeout=LONG_S))


@routes.get("/v1/segments/{key}")
@needs(Scope.READ)
async def get_segment(services: Services, key: Key) -> Segment:
    """One segment."""
    return _segment((await services.segmentation.GetSegment(segmentation_pb2.GetSegmentRequest(key=key))).segment)


@routes.put("/v1/segments/{key}")
@needs(Scope.DEFINE)
async def update_segment(services: Services, key: Key, draft: SegmentChange) -> Segment:
    """Gives a segment another condition: a new version, with members found anew."""
    request = segmentation_pb2.UpdateSegmentRequest(key=key, condition=condition_message(draft.condition), use=_use(draft))
    return _segment((await services.segmentation.UpdateSegment(request, timeout=LONG_S)).segment)


@routes.get("/v1/segments/{key}/members")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_members(services: Services, key: Key, limit: Limit = 100, cursor: Cursor = "") -> PeoplePage[Member]:
    """Who is in, without those who do not allow what the segment is for."""
    request = segmentation_pb2.ListMembersRequest(key=key, page_size=limit, page_token=cursor)
    answer = await services.segmentation.ListMembers(request)
    members = [Member.of(each) for each in answer.members]
    return PeoplePage[Member].of_items(members, answer.next_page_token, withheld_count=answer.withheld_count)


@routes.get("/v1/segments/{key}/members/{ref}")
@needs(Scope.READ)
async def explain_membership(services: Services, key: Key, ref: PathRef) -> Explanation:
    """Why somebody is in, or is not: each condition, the value that it saw, and whether it held."""
    profile_id = await services.profile_id_of(ref)
    request = segmentation_pb2.ExplainMembershipRequest(key=key, profile_id=profile_id)
    answer = await services.segmentation.ExplainMembership(request)
    return Explanation.of(answer, key=key, profile_id=profile_id)
