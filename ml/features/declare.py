"""Short words for the definitions of the sets."""

from typing import Final

from rapport.features.v1 import features_pb2 as pb

ORDERS: Final = pb.EventFilter(type="track", names=["Order Completed"])
REFUNDS: Final = pb.EventFilter(type="track", names=["Order Refunded"])
VIEWS: Final = pb.EventFilter(type="track", names=["Product Viewed"])
CARTS: Final = pb.EventFilter(type="track", names=["Product Added"])
TICKETS: Final = pb.EventFilter(type="track", names=["Ticket Opened"])
VISITS: Final = pb.EventFilter(
    any_of=[pb.EventFilter(type="track", names=["Product Viewed", "Product Added"]), pb.EventFilter(type="page")]
)
BROWSER: Final = pb.EventFilter(channels=["browser"])
REVENUE: Final = pb.Value(number="revenue")
ORDER_ID: Final = pb.Value(text="order_id")
PRODUCTS: Final = pb.Elements(property="products")
LARGE: Final = pb.Elements(property="products", where=[pb.PropertyFilter(property="quantity", at_least="2")])
SPENT: Final = pb.Value(number="price", times="quantity")


def orders(days: int = 0, before: int = 0) -> pb.Feature:
    """Different orders."""
    return pb.Feature(
        events=ORDERS,
        aggregation=pb.AGGREGATION_COUNT_DISTINCT,
        value=ORDER_ID,
        window_days=days,
        offset_days=before,
    )


def revenue(days: int = 0, before: int = 0) -> pb.Feature:
    """Revenue of orders, before refunds."""
    return pb.Feature(events=ORDERS, aggregation=pb.AGGREGATION_SUM, value=REVENUE, window_days=days, offset_days=before)


def count_of(events: pb.EventFilter, days: int = 0, before: int = 0) -> pb.Feature:
    """Events that pass."""
    return pb.Feature(events=events, aggregation=pb.AGGREGATION_COUNT, window_days=days, offset_days=before)


def aggregate(
    aggregation: pb.Aggregation.ValueType,
    events: pb.EventFilter | None,
    value: pb.Value | None = None,
    days: int = 0,
    elements: pb.Elements | None = None,
) -> pb.Feature:
    """Any other aggregation."""
    return pb.Feature(events=events, aggregation=aggregation, value=value, window_days=days, elements=elements)


def named(name: str, unit: str, description: str, meaning: pb.Feature) -> pb.Feature:
    """A meaning with its name."""
    feature = pb.Feature(name=name, unit=unit, description=description)
    feature.MergeFrom(meaning)
    return feature


def ratio(name: str, description: str, part: pb.Feature, whole: pb.Feature, unit: str = "1") -> pb.Feature:
    """One part to another."""
    return named(name, unit, description, pb.Feature(aggregation=pb.AGGREGATION_RATIO, parts=[part, whole]))


def difference(name: str, unit: str, description: str, left: pb.Feature, right: pb.Feature) -> pb.Feature:
    """One part less another."""
    return named(name, unit, description, pb.Feature(aggregation=pb.AGGREGATION_DIFFERENCE, parts=[left, right]))
