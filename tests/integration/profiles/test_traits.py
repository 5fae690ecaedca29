"""Traits that tenants define, feature sets, lineage and figures, over gRPC."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2 as pb
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.catalogue_pb2_grpc import CatalogueStub, add_CatalogueServicer_to_server

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml.features import catalogue as shipped
from services.profiles.main import definitions
from tests.integration.profiles.conftest import RECEIVED, Profiles

ORDERS = features_pb2.EventFilter(type="track", names=["Order Completed"])
WINE = features_pb2.Elements(property="products", where=[features_pb2.PropertyFilter(property="category", texts=["wine"])])
SPENT = features_pb2.Feature(
    description="Spent on wine.",
    unit="currency",
    events=ORDERS,
    aggregation=features_pb2.AGGREGATION_SUM,
    value=features_pb2.Value(number="price", times="quantity"),
    elements=WINE,
)
SHARE = features_pb2.Feature(
    aggregation=features_pb2.AGGREGATION_RATIO,
    parts=[
        features_pb2.Feature(events=ORDERS, aggregation=features_pb2.AGGREGATION_COUNT, elements=WINE),
        features_pb2.Feature(
            events=ORDERS, aggregation=features_pb2.AGGREGATION_COUNT, elements=features_pb2.Elements(property="products")
        ),
    ],
)


@pytest_asyncio.fixture
async def catalogue(profiles: Profiles, serve: Callable[..., Awaitable[str]], stub: Callable[..., Any]) -> Any:
    servicer = definitions(profiles.database, profiles.parts)
    address = await serve("profiles", add_CatalogueServicer_to_server, servicer, pb.DESCRIPTOR)
    return stub(CatalogueStub, address, pb.DESCRIPTOR)


def order(user: str, number: int, *products: dict[str, Any], days: int = 0, **more: Any) -> dict[str, Any]:
    at = RECEIVED - timedelta(days=days, minutes=number)
    properties = {"order_id": f"{user}-{number}", "revenue": 10 + number, "products": list(products), **more}
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": user,
        "messageId": f"{user}-{number}",
        "timestamp": at.isoformat(),
        "properties": properties,
    }


def product(category: str, price: float, quantity: int) -> dict[str, Any]:
    return {"product_id": f"{category}-{price}", "category": category, "price": price, "quantity": quantity}


async def create(catalogue: Any, key: str, definition: features_pb2.Feature) -> pb.Trait:
    request = pb.CreateTraitRequest(key=key, definition=definition, owner="team-cellar", purpose="marketing")
    return (await catalogue.CreateTrait(request, timeout=60)).trait


async def values(catalogue: Any, ref: str) -> dict[str, tuple[int, Any]]:
    answer = await catalogue.ComputeTraits(pb.ComputeTraitsRequest(ref=ref))
    return {each.key: (each.version, getattr(each.value, each.value.WhichOneof("value") or "status")) for each in answer.values}


async def test_a_trait_is_there_for_everybody_at_once_and_follows_their_events(profiles: Profiles, catalogue: Any) -> None:
    await profiles.take(order("ada", 1, product("wine", 7.5, 2), product("bread", 2, 1)), order("bob", 1))
    trait = await create(catalogue, "wine_spend", SPENT)
    assert (trait.version, trait.status, trait.definition.name) == (1, pb.TRAIT_STATUS_ACTIVE, "wine_spend")
    await create(catalogue, "wine_share", SHARE)
    assert await values(catalogue, "user_id:ada") == {"wine_share": (1, 0.5), "wine_spend": (1, "15.00")}
    assert (await values(catalogue, "user_id:bob"))["wine_spend"] == (1, "0.00")
    await profiles.take(order("ada", 2, product("wine", 5, 1)))
    assert (await values(catalogue, "user_id:ada"))["wine_spend"] == (1, "20.00")


async def test_a_new_version_takes_the_place_of_the_one_before(profiles: Profiles, catalogue: Any) -> None:
    await profiles.take(order("ada", 1, product("wine", 7.5, 2)), order("ada", 2, product("wine", 1, 1), days=200))
    await create(catalogue, "wine_spend", SPENT)
    recent = features_pb2.Feature()
    recent.CopyFrom(SPENT)
    recent.window_days = 90
    changed = await catalogue.UpdateTrait(pb.UpdateTraitRequest(key="wine_spend", definition=recent), timeout=60)
    assert (changed.trait.version, changed.trait.owner) == (2, "team-cellar")
    assert await values(catalogue, "user_id:ada") == {"wine_spend": (2, "15.00")}
    got = await catalogue.GetTrait(pb.GetTraitRequest(key="wine_spend"))
    assert [(each.version, each.status) for each in got.versions] == [
        (2, pb.TRAIT_STATUS_ACTIVE),
        (1, pb.TRAIT_STATUS_RETIRED),
    ]
    await catalogue.DeleteTrait(pb.DeleteTraitRequest(key="wine_spend"), timeout=60)
    await catalogue.DeleteTrait(pb.DeleteTraitRequest(key="wine_spend"), timeout=60)
    assert await values(catalogue, "user_id:ada") == {}
    with pytest.raises(NotFound):
        await catalogue.GetTrait(pb.GetTraitRequest(key="wine_spend"))
    again = await create(catalogue, "wine_spend", SPENT)
    assert again.version == 3


@pytest.mark.parametrize(
    ("key", "definition", "field"),
    [
        ("Wine", SPENT, "key"),
        ("wine", features_pb2.Feature(), "definition.aggregation"),
        ("wine", features_pb2.Feature(aggregation=features_pb2.AGGREGATION_SUM), "definition.value"),
        ("wine", features_pb2.Feature(aggregation=features_pb2.AGGREGATION_COUNT, window_days=-1), "definition.window_days"),
        (
            "wine",
            features_pb2.Feature(
                aggregation=features_pb2.AGGREGATION_LAST, events=ORDERS, value=features_pb2.Value(text="email")
            ),
            "definition.value",
        ),
    ],
)
async def test_a_wrong_definition_is_refused_by_its_field(
    catalogue: Any, key: str, definition: features_pb2.Feature, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await create(catalogue, key, definition)
    assert refusal.value.field == field
    assert list((await catalogue.ListTraits(pb.ListTraitsRequest())).traits) == []


async def test_a_trait_of_what_the_plan_declares_personal_is_refused(profiles: Profiles, catalogue: Any) -> None:
    declared = {"properties": {"products": {"x-field-class": "personal"}, "total": {"x-field-class": "personal"}}}
    document = {"events": {"Order Completed": {"schema": declared}}}
    await profiles.parts.plans.put(context.tenant(), json.dumps(document).encode())
    total = features_pb2.Feature(
        aggregation=features_pb2.AGGREGATION_SUM, events=ORDERS, value=features_pb2.Value(number="total")
    )
    with pytest.raises(InvalidArgument, match="total is personal") as refusal:
        await create(catalogue, "spent", total)
    assert refusal.value.field == "definition.value"
    total.events.names.append("Order Paid")  # which is open
    assert (await create(catalogue, "spent", total)).version == 1


async def test_a_key_is_taken_once_and_never_a_features_name(catalogue: Any) -> None:
    await create(catalogue, "wine_spend", SPENT)
    for key in ("wine_spend", "orders_count", "favourite_category"):
        with pytest.raises(Conflict) as refusal:
            await create(catalogue, key, SPENT)
        assert refusal.value.field == "key"


@pytest.mark.parametrize("key", ["", "wine", "Wine", "\x00", "a\x00b"])
async def test_a_key_that_no_trait_has_is_not_found(catalogue: Any, key: str) -> None:
    with pytest.raises(NotFound):
        await catalogue.GetTrait(pb.GetTraitRequest(key=key))
    with pytest.raises(NotFound):
        await catalogue.DeleteTrait(pb.DeleteTraitRequest(key=key), timeout=60)


async def test_another_tenant_sees_no_trait(profiles: Profiles, catalogue: Any) -> None:
    await profiles.take(order("ada", 1, product("wine", 7.5, 2)))
    await create(catalogue, "wine_spend", SPENT)
    other = f"{context.tenant()}x"
    with context.use(tenant=other, request_id="r", actor="test"):
        await profiles.create()
        await profiles.take(order("ada", 9))
        assert list((await catalogue.ListTraits(pb.ListTraitsRequest())).traits) == []
        assert await values(catalogue, "user_id:ada") == {}
        with pytest.raises(NotFound):
            await catalogue.GetTrait(pb.GetTraitRequest(key="wine_spend"))


async def test_every_feature_of_every_set_is_computed_by_name(profiles: Profiles, catalogue: Any) -> None:
    await profiles.take(order("ada", 1, product("wine", 7.5, 2)), order("ada", 2, product("bread", 2, 1), days=3))
    listed = await catalogue.ListFeatureSets(pb.ListFeatureSetsRequest())
    names = [feature.name for each in listed.sets for feature in each.features]
    assert names == [feature.name for feature in shipped.EVERY]
    request = profiles_pb2.ComputeFeaturesRequest(refs=["user_id:ada", "user_id:nobody"], features=names)
    answer = await profiles.stub.ComputeFeatures(request)
    found = dict(zip(answer.features, answer.rows[0].values, strict=True))
    assert found["orders_count"].number == 2
    assert found["spend_on_items_total"].decimal == "17.00"
    assert found["categories_count"].number == 2
    assert found["last_category"].text == "wine"
    assert found["average_order_value"].number == 11.5
    assert {value.status for value in answer.rows[1].values} == {features_pb2.FEATURE_STATUS_NOT_FOUND}


async def test_lineage_says_what_a_feature_is_made_of_and_what_an_event_makes(catalogue: Any) -> None:
    await create(catalogue, "wine_spend", SPENT)
    [trait] = (await catalogue.GetLineage(pb.GetLineageRequest(feature="wine_spend"))).lineages
    assert (trait.kind, trait.version, trait.owner, trait.purpose) == ("trait", 1, "team-cellar", "marketing")
    assert (list(trait.events), list(trait.properties)) == (
        ["Order Completed"],
        ["products.category", "products.price", "products.quantity"],
    )
    [feature] = (await catalogue.GetLineage(pb.GetLineageRequest(feature="refund_share"))).lineages
    assert (feature.set, list(feature.events)) == ("purchases", ["Order Completed", "Order Refunded"])
    made = {each.name for each in (await catalogue.GetLineage(pb.GetLineageRequest(event="Order Refunded"))).lineages}
    assert {"refunds_total", "refund_share", "browser_share"} <= made
    assert not {"wine_spend", "orders_count"} & made
    with pytest.raises(NotFound) as refusal:
        await catalogue.GetLineage(pb.GetLineageRequest(feature="shoe_size"))
    assert refusal.value.reason is Reason.UNKNOWN_FEATURE


async def test_features_are_described_and_correlated(profiles: Profiles, catalogue: Any) -> None:
    calls = [
        order(f"u{user}", number, product("wine", 1, 1), days=user) for user in range(31) for number in range(user % 3 + 1)
    ]
    await profiles.take(*calls)
    features = ["orders_count", "days_since_last_order", "favourite_category", "days_since_last_refund"]
    answer = await catalogue.DescribeFeatures(pb.DescribeFeaturesRequest(features=features, everybody=True), timeout=60)
    assert answer.profile_count == 31
    orders, days, category, refund = answer.descriptions
    assert (orders.count, orders.missing_count, round(orders.mean, 9)) == (31, 0, round(61 / 31, 9))
    assert [each.value for each in orders.quantiles] == [1, 1, 2, 3, 3]
    assert days.maximum > 29
    assert [(each.text, each.count) for each in category.categories] == [("wine", 31)]
    assert (refund.count, refund.missing_count, refund.HasField("mean")) == (0, 31, False)
    asked = pb.CorrelateFeaturesRequest(
        features=["days_since_last_order", "days_since_first_order", "refunds_count"], everybody=True
    )
    found = await catalogue.CorrelateFeatures(asked, timeout=60)
    pearson = {(each.left, each.right): each for each in found.correlations if each.method == pb.CORRELATION_METHOD_PEARSON}
    assert pearson["days_since_last_order", "days_since_first_order"].coefficient > 0.99
    assert pearson["days_since_last_order", "refunds_count"].absent == "CONSTANT"
    one = (await profiles.resolve("user_id:u1"))[0]
    few = await catalogue.CorrelateFeatures(pb.CorrelateFeaturesRequest(features=features[:2], profile_ids=[one]), timeout=60)
    assert {(each.n, each.absent) for each in few.correlations} == {(1, "NOT_ENOUGH_DATA")}
    with pytest.raises(InvalidArgument) as refusal:
        await catalogue.CorrelateFeatures(pb.CorrelateFeaturesRequest(features=features, everybody=True))
    assert refusal.value.field == "features[2]"
