"""RFM, customer lifetime value and the rhythm of buying: how often, how much, how regularly, and whether it changes."""

from typing import Final

from rapport.features.v1 import features_pb2 as pb

from ml.features.declare import (
    ORDERS,
    REFUNDS,
    REVENUE,
    aggregate,
    count_of,
    difference,
    named,
    orders,
    ratio,
    revenue,
)

_TOTAL_REFUNDS: Final = aggregate(pb.AGGREGATION_SUM, REFUNDS, pb.Value(number="total"))

PURCHASES: Final[tuple[pb.Feature, ...]] = (
    named("orders_30d", "orders", "Orders in the last 30 days.", orders(30)),
    named("orders_365d", "orders", "Orders in the last 365 days.", orders(365)),
    named("orders_previous_90d", "orders", "Orders in the 90 days before the last 90.", orders(90, 90)),
    named("revenue_30d", "currency", "Revenue of the last 30 days, before refunds.", revenue(30)),
    named("revenue_365d", "currency", "Revenue of the last 365 days, before refunds.", revenue(365)),
    named("revenue_previous_90d", "currency", "Revenue of the 90 days before the last 90.", revenue(90, 90)),
    named("largest_order", "currency", "The largest order.", aggregate(pb.AGGREGATION_MAX, ORDERS, REVENUE)),
    named("smallest_order", "currency", "The smallest order.", aggregate(pb.AGGREGATION_MIN, ORDERS, REVENUE)),
    named("median_order_value", "currency", "Median order.", aggregate(pb.AGGREGATION_MEDIAN, ORDERS, REVENUE)),
    ratio("average_order_value", "Revenue for each order.", revenue(), orders(), "currency"),
    ratio("average_order_value_90d", "Revenue for each order of the last 90 days.", revenue(90), orders(90), "currency"),
    ratio("order_trend_90d", "Orders of the last 90 days to those of the 90 before; 1 is steady.", orders(90), orders(90, 90)),
    ratio("revenue_trend_90d", "Revenue of the last 90 days to that of the 90 before.", revenue(90), revenue(90, 90)),
    difference(
        "order_change_90d", "orders", "Orders of the last 90 days less those of the 90 before.", orders(90), orders(90, 90)
    ),
    difference("net_revenue", "currency", "Revenue less what was given back.", revenue(), _TOTAL_REFUNDS),
    ratio("refund_share", "Money given back to revenue.", _TOTAL_REFUNDS, revenue()),
    named("refunds_count", "refunds", "Refunds so far.", count_of(REFUNDS)),
    named(
        "days_since_last_refund",
        "days",
        "Days from the newest refund to now.",
        aggregate(pb.AGGREGATION_DAYS_SINCE_LAST, REFUNDS),
    ),
    named(
        "median_order_interval_days",
        "days",
        "Median time between orders.",
        aggregate(pb.AGGREGATION_MEDIAN_INTERVAL_DAYS, ORDERS),
    ),
    named(
        "std_order_interval_days",
        "days",
        "Standard deviation of the time between orders.",
        aggregate(pb.AGGREGATION_STD_INTERVAL_DAYS, ORDERS),
    ),
    named(
        "mean_order_event_interval_days",
        "days",
        "Mean time between orders, those of one day too.",
        aggregate(pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS, ORDERS),
    ),
    named(
        "order_days_365d",
        "days",
        "Days with an order in the last 365.",
        aggregate(pb.AGGREGATION_ACTIVE_DAYS, ORDERS, days=365),
    ),
)
