"""The features that the platform serves: those of the churn model, in the order in which it reads them, and further sets."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rapport.features.v1 import features_pb2 as pb

from ml.features.assortment import ASSORTMENT
from ml.features.engagement import ENGAGEMENT
from ml.features.purchases import PURCHASES

_ORDERS: Final = pb.EventFilter(type="track", names=["Order Completed"])
_REFUNDS: Final = pb.EventFilter(type="track", names=["Order Refunded"])
_TICKETS: Final = pb.EventFilter(type="track", names=["Ticket Opened"])
_ACTIVITY: Final = pb.EventFilter(
    any_of=[
        pb.EventFilter(type="track", names=["Order Completed", "Product Viewed", "Product Added"]),
        pb.EventFilter(type="page"),
    ]
)
_ORDER_ID: Final = pb.Value(text="order_id")

# Orders are counted by their id, not by event: a large invoice comes as several events of one order.
FEATURES: Final[tuple[pb.Feature, ...]] = (
    pb.Feature(
        name="orders_count",
        description="Orders so far.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_COUNT_DISTINCT,
        value=_ORDER_ID,
        unit="orders",
    ),
    pb.Feature(
        name="orders_90d",
        description="Orders in the last 90 days.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_COUNT_DISTINCT,
        value=_ORDER_ID,
        window_days=90,
        unit="orders",
    ),
    pb.Feature(
        name="revenue_total",
        description="Revenue of all orders so far, before refunds.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_SUM,
        value=pb.Value(number="revenue"),
        unit="currency",
    ),
    pb.Feature(
        name="revenue_90d",
        description="Revenue of the orders in the last 90 days, before refunds.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_SUM,
        value=pb.Value(number="revenue"),
        window_days=90,
        unit="currency",
    ),
    pb.Feature(
        name="refunds_total",
        description="Money given back so far.",
        events=_REFUNDS,
        aggregation=pb.AGGREGATION_SUM,
        value=pb.Value(number="total"),
        unit="currency",
    ),
    pb.Feature(
        name="days_since_last_order",
        description="Days from the newest order to now.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_DAYS_SINCE_LAST,
        unit="days",
    ),
    pb.Feature(
        name="days_since_first_order",
        description="Days from the oldest order to now.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_DAYS_SINCE_FIRST,
        unit="days",
    ),
    pb.Feature(
        name="mean_order_interval_days",
        description="Mean time between days with an order.",
        events=_ORDERS,
        aggregation=pb.AGGREGATION_MEAN_INTERVAL_DAYS,
        unit="days",
    ),
    pb.Feature(
        name="active_days_90d",
        description="Days with an order, a product viewed, a product added or a page, in the last 90 days.",
        events=_ACTIVITY,
        aggregation=pb.AGGREGATION_ACTIVE_DAYS,
        window_days=90,
        unit="days",
    ),
    pb.Feature(
        name="tickets_90d",
        description="Tickets opened in the last 90 days.",
        events=_TICKETS,
        aggregation=pb.AGGREGATION_COUNT,
        window_days=90,
        unit="tickets",
    ),
)

NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)

# By name; a set is one query, so who asks for a feature pays for its set and for no other. A model names the set that it was
# trained on by its digest; the other sets grow without touching it.
SETS: Final[Mapping[str, tuple[pb.Feature, ...]]] = MappingProxyType(
    {"churn": FEATURES, "purchases": PURCHASES, "engagement": ENGAGEMENT, "assortment": ASSORTMENT}
)
EVERY: Final[tuple[pb.Feature, ...]] = tuple(feature for features in SETS.values() for feature in features)
SET_OF: Final[Mapping[str, str]] = MappingProxyType(
    {feature.name: name for name, features in SETS.items() for feature in features}
)
