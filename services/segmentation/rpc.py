"""The Segmentation service on the wire."""

import asyncio
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from rapport.segmentation.v1 import segmentation_pb2 as pb
from rapport.segmentation.v1 import segmentation_pb2_grpc

from chassis import context
from chassis.errors import Denied, InvalidArgument, Reason, Unavailable
from services.segmentation import wire
from services.segmentation.clients import ConsentsClient
from services.segmentation.domain import Condition, Definition, Use, check_texts
from services.segmentation.store import SegmentStore
from services.segmentation.usecases import Definitions, Inquiries, Memberships

MAX_REF: Final = 512
_NOBODY: Final = UUID(int=0)


class SegmentationRpc(segmentation_pb2_grpc.SegmentationServicer):
    """Decode, load, decide, save, encode."""

    def __init__(
        self,
        store: SegmentStore,
        memberships: Memberships,
        definitions: Definitions,
        inquiries: Inquiries,
        consents: ConsentsClient,
        *,
        patience_s: float = 5.0,
    ) -> None:
        self._store = store
        self._memberships = memberships
        self._definitions = definitions
        self._inquiries = inquiries
        self._consents = consents
        self._patience_s = patience_s

    async def CreateSegment(self, request: pb.CreateSegmentRequest, call: Any) -> pb.CreateSegmentResponse:
        check_texts(request.key, request.name, request.description)
        condition, use = _condition_of(request), wire.use_of(request)
        await self._check_use(use)
        use = use if use and use.purpose else None
        definition = Definition(request.key, request.name, request.description, condition=condition, use=use)
        if await self._definitions.create(definition, condition):
            await self._find_members()
        return pb.CreateSegmentResponse(segment=await self._segment(request.key))

    async def UpdateSegment(self, request: pb.UpdateSegmentRequest, call: Any) -> pb.UpdateSegmentResponse:
        condition, use = _condition_of(request), wire.use_of(request)
        await self._check_use(use)
        if await self._definitions.revise(request.key, condition, use):
            await self._find_members()
        return pb.UpdateSegmentResponse(segment=await self._segment(request.key))

    async def _check_use(self, use: Use | None) -> None:
        """Raises InvalidArgument where profiles would not know what is meant."""
        if use is not None and use.purpose:
            try:
                await self._consents.allowed([_NOBODY], [use])
            except InvalidArgument as refusal:
                refusal.field = refusal.field.removeprefix("uses[0].")
                raise

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
        definition = (await self._store.get(context.tenant(), wire.key_of(request.key))).definition
        members = await self._store.members(context.tenant(), request.key, after=after, limit=size + 1)
        token = wire.token_of(members[size - 1].profile_id) if len(members) > size else ""
        page = members[:size]
        allowed = await self._consents.allowed([each.profile_id for each in page], [definition.use] if definition.use else [])
        shown = [each for each, answers in zip(page, allowed, strict=True) if all(answers)]
        return pb.ListMembersResponse(
            members=map(wire.member_to_proto, shown), next_page_token=token, withheld_count=len(page) - len(shown)
        )

    async def ListMemberships(self, request: pb.ListMembershipsRequest, call: Any) -> pb.ListMembershipsResponse:
        profile_id = wire.profile_id_of(request.profile_id)
        tenant = context.tenant()
        _, plan = await self._store.plan(tenant)
        answer = pb.ListMembershipsResponse()
        memberships = await self._store.memberships(tenant, profile_id)
        uses = list(dict.fromkeys(use for each in memberships if (use := plan.by_key[each.segment].use)))
        (answers,) = await self._consents.allowed([profile_id], uses)
        denied = {use for use, is_allowed in zip(uses, answers, strict=True) if not is_allowed}
        for each in memberships:
            definition = plan.by_key[each.segment]
            if definition.use in denied:
                answer.withheld_count += 1
                continue
            message = answer.memberships.add(key=each.segment, name=definition.name, family=definition.family.value)
            message.since.FromDatetime(each.since)
        return answer

    async def ExplainMembership(self, request: pb.ExplainMembershipRequest, call: Any) -> pb.ExplainMembershipResponse:
        if not 1 <= len(request.profile_id) <= MAX_REF:
            raise InvalidArgument("a profile is named by its id", reason=Reason.MISSING_FIELD, field="profile_id")
        _, plan = await self._store.plan(context.tenant())
        member, findings = await self._inquiries.explain(request.key, request.profile_id, plan)
        if use := plan.by_key[request.key].use:
            (answers,) = await self._consents.allowed([wire.profile_id_of(request.profile_id)], [use])
            if not all(answers):
                raise Denied("the person does not allow what the segment is for", reason=Reason.CONSENT_DENIED)
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
