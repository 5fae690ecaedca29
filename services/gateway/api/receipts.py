"""Receipts: what became of a message."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BeforeValidator, Field
from rapport.profiles.v1 import receipts_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.domain import Scope
from services.gateway.wire import NO_NUL, Answer, Lower, OrNone, with_slashes

routes = router("Events")

MessageId = Annotated[
    str,
    Field(min_length=1, max_length=255, pattern=NO_NUL),
    BeforeValidator(with_slashes),
    Path(description="The event's messageId, URL-encoded; of one that came without, the one that its answer named."),
]


class Fate(Answer):
    """One state that a message reached."""

    status: Annotated[
        Literal["accepted", "rejected", "quarantined", "replayed", "superseded", "discarded", "expired"], Lower
    ] = Field(
        description="`accepted` and `replayed`: it is in the log. `quarantined`: it waits. `superseded`: it waited, and the "
        "same message was accepted meanwhile. `expired`: nobody decided in time."
    )
    received: datetime | None = Field(description="When it came.")
    decided: datetime | None = Field(description="When it reached this state, where that was later.")
    type: Annotated[str | None, OrNone]
    reason: Annotated[str | None, OrNone] = Field(description="A code of the closed list.")
    field: Annotated[str | None, OrNone]
    message: Annotated[str | None, OrNone] = Field(description="What was wrong, and what would be right.")
    plan_version: Annotated[int | None, OrNone]
    event: Annotated[str | None, OrNone]
    rule: Annotated[str | None, OrNone] = Field(description="Of the tracking plan, as a JSON pointer into the event's schema.")
    quarantine_id: Annotated[str | None, OrNone]
    expires: datetime | None = Field(description="When it is forgotten unless somebody decides.")


class MessageReceipt(Answer):
    """All that became of a message id within the last 30 days, the newest state first."""

    message_id: str
    fates: list[Fate]
    duplicate_count: int = Field(description="How often it came again and was not stored again.")
    last_duplicate: datetime | None
    has_more: bool = Field(description="There were over 100 fates.")


@routes.get("/v1/receipts/{messageId}")
@needs(Scope.READ)
async def get_receipt(services: Services, message_id: Annotated[MessageId, Path(alias="messageId")]) -> MessageReceipt:
    """What became of an event: accepted, a duplicate of which, rejected for what, held back by which rule."""
    answer = await services.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id=message_id))
    return MessageReceipt.of(answer)
