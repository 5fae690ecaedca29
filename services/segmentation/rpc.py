"""The Segmentation service on the wire."""

import asyncio
from contextlib import suppress
from typing import Any, Final

from rapport.segmentation.v1 import segmentation_pb2 as pb
from rapport.segmentation.v1 import segmentation_pb2_grpc

from chassis import context
from chassis.errors import InvalidArgument, Reason, Unavailable
from services.segmentation import wire
from services.segmentation.domain import Condition, Definition, check_texts
from services.segmentation.store import SegmentStore
from services.segmentation.usecases import Definitions, Inquiries, Memberships

MAX_REF: Final = 512


class SegmentationRpc(segmentation_pb2_grpc.SegmentationServicer):
    """Decode, load, decide, save, encode."""

    def __init__(
        self,
        store: SegmentStore,
        memberships: Memberships,
        definitions: Definitions,
        inquiries: Inquiries,
        *,
        patience_s: float = 5.0,
    ) -> None:
        self._store = store
        self._memberships = memberships
        self._definitions = definitions
        self._inquiries = inquiries
        self._patience_s = patience_s

    async def CreateSegment(self, request: pb.CreateSegmentRequest, call: Any) -> pb.CreateSegmentResponse:
        check_texts(request.key, request.name, request.description)
        condition = _condition_of(request)
        definition = Definition(request.key, request.name, request.description, condition=condition)
        if await self._definitions.create(definition, condition):
            await self._find_members()
        return pb.CreateSegmentResponse(segment=await self._segment(request.key))

    async def UpdateSegment(self, request: pb.UpdateSegmentRequest, call: Any) -> pb.UpdateSegmentResponse:
        if await self._definitions.revise(request.key, _condition_of(request)):
            await self._find_members()
        return pb.UpdateSegmentResponse(segment=await self._segment(request.key))

    async def _find_members(self) -> None:
        """For as long as a caller may wait; where that is not enough the timer does it, and `refreshed` is unset until then."""
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(self._patience_s):
                await self._memberships.sweep()

    async def _segment(self, key: str) -> pb.Segment:
        return wire.segment_to_proto(await self._store.get(context.tenant(), wire.key_of(key)))

    async def GetSegment(self, request: pb.GetSegmentRequest, call: Any) -> pb.GetSegmentResponse:
        return pb.GetSegmentResponse(segment=await self._segment(request.key))

    async def ListSegments(self, request: pb.ListSegmentsRequest, call: Any) -> pb.ListSegmentsResponse:
        stored = await self._store.list(context.tenant())
        return pb.ListSegmentsResponse(segments=map(wire.segment_to_proto, stored))

    async def PreviewSegment(self, request: pb.PreviewSegmentRequest, call: Any) -> pb.PreviewSegmentResponse:
        condition = _condition_of(request)
        _, plan = await self._store.plan(context.tenant())
        await self._definitions.check(condition, plan)
        preview = await self._inquiries.preview(condition, plan)
        answer = pb.PreviewSegmentResponse(member_count=preview.member_count, profile_count=preview.profile_count)
        answer.at.FromDatetime(preview.at)
        return answer

    async def ListMembers(self, request: pb.ListMembersRequest, call: Any) -> pb.ListMembersResponse:
        size, after = wire.page_size_of(request.page_size), wire.after_token(request.page_token)
        await self._segment(request.key)
        members = await self._store.members(context.tenant(), request.key, after=after, limit=size + 1)
        token = wire.token_of(members[size - 1].profile_id) if len(members) > size else ""
        return pb.ListMembersResponse(members=map(wire.member_to_proto, members[:size]), next_page_token=token)

    async def ListMemberships(self, request: pb.ListMembershipsRequest, call: Any) -> pb.ListMembershipsResponse:
        profile_id = wire.profile_id_of(request.profile_id)
        tenant = context.tenant()
        _, plan = await self._store.plan(tenant)
        answer = pb.ListMembershipsResponse()
        for each in await self._store.memberships(tenant, profile_id):
            definition = plan.by_key[each.segment]
            message = answer.memberships.add(key=each.segment, name=definition.name, family=definition.family.value)
            message.since.FromDatetime(each.since)
        return answer

    async def ExplainMembership(self, request: pb.ExplainMembershipRequest, call: Any) -> pb.ExplainMembershipResponse:
        if not 1 <= len(request.profile_id) <= MAX_REF:
            raise InvalidArgument("a profile is named by its id", reason=Reason.MISSING_FIELD, field="profile_id")
        _, plan = await self._store.plan(context.tenant())
        member, findings = await self._inquiries.explain(request.key, request.profile_id, plan)
        return pb.ExplainMembershipResponse(
            member=member, findings=map(wire.finding_to_proto, findings), version=plan.by_key[request.key].version
        )

    async def RecomputeMemberships(self, request: pb.RecomputeMembershipsRequest, call: Any) -> pb.RecomputeMembershipsResponse:
        swept = await self._memberships.recompute()
        answer = pb.RecomputeMembershipsResponse(
            profile_count=swept.profile_count, entered_count=swept.entered_count, exited_count=swept.exited_count
        )
        answer.at.FromDatetime(swept.at)
        return answer


def _condition_of(
    request: pb.CreateSegmentRequest | pb.UpdateSegmentRequest | pb.PreviewSegmentRequest,
) -> Condition:
    if not request.HasField("condition"):
        raise InvalidArgument("a condition is needed", reason=Reason.MISSING_FIELD, field="condition")
    return wire.condition_from_proto(request.condition)
