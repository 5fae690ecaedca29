"""Recommendations: what to show somebody, and what to do about them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import BeforeValidator, Field, StrictBool
from rapport.recommendation.v1 import recommendation_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import DenialsOf, People
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import (
    Answer,
    Asked,
    At,
    Moment,
    Name,
    PathRef,
    Refs,
    Whole,
    enum_number,
    moment_of,
    set_moment,
    with_slashes,
)

routes = router("Recommendations")

_STRATEGY = recommendation_pb2.DESCRIPTOR.enum_types_by_name["Strategy"]

Strategy = Annotated[
    Literal["personal", "popular"], Field(description="popular: most bought only, as a yardstick.", examples=["personal"])
]


class Item(Answer):
    """An item and why it is there."""

    item_id: str
    name: str
    score: float
    reason: str = Field(examples=["bought with WHITE MUG by 41 customers"])
    stage: str = Field(examples=["co_purchase"])


class Recommendations(Answer):
    """Best first."""

    profile_id: str
    model_built: datetime | None
    items: list[Item]


class ProfileItems(Answer):
    """One profile's items, best first; none where `status` says why."""

    ref: str
    profile_id: str | None = Field(description="null: nobody is known by that reference.")
    status: Literal["RECOMMENDED", "NOT_FOUND", "CONSENT_DENIED"]
    items: list[Item]


class BatchRecommendations(Answer):
    """In the order of `refs`."""

    model_built: datetime | None
    results: list[ProfileItems]


class RecommendationsQuestion(Asked):
    """For whom, at most 1,000, and what."""

    refs: Refs
    limit: Whole = Field(10, ge=1, le=100)
    include_purchased: StrictBool = Field(False, description="Leave in what the customer bought already.")
    strategy: Strategy = "personal"
    at: Moment | None = None


class Action(Answer):
    """Something that can be done, with its sum."""

    name: str = Field(examples=["offer"])
    expected_value: float
    cost: float
    assumed_retention: float = Field(description="Share of leavers that the action keeps; `basis` says where that is from.")
    basis: str
    explanation: str = Field(examples=["0.62 x 0.10 x 480.00 - 15.00 = 14.76"])


class NextBestAction(Answer):
    """The first action is the best; "nothing" is always among them."""

    profile_id: str
    actions: list[Action]
    churn_probability: float | None
    value_at_stake: float | None = Field(description="Expected revenue of the next year if the customer stays.")
    scored: datetime | None
    missing: str = Field(description="Why there is no comparison, where there is none.")


class RebuildQuestion(Asked):
    """The instant to build the model at."""

    at: Moment | None = None


class Rebuilt(Answer):
    """What the model was made of."""

    item_count: int
    customer_count: int
    at: datetime | None


class ItemChange(Asked):
    """What is to be true of the item."""

    in_catalogue: StrictBool


class ItemState(Answer):
    """What is true of the item now."""

    item_id: str
    in_catalogue: bool


@routes.get("/v1/profiles/{ref}/recommendations")
@needs(Scope.SCORE)
async def get_recommendations(
    services: Services,
    ref: PathRef,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    include_purchased: Annotated[bool, Query(alias="includePurchased")] = False,
    strategy: Annotated[Strategy, Query()] = "personal",
    at: At = None,
) -> Recommendations:
    """What to show one customer."""
    profile_id = await services.profile_id_of(ref)
    question = RecommendationsQuestion.model_construct(
        refs=[ref], limit=limit, include_purchased=include_purchased, strategy=strategy, at=at
    )
    answer = await services.recommendation.Recommend(_request([profile_id], question))
    return Recommendations.of(answer.results[0], model_built=moment_of(answer, "model_built"))


@routes.post("/v1/recommendations:batch")
@needs(Scope.SCORE, people=People.IN_BODY)
async def batch_recommend(services: Services, denials: DenialsOf, question: RecommendationsQuestion) -> BatchRecommendations:
    """What to show up to 1,000 customers; each is answered."""
    profile_ids = await services.resolve(question.refs)
    denied = await denials.of(services, question.refs)
    pairs = list(zip(question.refs, profile_ids, strict=True))
    known = list(dict.fromkeys(each for ref, each in pairs if each and ref not in denied))
    answer = recommendation_pb2.RecommendResponse()
    if known:
        answer = await services.recommendation.Recommend(_request(known, question), timeout=60.0)
    items = {each.profile_id: [Item.of(item) for item in each.items] for each in answer.results}
    results = [
        ProfileItems(ref=ref, profile_id=each or None, status="CONSENT_DENIED", items=[])
        if ref in denied
        else ProfileItems(
            ref=ref, profile_id=each or None, status="RECOMMENDED" if each else "NOT_FOUND", items=items.get(each, [])
        )
        for ref, each in pairs
    ]
    return BatchRecommendations(model_built=moment_of(answer, "model_built"), results=results)


def _request(profile_ids: list[str], question: RecommendationsQuestion) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest(
        profile_ids=profile_ids, limit=question.limit, include_purchased=question.include_purchased
    )
    request.strategy = enum_number(_STRATEGY, question.strategy)
    set_moment(request, "at", question.at)
    return request


@routes.get("/v1/profiles/{ref}/next-best-action")
@needs(Scope.SCORE)
async def get_next_best_action(services: Services, ref: PathRef) -> NextBestAction:
    """What to do about one customer: the action with the highest expected value, beside the others."""
    profile_id = await services.profile_id_of(ref)
    request = recommendation_pb2.GetNextBestActionRequest(profile_id=profile_id)
    return NextBestAction.of(await services.recommendation.GetNextBestAction(request))


@routes.post("/v1/recommendations:rebuild")
@needs(Scope.OPERATE)
async def rebuild_recommendations(services: Services, question: RebuildQuestion) -> Rebuilt:
    """Builds the model of what is bought together anew, at once."""
    request = recommendation_pb2.RebuildModelRequest()
    set_moment(request, "at", question.at)
    return Rebuilt.of(await services.recommendation.RebuildModel(request, timeout=LONG_S))


@routes.patch("/v1/items/{itemId}")
@needs(Scope.OPERATE)
async def update_item(
    services: Services, item_id: Annotated[Name, BeforeValidator(with_slashes), Path(alias="itemId")], change: ItemChange
) -> ItemState:
    """Takes an item out of the catalogue, or back in."""
    request = recommendation_pb2.UpdateItemRequest(item_id=item_id, in_catalogue=change.in_catalogue)
    await services.recommendation.UpdateItem(request)
    return ItemState(item_id=item_id, in_catalogue=change.in_catalogue)
