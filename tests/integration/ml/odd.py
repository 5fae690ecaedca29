"""Definitions that the catalogue leaves out: every aggregation, window and filter, and names that need quoting."""

from datetime import UTC, datetime, timedelta

from rapport.features.v1 import features_pb2 as pb

from tests.integration.ml.timelines import START

_ORDERS = pb.EventFilter(type="track", names=["Order Completed"])
_REVENUE = pb.Value(number="revenue")
_CITY = pb.Value(text="city")
_PRODUCTS = pb.Elements(property="products")


def _fixed(**fields: object) -> pb.Feature:
    feature = pb.Feature(aggregation=pb.AGGREGATION_COUNT, **fields)  # type: ignore[arg-type]
    feature.since.FromDatetime(START + timedelta(days=30))
    feature.until.FromDatetime(datetime(2024, 7, 1, 12, 30, tzinfo=UTC))
    return feature


def _where(**fields: object) -> pb.EventFilter:
    return pb.EventFilter(where=[pb.PropertyFilter(**fields)])  # type: ignore[arg-type]


def _elements(**fields: object) -> pb.Elements:
    return pb.Elements(property="products", where=[pb.PropertyFilter(**fields)])  # type: ignore[arg-type]


ODD = (
    pb.Feature(name="events_count", aggregation=pb.AGGREGATION_COUNT),
    pb.Feature(name="events_30d", aggregation=pb.AGGREGATION_COUNT, window_days=30),
    pb.Feature(name="revenue_mean", events=_ORDERS, aggregation=pb.AGGREGATION_MEAN, value=_REVENUE),
    pb.Feature(name="revenue_min_30d", events=_ORDERS, aggregation=pb.AGGREGATION_MIN, value=_REVENUE, window_days=30),
    pb.Feature(name="revenue_max", aggregation=pb.AGGREGATION_MAX, value=_REVENUE),
    pb.Feature(name="revenue_median", aggregation=pb.AGGREGATION_MEDIAN, value=_REVENUE),
    pb.Feature(name="amounts", aggregation=pb.AGGREGATION_COUNT_DISTINCT, value=_REVENUE),
    pb.Feature(name="last_city", aggregation=pb.AGGREGATION_LAST, value=_CITY),
    pb.Feature(name="last_city_30d", aggregation=pb.AGGREGATION_LAST, value=_CITY, window_days=30),
    pb.Feature(name="first_city", aggregation=pb.AGGREGATION_FIRST, value=_CITY),
    pb.Feature(name="usual_city", aggregation=pb.AGGREGATION_MOST_FREQUENT, value=_CITY),
    pb.Feature(name="usual_city_before_30d", aggregation=pb.AGGREGATION_MOST_FREQUENT, value=_CITY, offset_days=30),
    pb.Feature(name="odd", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="it's $.odd/key")),
    pb.Feature(name="names", aggregation=pb.AGGREGATION_COUNT_DISTINCT, value=pb.Value(field=pb.EVENT_FIELD_NAME)),
    pb.Feature(name="usual_name", aggregation=pb.AGGREGATION_MOST_FREQUENT, value=pb.Value(field=pb.EVENT_FIELD_NAME)),
    pb.Feature(name="page_days", events=pb.EventFilter(type="page"), aggregation=pb.AGGREGATION_ACTIVE_DAYS),
    pb.Feature(name="sessions_all", aggregation=pb.AGGREGATION_SESSIONS),
    pb.Feature(name="gap_median", aggregation=pb.AGGREGATION_MEDIAN_INTERVAL_DAYS, window_days=90),
    pb.Feature(name="gap_std", aggregation=pb.AGGREGATION_STD_INTERVAL_DAYS),
    pb.Feature(name="gap_mean", aggregation=pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS, offset_days=7, window_days=60),
    _fixed(name="events_in_spring"),
    _fixed(name="orders_in_spring_by_browser", events=pb.EventFilter(names=["Order Completed"], channels=["browser", "Ähren"])),
    pb.Feature(
        name="in_cities", events=_where(property="city", texts=["Zürich", "a", "it's"]), aggregation=pb.AGGREGATION_COUNT
    ),
    pb.Feature(
        name="of_some_revenue",
        events=_where(property="revenue", at_least="0.000000001", below="12.5"),
        aggregation=pb.AGGREGATION_COUNT,
    ),
    pb.Feature(
        name="either_way",
        events=pb.EventFilter(any_of=[_where(property="city", texts=["B"]), pb.EventFilter(channels=["server"])]),
        aggregation=pb.AGGREGATION_ACTIVE_DAYS,
    ),
    pb.Feature(name="elements_count", aggregation=pb.AGGREGATION_COUNT, elements=_PRODUCTS),
    pb.Feature(
        name="spent_on_b",
        aggregation=pb.AGGREGATION_SUM,
        value=pb.Value(number="price", times="quantity"),
        elements=_elements(property="category", texts=["B", "Zürich", "HOME"]),
    ),
    pb.Feature(name="prices", aggregation=pb.AGGREGATION_SUM, value=pb.Value(number="price"), elements=_PRODUCTS),
    pb.Feature(name="dearest", aggregation=pb.AGGREGATION_MAX, value=pb.Value(number="price"), elements=_PRODUCTS),
    pb.Feature(
        name="cheap_ones",
        aggregation=pb.AGGREGATION_COUNT,
        elements=_elements(property="price", below="3.5"),
        events=_ORDERS,
        window_days=90,
    ),
    pb.Feature(
        name="last_product_in_city",
        events=_where(property="city", texts=["a", "B", "_"]),
        aggregation=pb.AGGREGATION_LAST,
        value=pb.Value(text="product_id"),
        elements=_PRODUCTS,
    ),
    pb.Feature(
        name="channel_of_elements",
        aggregation=pb.AGGREGATION_MOST_FREQUENT,
        value=pb.Value(field=pb.EVENT_FIELD_CHANNEL),
        elements=_PRODUCTS,
    ),
    pb.Feature(
        name="days_of_elements", aggregation=pb.AGGREGATION_ACTIVE_DAYS, elements=_elements(property="quantity", at_least="1")
    ),
    pb.Feature(
        name="share_of_b",
        aggregation=pb.AGGREGATION_RATIO,
        parts=[
            pb.Feature(aggregation=pb.AGGREGATION_COUNT, elements=_elements(property="category", texts=["B"])),
            pb.Feature(aggregation=pb.AGGREGATION_COUNT, elements=_PRODUCTS),
        ],
    ),
)
