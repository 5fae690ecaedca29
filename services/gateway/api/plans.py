"""Tracking plans: what events should look like, what did not, and what is held back for it."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rapport.profiles.v1 import plans_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import SeesPersonal, Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Cursor, JsonObject, Limit, OrNone, Page, plain

routes = router("Tracking plan")

Mode = Literal["observe", "quarantine", "reject"]
QuarantineId = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{32}$"),
    Path(alias="quarantineId", description="As the list of the quarantine and the event's receipt have it."),
]
_EXAMPLE: dict[str, Any] = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "revenue": {"type": "number", "minimum": 0},
        "prescription": {"type": "string", "x-field-class": "sensitive"},
    },
}


class EventRule(Asked):
    """What one kind of event must look like. What the schema does not name is kept all the same."""

    schema_: JsonObject = Field(
        default_factory=dict,
        alias="schema",
        examples=[_EXAMPLE],
        description="JSON Schema 2020-12, for the properties of a track call, the traits of identify and group. `format` is "
        "checked. References stay inside it; regular expressions are matched in linear time, without lookaround. "
        "A property with `x-field-class`, `personal` or `sensitive`, is sealed from then on, whatever the mode, at any depth.",
    )
    mode: Mode | None = Field(None, description="The plan's if absent.")
    description: str | None = Field(None, max_length=1000)


class PlanDraft(Asked):
    """A tracking plan."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    mode: Mode = Field(
        "observe",
        description="What happens to an event that is not as it should be: it is counted, held back until somebody decides, "
        "or rejected.",
    )
    unplanned: Literal["allow", "observe", "quarantine", "reject"] = Field(
        "allow", description="What happens to track calls whose event is not named here."
    )
    events: dict[str, EventRule] = Field(default_factory=dict, description="Track calls by their name.")
    identify: EventRule | None = None
    group: EventRule | None = None


class TrackingPlan(Answer):
    """One version of the plan, as it was put."""

    version: int
    created: datetime | None
    plan: dict[str, Any]


class PlanVersion(Answer):
    """A version, without its content."""

    version: int
    created: datetime | None


class InferredPlan(Answer):
    """A draft. Nothing is stored: correct it, then put it."""

    plan: dict[str, Any]
    event_count: int = Field(description="How many events it was made of.")
    since: datetime | None = Field(description="When the first of them was received.")


class PlanViolation(Answer):
    """A rule that was broken, and how often. `expected`, `found` and `value` are of the last time."""

    plan_version: int
    type: str
    event: str
    rule: str = Field(description="JSON pointer into the event's schema; `unplanned`; `others`: beyond 1,000 groups.")
    path: str = Field(examples=["properties.products[].price"])
    mode: Annotated[Mode | None, OrNone]
    count: int
    first_seen: datetime | None
    last_seen: datetime | None
    expected: str
    found: str = Field(description="The type of what was there, never what it was.")
    value: Any = Field(description="What was there, for a public property only.")


class QuarantinedEvent(Answer):
    """An event that is held back, with its public properties."""

    quarantine_id: str
    type: str
    event: str
    timestamp: datetime | None
    received: datetime | None
    plan_version: int
    rule: str
    field: str
    message: str
    properties: dict[str, Any]
    expires: datetime | None = Field(description="When it is forgotten unless somebody decides.")


class EditedProperties(Asked):
    """Properties (of identify and group: traits) in place of the old ones."""

    properties: JsonObject = Field(
        description="Replaces all. For keys without the scope `personal`, the personal ones stay as they are."
    )


class Decided(Answer):
    """What became of an event that was held back."""

    outcome: Literal["replayed", "superseded", "discarded"] = Field(
        description="`replayed`: it is in the log, with its own time and messageId. `superseded`: the same message was there."
    )


class ReplayCursor(Asked):
    """Where to go on."""

    next: str = Field("", max_length=2048, description="The cursor that the call before gave.")


class Replayed(Answer):
    """What became of all that were held back."""

    replayed_count: int
    superseded_count: int
    waiting_count: int = Field(description="What the present plan does not let pass.")
    has_more: bool
    next: str | None = Field(description="At most 10,000 are tried in one call; go on with it.")


@routes.put("/v1/tracking-plan")
@needs(Scope.OPERATE)
async def put_tracking_plan(services: Services, draft: PlanDraft) -> TrackingPlan:
    """A new version of the plan, in effect everywhere within five seconds. The same plan again stays the same version."""
    document = msgspec.json.encode(draft.model_dump(by_alias=True, exclude_none=True, exclude_unset=True))
    return _plan((await services.plans.PutTrackingPlan(plans_pb2.PutTrackingPlanRequest(document=document))).plan)


@routes.get("/v1/tracking-plan")
@needs(Scope.READ)
async def get_tracking_plan(services: Services) -> TrackingPlan:
    """The newest version."""
    return _plan((await services.plans.GetTrackingPlan(plans_pb2.GetTrackingPlanRequest())).plan)


