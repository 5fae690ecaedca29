"""Receipts, tracking plans and the quarantine as the gateway knows them."""

import json
from collections import defaultdict
from typing import Any

from rapport.profiles.v1 import plans_pb2 as plans
from rapport.profiles.v1 import receipts_pb2 as receipts
from rapport.profiles.v1.plans_pb2_grpc import PlansServicer
from rapport.profiles.v1.receipts_pb2_grpc import ReceiptBookServicer

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from tests.integration.gateway.stand_ins import stamp, start_of

HELD = "0a" * 16
RULE = "/properties/price/type"


class ReceiptBook(ReceiptBookServicer):
    """Knows one message, with a slash in its id."""

    async def GetReceipt(self, request: Any, call: object) -> receipts.GetReceiptResponse:
        if request.message_id != "shop/1":
            raise NotFound("no event of this tenant came with that message id", field="message_id")
        accepted = receipts.Fate(status=receipts.FATE_STATUS_ACCEPTED, received=stamp())
        rejected = receipts.Fate(
            status=receipts.FATE_STATUS_REJECTED, received=stamp(), type="track", reason="MISSING_FIELD", field="event",
            message="m",
        )  # fmt: skip
        return receipts.GetReceiptResponse(
            message_id=request.message_id, fates=[accepted, rejected], duplicate_count=2, last_duplicate=stamp()
        )


class Plans(PlansServicer):
    """Keeps plans by tenant, and has one event in quarantine, which only passes once it was edited."""

    def __init__(self) -> None:
        self.plans: dict[str, list[bytes]] = defaultdict(list)
        self.edits: list[plans.EditQuarantinedEventRequest] = []

    async def PutTrackingPlan(self, request: Any, call: object) -> plans.PutTrackingPlanResponse:
        if b"objekt" in request.document:
            field = "/events/Order Paid/schema/properties/order_id/type"
            raise InvalidArgument(f"{field}: is no type", field=field)
        self.plans[context.tenant()].append(request.document)
        return plans.PutTrackingPlanResponse(plan=self._plan(0))

    async def GetTrackingPlan(self, request: Any, call: object) -> plans.GetTrackingPlanResponse:
        return plans.GetTrackingPlanResponse(plan=self._plan(request.version))

    def _plan(self, version: int) -> plans.TrackingPlan:
        known = self.plans[context.tenant()]
        if not known or version > len(known):
            raise NotFound("there is no such version of a tracking plan", field="version")
        version = version or len(known)
        return plans.TrackingPlan(version=version, created=stamp(), document=known[version - 1])

    async def ListTrackingPlanVersions(self, request: Any, call: object) -> plans.ListTrackingPlanVersionsResponse:
        start_of(request.page_token)
        versions = range(len(self.plans[context.tenant()]), 0, -1)
        return plans.ListTrackingPlanVersionsResponse(
            plans=[plans.TrackingPlan(version=version, created=stamp()) for version in versions]
        )

    async def InferTrackingPlan(self, request: Any, call: object) -> plans.InferTrackingPlanResponse:
        document = json.dumps({"mode": "observe", "events": {"Order Paid": {"schema": {"type": "object"}}}}).encode()
        return plans.InferTrackingPlanResponse(document=document, event_count=7, since=stamp())

    async def ListPlanViolations(self, request: Any, call: object) -> plans.ListPlanViolationsResponse:
        start_of(request.page_token)
        shared = {"plan_version": 1, "type": "track", "event": "Order Paid", "rule": RULE, "mode": "observe", "count": 3}
        moments = {"first_seen": stamp(), "last_seen": stamp(), "expected": "of type number", "found": "string"}
        shown = plans.PlanViolation(path="properties.price", value=b'"free"', **shared, **moments)
        hidden = plans.PlanViolation(path="properties.email", **shared, **moments)
        return plans.ListPlanViolationsResponse(violations=[shown, hidden])

    async def ListQuarantinedEvents(self, request: Any, call: object) -> plans.ListQuarantinedEventsResponse:
        start_of(request.page_token)
        return plans.ListQuarantinedEventsResponse(events=[_held(b'{"price":"free"}')], next_page_token="1")

    async def GetQuarantinedEvent(self, request: Any, call: object) -> plans.GetQuarantinedEventResponse:
        _find(request.quarantine_id)
        shown = b'{"price":"free","email":"ada@example.com"}' if request.with_personal else b'{"price":"free"}'
        return plans.GetQuarantinedEventResponse(event=_held(shown))

    async def ReplayQuarantinedEvent(self, request: Any, call: object) -> plans.ReplayQuarantinedEventResponse:
        _find(request.quarantine_id)
        raise Conflict("it stays in quarantine", reason=Reason.PLAN_VIOLATION, field="/properties/unit_price")

    async def EditQuarantinedEvent(self, request: Any, call: object) -> plans.EditQuarantinedEventResponse:
        _find(request.quarantine_id)
        self.edits.append(request)
        return plans.EditQuarantinedEventResponse(appended=True)

    async def DiscardQuarantinedEvent(self, request: Any, call: object) -> plans.DiscardQuarantinedEventResponse:
        _find(request.quarantine_id)
        return plans.DiscardQuarantinedEventResponse()

    async def ReplayQuarantinedEvents(self, request: Any, call: object) -> plans.ReplayQuarantinedEventsResponse:
        more = "" if request.page_token else "go-on"
        return plans.ReplayQuarantinedEventsResponse(replayed_count=2, waiting_count=1, next_page_token=more)


def _find(quarantine_id: str) -> None:
    if quarantine_id != HELD:
        raise NotFound("no such event waits in quarantine", field="quarantine_id")


def _held(properties: bytes) -> plans.QuarantinedEvent:
    return plans.QuarantinedEvent(
        quarantine_id=HELD,
        type="track",
        event="Order Paid",
        timestamp=stamp(),
        received=stamp(),
        plan_version=1,
        rule=RULE,
        field="properties.price",
        message="properties.price must be of type number, found string",
        properties=properties,
        expires=stamp(),
    )
