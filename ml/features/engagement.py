"""Visits, views, channels and tickets: what customers do besides buying."""

from typing import Final

from rapport.features.v1 import features_pb2 as pb

from ml.features.declare import (
    BROWSER,
    CARTS,
    TICKETS,
    VIEWS,
    VISITS,
    aggregate,
    count_of,
    named,
    orders,
    ratio,
)

ENGAGEMENT: Final[tuple[pb.Feature, ...]] = (
    named(
        "sessions_30d",
        "sessions",
        "Visits in the last 30 days; 30 quiet minutes end one.",
        aggregate(pb.AGGREGATION_SESSIONS, VISITS, days=30),
    ),
    named("sessions_90d", "sessions", "Visits in the last 90 days.", aggregate(pb.AGGREGATION_SESSIONS, VISITS, days=90)),
    named("sessions_count", "sessions", "Visits so far.", aggregate(pb.AGGREGATION_SESSIONS, VISITS)),
    ratio(
        "events_per_session_90d",
        "What is looked at in a visit.",
        count_of(VISITS, 90),
        aggregate(pb.AGGREGATION_SESSIONS, VISITS, days=90),
        "events",
    ),
    named(
        "median_visit_interval_days",
        "days",
        "Median time between what is looked at.",
        aggregate(pb.AGGREGATION_MEDIAN_INTERVAL_DAYS, VISITS),
    ),
    named(
        "days_since_last_visit", "days", "Days from the newest visit to now.", aggregate(pb.AGGREGATION_DAYS_SINCE_LAST, VISITS)
    ),
    named(
        "days_since_first_visit",
        "days",
        "Days from the oldest visit to now.",
        aggregate(pb.AGGREGATION_DAYS_SINCE_FIRST, VISITS),
    ),
    named(
        "active_days_30d", "days", "Days with a visit in the last 30.", aggregate(pb.AGGREGATION_ACTIVE_DAYS, VISITS, days=30)
    ),
    named(
        "active_days_365d",
        "days",
        "Days with a visit in the last 365.",
        aggregate(pb.AGGREGATION_ACTIVE_DAYS, VISITS, days=365),
    ),
    named("product_views_30d", "views", "Products looked at in the last 30 days.", count_of(VIEWS, 30)),
    named("product_views_90d", "views", "Products looked at in the last 90 days.", count_of(VIEWS, 90)),
    named(
        "products_viewed_90d",
        "products",
        "Different products looked at in the last 90 days.",
        aggregate(pb.AGGREGATION_COUNT_DISTINCT, VIEWS, pb.Value(text="product_id"), 90),
    ),
    named("cart_additions_90d", "products", "Products put into the cart in the last 90 days.", count_of(CARTS, 90)),
    named("page_views_30d", "pages", "Pages in the last 30 days.", count_of(pb.EventFilter(type="page"), 30)),
    ratio(
        "cart_to_view_ratio_90d", "Products put into the cart for each one looked at.", count_of(CARTS, 90), count_of(VIEWS, 90)
    ),
    ratio("order_to_view_ratio_90d", "Orders for each product looked at.", orders(90), count_of(VIEWS, 90)),
    ratio(
        "visit_trend_30d",
        "What is looked at in the last 30 days to the 30 before.",
        count_of(VISITS, 30),
        count_of(VISITS, 30, 30),
    ),
    named(
        "most_viewed_category_90d",
        "",
        "The category that was looked at most.",
        aggregate(pb.AGGREGATION_MOST_FREQUENT, VIEWS, pb.Value(text="category"), 90),
    ),
    named(
        "last_viewed_category",
        "",
        "The category that was looked at last.",
        aggregate(pb.AGGREGATION_LAST, VIEWS, pb.Value(text="category")),
    ),
    named(
        "preferred_channel",
        "",
        "The channel that most events come from.",
        aggregate(pb.AGGREGATION_MOST_FREQUENT, None, pb.Value(field=pb.EVENT_FIELD_CHANNEL)),
    ),
    named(
        "first_channel",
        "",
        "The channel of the first event.",
        aggregate(pb.AGGREGATION_FIRST, None, pb.Value(field=pb.EVENT_FIELD_CHANNEL)),
    ),
    named(
        "last_channel",
        "",
        "The channel of the newest event.",
        aggregate(pb.AGGREGATION_LAST, None, pb.Value(field=pb.EVENT_FIELD_CHANNEL)),
    ),
    named(
        "channels_count",
        "channels",
        "Different channels.",
        aggregate(pb.AGGREGATION_COUNT_DISTINCT, None, pb.Value(field=pb.EVENT_FIELD_CHANNEL)),
    ),
    ratio(
        "browser_share",
        "Share of the events that come from a browser.",
        count_of(BROWSER),
        aggregate(pb.AGGREGATION_COUNT, None),
    ),
    named("tickets_count", "tickets", "Tickets so far.", count_of(TICKETS)),
    named(
        "last_ticket_topic",
        "",
        "What the newest ticket is about.",
        aggregate(pb.AGGREGATION_LAST, TICKETS, pb.Value(text="topic")),
    ),
    named(
        "days_since_last_ticket",
        "days",
        "Days from the newest ticket to now.",
        aggregate(pb.AGGREGATION_DAYS_SINCE_LAST, TICKETS),
    ),
    ratio("tickets_per_order", "Tickets for each order.", count_of(TICKETS), orders()),
)
