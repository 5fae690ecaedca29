"""The shapes of Segment's calls, for the OpenAPI document. Nothing here runs: profiles is the judge of events."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_WHO: dict[str, Any] = {
    "anyOf": [{"required": [name], "properties": {name: {"type": ["string", "integer"]}}} for name in ("userId", "anonymousId")]
}
_DEVICE = "8f2c1e70-anon"

Id = Annotated[str, Field(min_length=1, max_length=255)] | int


class Call(BaseModel):
    """What all calls have. At least one of `userId` and `anonymousId` is needed. At most 32 KB."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", json_schema_extra=_WHO)

    message_id: str | None = Field(None, min_length=1, max_length=255, description="A repeat is a duplicate, stored once.")
    user_id: Id | None = Field(None, examples=["12347"])
    anonymous_id: Id | None = Field(None, examples=[_DEVICE])
    timestamp: datetime | None = Field(None, description="When it happened; when it was received if absent.")
    sent_at: datetime | None = Field(None, description="The client's clock when it sent this, to correct its other times.")
    context: dict[str, Any] | None = None


class IdentifyCall(Call):
    """Who somebody is: ties `anonymousId` to `userId`, and keeps traits."""

    traits: dict[str, Any] | None = Field(None, examples=[{"plan": "gold", "country": "United Kingdom"}])


class TrackCall(Call):
    """Something that somebody did."""

    event: str = Field(min_length=1, max_length=256, examples=["Order Completed"])
    properties: dict[str, Any] | None = Field(
        None,
        examples=[
            {
                "order_id": "536365",
                "revenue": 139.12,
                "currency": "GBP",
                "products": [{"product_id": "85123A", "name": "WHITE HANGING HEART", "price": 2.55, "quantity": 6}],
            }
        ],
    )


class PageCall(Call):
    """A page that was seen."""

    name: str | None = Field(None, max_length=256, examples=["Home"])
    category: str | None = Field(None, max_length=256)
    properties: dict[str, Any] | None = Field(None, examples=[{"path": "/"}])


class ScreenCall(PageCall):
    """A screen of an app that was seen."""


class GroupCall(Call):
    """The group that somebody belongs to."""

    group_id: Id = Field(examples=["acme"])
    traits: dict[str, Any] | None = Field(None, examples=[{"employees": 120}])


class AliasCall(BaseModel):
    """Two ids of one person."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    message_id: str | None = Field(None, min_length=1, max_length=255)
    previous_id: Id = Field(examples=[_DEVICE])
    user_id: Id = Field(examples=["12347"])
    timestamp: datetime | None = None


class BatchedCall(Call):
    """One of the calls above, naming its type."""

    type: Literal["identify", "track", "page", "screen", "group", "alias"]
    event: str | None = Field(None, max_length=256, examples=["Product Viewed"])
    properties: dict[str, Any] | None = Field(None, examples=[{"product_id": "85123A"}])
    traits: dict[str, Any] | None = None


class Batch(BaseModel):
    """Calls in one body, at most 500 KB."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    batch: list[BatchedCall] = Field(max_length=2500)
    context: dict[str, Any] | None = Field(None, description="For those calls that have none.")
    sent_at: datetime | None = None


BODIES: dict[str, type[BaseModel]] = {
    "identify": IdentifyCall,
    "track": TrackCall,
    "page": PageCall,
    "screen": ScreenCall,
    "group": GroupCall,
    "alias": AliasCall,
    "batch": Batch,
    "import": Batch,
}
