"""decode -> load -> decide -> encode."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1 import profiles_pb2
from rapport.recommendation.v1 import recommendation_pb2 as pb
from rapport.recommendation.v1 import recommendation_pb2_grpc

from chassis import context
from chassis.errors import InvalidArgument
from services.recommendation.domain.actions import Action
from services.recommendation.domain.ranking import Stage
from services.recommendation.models import Models
from services.recommendation.store.customers import CustomerStore
from services.recommendation.usecases import Question, Recommender, Shown, Strategy

MOST_PROFILES: Final = 1000
MOST_ITEMS: Final = 100
DEFAULT_ITEMS: Final = 10
LONGEST_ID: Final = 256
SOURCE: Final = "rapport.recommendation"
CATALOGUE_FACT: Final = "Catalogue Item Updated"

_STRATEGIES: Final = {
    pb.STRATEGY_UNSPECIFIED: Strategy.PERSONAL,
    pb.STRATEGY_PERSONAL: Strategy.PERSONAL,
    pb.STRATEGY_POPULAR: Strategy.POPULAR,
}


class RecommendationRpc(recommendation_pb2_grpc.RecommendationServicer):
    """The service's methods; the tenant is the call's."""

    def __init__(self, recommender: Recommender, models: Models, store: CustomerStore) -> None:
        self._recommender = recommender
        self._models = models
        self._store = store

    async def Recommend(self, request: pb.RecommendRequest, call: Any) -> pb.RecommendResponse:
        tenant = context.tenant()
        profile_ids = _profile_ids(request.profile_ids)
        shown, built = await self._recommender.recommend(tenant, profile_ids, _question(request))
        results = [
            pb.Recommendations(profile_id=profile_id, items=map(_encoded_item, items))
            for profile_id, items in zip(request.profile_ids, shown, strict=True)
        ]
        return pb.RecommendResponse(results=results, model_built=_stamp(built))

    async def GetNextBestAction(self, request: pb.GetNextBestActionRequest, call: Any) -> pb.GetNextBestActionResponse:
        tenant = context.tenant()
        advice = await self._recommender.advise(tenant, _profile_ids([request.profile_id])[0])
        return pb.GetNextBestActionResponse(
            profile_id=request.profile_id,
            actions=map(_encoded_action, advice.actions),
            churn_probability=advice.churn_probability,
            value_at_stake=advice.value,
            scored=_stamp(advice.scored) if advice.scored else None,
            missing=advice.missing,
        )

    async def RebuildModel(self, request: pb.RebuildModelRequest, call: Any) -> pb.RebuildModelResponse:
        model = await self._models.build(context.tenant(), _moment(request, "at"))
        at = Timestamp()
        at.FromMicroseconds(model.at_us)
        return pb.RebuildModelResponse(item_count=model.item_count, customer_count=model.customer_count, at=at)

    async def UpdateItem(self, request: pb.UpdateItemRequest, call: Any) -> pb.UpdateItemResponse:
        tenant = context.tenant()
        item_id, in_catalogue = request.item_id, request.in_catalogue
        if not 0 < len(item_id) <= LONGEST_ID or "\0" in item_id:
            raise InvalidArgument(f"an item id has 1 to {LONGEST_ID} characters, none of them NUL", field="item_id")

        def fact_of(version: int) -> bytes:
            return _catalogue_fact(item_id, version, in_catalogue=in_catalogue)

        await self._store.update_item(tenant, item_id, in_catalogue=in_catalogue, fact_of=fact_of)
        return pb.UpdateItemResponse()


def _profile_ids(given: Sequence[str]) -> list[UUID]:
    if len(given) > MOST_PROFILES:
        raise InvalidArgument(f"at most {MOST_PROFILES} profiles a call", field="profile_ids")
    try:
        return [UUID(each) for each in given]
    except ValueError:
        raise InvalidArgument("a profile id is a UUID", field="profile_ids") from None


def _question(request: pb.RecommendRequest) -> Question:
    if not 0 <= request.limit <= MOST_ITEMS:
        raise InvalidArgument(f"limit is 1 to {MOST_ITEMS}, or 0 for {DEFAULT_ITEMS}", field="limit")
    if (strategy := _STRATEGIES.get(request.strategy)) is None:
        raise InvalidArgument("the strategy is none of PERSONAL, POPULAR", field="strategy")
    return Question(request.limit or DEFAULT_ITEMS, request.include_purchased, strategy, _moment(request, "at"))


def _moment(request: Any, field: str) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        moment = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not 1970 <= moment.year <= 9000:
        raise InvalidArgument("the time is not one of the years 1970 to 9000", field=field) from None
    return moment


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _encoded_item(shown: Shown) -> pb.RankedItem:
    return pb.RankedItem(
        item_id=shown.label.item_id,
        name=shown.label.name,
        score=shown.ranked.score,
        reason=reason_of(shown),
        stage=shown.ranked.stage.value,
    )


def reason_of(shown: Shown) -> str:
    """Why the item is there, in words."""
    ranked = shown.ranked
    customers = f"{ranked.count} customer{'s' if ranked.count != 1 else ''}"
    match ranked.stage:
        case Stage.CO_PURCHASE:
            other = shown.because.name or shown.because.item_id if shown.because else "another item"
            return f"bought with {other} by {customers}"
        case Stage.REPURCHASE:
            orders = f"in {ranked.count} orders" if ranked.count != 1 else "in 1 order"
            ago = f"{ranked.days} day{'s' if ranked.days != 1 else ''} ago"
            share = f"{ranked.score:.0%} of such items are bought again within {shown.horizon_days} days"
            return f"bought {orders}, last {ago}; {share}"
        case Stage.POPULAR_IN_SEGMENT:
            return f"popular among {shown.segment} customers: bought by {ranked.count} of them"
        case Stage.POPULAR:
            return f"popular: bought by {customers} in a year"


def _encoded_action(action: Action) -> pb.Action:
    return pb.Action(
        name=action.name,
        expected_value=action.expected_value,
        cost=action.cost,
        assumed_retention=action.retention,
        basis=action.basis,
        explanation=action.explanation,
    )


def _catalogue_fact(item_id: str, version: int, *, in_catalogue: bool) -> bytes:
    said = {"item": item_id, "inCatalogue": in_catalogue, "version": version}
    fact = profiles_pb2.Fact(
        message_id=f"item:{version}:{item_id}", name=CATALOGUE_FACT, properties=msgspec.json.encode(said), source=SOURCE
    )
    return fact.SerializeToString()