@routes.post("/v1/tracking-plan:infer")
@needs(Scope.READ)
async def infer_tracking_plan(services: Services) -> InferredPlan:
    """A first plan out of the newest events: names, types of properties, what was always there."""
    answer = await services.plans.InferTrackingPlan(plans_pb2.InferTrackingPlanRequest(), timeout=LONG_S)
    fields = plain(answer)
    return InferredPlan.model_validate(fields | {"plan": fields["document"]})


@routes.get("/v1/tracking-plan/versions")
@needs(Scope.READ)
async def list_tracking_plan_versions(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[PlanVersion]:
    """All versions, newest first."""
    request = plans_pb2.ListTrackingPlanVersionsRequest(page_size=limit, page_token=cursor)
    answer = await services.plans.ListTrackingPlanVersions(request)
    return Page[PlanVersion].of_items([PlanVersion.of(each) for each in answer.plans], answer.next_page_token)


@routes.get("/v1/tracking-plan/versions/{version}")
@needs(Scope.READ)
async def get_tracking_plan_version(services: Services, version: Annotated[int, Path(ge=1, lt=2**31)]) -> TrackingPlan:
    """One version."""
    return _plan((await services.plans.GetTrackingPlan(plans_pb2.GetTrackingPlanRequest(version=version))).plan)


@routes.get("/v1/tracking-plan/violations")
@needs(Scope.READ)
async def list_plan_violations(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[PlanViolation]:
    """What was not as planned, grouped: the newest version first, the most frequent first."""
    request = plans_pb2.ListPlanViolationsRequest(page_size=limit, page_token=cursor)
    answer = await services.plans.ListPlanViolations(request)
    return Page[PlanViolation].of_items([_violation(each) for each in answer.violations], answer.next_page_token)


@routes.get("/v1/quarantine")
@needs(Scope.READ)
async def list_quarantined_events(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[QuarantinedEvent]:
    """What is held back, newest first."""
    request = plans_pb2.ListQuarantinedEventsRequest(page_size=limit, page_token=cursor)
    answer = await services.plans.ListQuarantinedEvents(request)
    return Page[QuarantinedEvent].of_items([QuarantinedEvent.of(each) for each in answer.events], answer.next_page_token)


@routes.post("/v1/quarantine:replay")
@needs(Scope.OPERATE)
async def replay_quarantined_events(services: Services, asked: ReplayCursor | None = None) -> Replayed:
    """Appends all that the present plan lets pass, oldest first, each with its own time and messageId."""
    request = plans_pb2.ReplayQuarantinedEventsRequest(page_token=asked.next if asked else "")
    answer = await services.plans.ReplayQuarantinedEvents(request, timeout=LONG_S)
    return Replayed.of(answer, has_more=bool(answer.next_page_token), next=answer.next_page_token or None)


@routes.get("/v1/quarantine/{quarantineId}")
@needs(Scope.READ)
async def get_quarantined_event(
    services: Services, sees_personal: SeesPersonal, quarantine_id: QuarantineId
) -> QuarantinedEvent:
    """One event that is held back. Personal properties only for keys with the scope `personal`."""
    request = plans_pb2.GetQuarantinedEventRequest(quarantine_id=quarantine_id, with_personal=sees_personal)
    return QuarantinedEvent.of((await services.plans.GetQuarantinedEvent(request)).event)


@routes.post("/v1/quarantine/{quarantineId}:replay")
@needs(Scope.OPERATE)
async def replay_quarantined_event(services: Services, quarantine_id: QuarantineId) -> Decided:
    """Appends it as it came, with its own time and messageId, where the present plan lets it pass."""
    request = plans_pb2.ReplayQuarantinedEventRequest(quarantine_id=quarantine_id)
    return _decided((await services.plans.ReplayQuarantinedEvent(request)).appended)


@routes.post("/v1/quarantine/{quarantineId}:edit")
@needs(Scope.OPERATE)
async def edit_quarantined_event(
    services: Services, sees_personal: SeesPersonal, quarantine_id: QuarantineId, edited: EditedProperties
) -> Decided:
    """Replaces its properties, then replays it; where the plan still does not let it pass, nothing is changed."""
    request = plans_pb2.EditQuarantinedEventRequest(
        quarantine_id=quarantine_id, properties=msgspec.json.encode(edited.properties), with_personal=sees_personal
    )
    return _decided((await services.plans.EditQuarantinedEvent(request)).appended)


@routes.post("/v1/quarantine/{quarantineId}:discard")
@needs(Scope.OPERATE)
async def discard_quarantined_event(services: Services, quarantine_id: QuarantineId) -> Decided:
    """Drops it. Its receipt says so."""
    await services.plans.DiscardQuarantinedEvent(plans_pb2.DiscardQuarantinedEventRequest(quarantine_id=quarantine_id))
    return Decided(outcome="discarded")


def _plan(message: plans_pb2.TrackingPlan) -> TrackingPlan:
    fields = plain(message)
    return TrackingPlan.model_validate(fields | {"plan": fields["document"]})


def _violation(message: plans_pb2.PlanViolation) -> PlanViolation:
    fields = plain(message)
    return PlanViolation.model_validate(fields | {"value": fields["value"] if message.value else None})


def _decided(appended: bool) -> Decided:
    return Decided(outcome="replayed" if appended else "superseded")
