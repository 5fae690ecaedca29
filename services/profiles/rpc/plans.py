"""The gRPC service of tracking plans and the quarantine."""

from typing import Final

from rapport.profiles.v1 import event_pb2, plans_pb2_grpc
from rapport.profiles.v1 import plans_pb2 as pb

from services.profiles.infer import Inference
from services.profiles.jsontext import dumps
from services.profiles.plans import Plans
from services.profiles.quarantine import Quarantine
from services.profiles.receipts import KEPT
from services.profiles.rpc import paging
from services.profiles.rpc.wire import timestamp
from services.profiles.store.plans import PlanRow, ViolationRow
from services.profiles.store.quarantine import WaitingRow
from services.profiles.tenancy import Tenants

_NEWEST_VERSION: Final = 2**31 - 1


class PlansRpc(plans_pb2_grpc.PlansServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, plans: Plans, inference: Inference, quarantine: Quarantine) -> None:
        self._tenants = tenants
        self._plans = plans
        self._inference = inference
        self._quarantine = quarantine

    async def PutTrackingPlan(self, request: pb.PutTrackingPlanRequest, context: object) -> pb.PutTrackingPlanResponse:
        tenant = await self._tenants.present()
        return pb.PutTrackingPlanResponse(plan=plan_message(await self._plans.put(tenant.tenant_id, request.document)))

    async def GetTrackingPlan(self, request: pb.GetTrackingPlanRequest, context: object) -> pb.GetTrackingPlanResponse:
        tenant = await self._tenants.present()
        return pb.GetTrackingPlanResponse(plan=plan_message(await self._plans.get(tenant.tenant_id, request.version)))

    async def ListTrackingPlanVersions(
        self, request: pb.ListTrackingPlanVersionsRequest, context: object
    ) -> pb.ListTrackingPlanVersionsResponse:
        tenant = await self._tenants.present()
        size = paging.page_size(request.page_size)
        before = paging.number_after(request.page_token) or _NEWEST_VERSION
        rows = await self._plans.versions(tenant.tenant_id, before, size + 1)
        more = paging.number_token(rows[size - 1].version) if len(rows) > size else ""
        return pb.ListTrackingPlanVersionsResponse(plans=[plan_message(row) for row in rows[:size]], next_page_token=more)

    async def InferTrackingPlan(self, request: pb.InferTrackingPlanRequest, context: object) -> pb.InferTrackingPlanResponse:
        inferred = await self._inference.infer(await self._tenants.present())
        answer = pb.InferTrackingPlanResponse(document=dumps(inferred.document), event_count=inferred.event_count)
        if inferred.since is not None:
            answer.since.FromDatetime(inferred.since)
        return answer

    async def ListPlanViolations(self, request: pb.ListPlanViolationsRequest, context: object) -> pb.ListPlanViolationsResponse:
        tenant = await self._tenants.present()
        size, after = paging.page_size(request.page_size), paging.number_after(request.page_token)
        rows = await self._plans.violations(tenant.tenant_id, after, size + 1)
        more = paging.number_token(after + size) if len(rows) > size else ""
        return pb.ListPlanViolationsResponse(violations=[violation_message(row) for row in rows[:size]], next_page_token=more)

    async def ListQuarantinedEvents(
        self, request: pb.ListQuarantinedEventsRequest, context: object
    ) -> pb.ListQuarantinedEventsResponse:
        tenant = await self._tenants.present()
        size, before = paging.page_size(request.page_size), paging.moment_before(request.page_token)
        rows = await self._quarantine.page(tenant, before, size + 1)
        last = rows[size - 1].event if len(rows) > size else None
        more = paging.moment_token(last.received, last.event_id) if last else ""
        return pb.ListQuarantinedEventsResponse(events=[waiting_message(row) for row in rows[:size]], next_page_token=more)

    async def GetQuarantinedEvent(
        self, request: pb.GetQuarantinedEventRequest, context: object
    ) -> pb.GetQuarantinedEventResponse:
        tenant = await self._tenants.present()
        row = await self._quarantine.get(tenant, request.quarantine_id)
        message = waiting_message(row)
        if request.with_personal:
            message.properties = dumps(await self._quarantine.fields(tenant, row))
        return pb.GetQuarantinedEventResponse(event=message)

    async def ReplayQuarantinedEvent(
        self, request: pb.ReplayQuarantinedEventRequest, context: object
    ) -> pb.ReplayQuarantinedEventResponse:
        tenant = await self._tenants.present()
        return pb.ReplayQuarantinedEventResponse(appended=await self._quarantine.replay(tenant, request.quarantine_id))

    async def EditQuarantinedEvent(
        self, request: pb.EditQuarantinedEventRequest, context: object
    ) -> pb.EditQuarantinedEventResponse:
        tenant = await self._tenants.present()
        appended = await self._quarantine.edit(
            tenant, request.quarantine_id, request.properties, with_personal=request.with_personal
        )
        return pb.EditQuarantinedEventResponse(appended=appended)

    async def DiscardQuarantinedEvent(
        self, request: pb.DiscardQuarantinedEventRequest, context: object
    ) -> pb.DiscardQuarantinedEventResponse:
        await self._quarantine.discard(await self._tenants.present(), request.quarantine_id)
        return pb.DiscardQuarantinedEventResponse()

    async def ReplayQuarantinedEvents(
        self, request: pb.ReplayQuarantinedEventsRequest, context: object
    ) -> pb.ReplayQuarantinedEventsResponse:
        tenant = await self._tenants.present()
        done = await self._quarantine.replay_all(tenant, paging.moment_after(request.page_token))
        return pb.ReplayQuarantinedEventsResponse(
            replayed_count=done.replayed_count,
            superseded_count=done.superseded_count,
            waiting_count=done.waiting_count,
            next_page_token=paging.moment_token(*done.last) if done.last else "",
        )


def plan_message(row: PlanRow) -> pb.TrackingPlan:
    return pb.TrackingPlan(version=row.version, created=timestamp(row.created), document=row.document)


def violation_message(row: ViolationRow) -> pb.PlanViolation:
    return pb.PlanViolation(
        plan_version=row.version,
        type=row.type,
        event=row.event,
        rule=row.rule,
        path=row.path,
        mode=row.mode,
        count=row.count,
        first_seen=timestamp(row.first_seen),
        last_seen=timestamp(row.last_seen),
        expected=row.expected,
        found=row.found,
        value=row.value or b"",
    )


def waiting_message(row: WaitingRow) -> pb.QuarantinedEvent:
    event, hold = row.event, row.hold
    return pb.QuarantinedEvent(
        quarantine_id=event.event_id.hex(),
        type=hold.type,
        event=hold.name,
        timestamp=timestamp(hold.ts),
        received=timestamp(event.received),
        plan_version=hold.plan_version,
        rule=hold.rule,
        field=hold.field,
        message=hold.message,
        properties=event_pb2.Event.FromString(event.payload).properties,
        expires=timestamp(event.received + KEPT),
    )
