"""What is in the orders: products and categories, by line."""

from typing import Final

from rapport.features.v1 import features_pb2 as pb

from ml.features.declare import (
    LARGE,
    ORDERS,
    PRODUCTS,
    SPENT,
    aggregate,
    named,
    orders,
    ratio,
)

ASSORTMENT: Final[tuple[pb.Feature, ...]] = (
    named("items_count", "lines", "Lines of all orders.", aggregate(pb.AGGREGATION_COUNT, ORDERS, elements=PRODUCTS)),
    named(
        "units_total",
        "units",
        "Units of all orders.",
        aggregate(pb.AGGREGATION_SUM, ORDERS, pb.Value(number="quantity"), elements=PRODUCTS),
    ),
    named(
        "spend_on_items_total",
        "currency",
        "Price times quantity of all lines.",
        aggregate(pb.AGGREGATION_SUM, ORDERS, SPENT, elements=PRODUCTS),
    ),
    named(
        "spend_on_items_90d",
        "currency",
        "Price times quantity of the lines of the last 90 days.",
        aggregate(pb.AGGREGATION_SUM, ORDERS, SPENT, 90, PRODUCTS),
    ),
    named(
        "products_count",
        "products",
        "Different products bought.",
        aggregate(pb.AGGREGATION_COUNT_DISTINCT, ORDERS, pb.Value(text="product_id"), elements=PRODUCTS),
    ),
    named(
        "categories_count",
        "categories",
        "Different categories bought from.",
        aggregate(pb.AGGREGATION_COUNT_DISTINCT, ORDERS, pb.Value(text="category"), elements=PRODUCTS),
    ),
    named(
        "favourite_category",
        "",
        "The category of most lines.",
        aggregate(pb.AGGREGATION_MOST_FREQUENT, ORDERS, pb.Value(text="category"), elements=PRODUCTS),
    ),
    named(
        "favourite_product",
        "",
        "The product of most lines.",
        aggregate(pb.AGGREGATION_MOST_FREQUENT, ORDERS, pb.Value(text="product_id"), elements=PRODUCTS),
    ),
    named(
        "first_category",
        "",
        "A category of the first order.",
        aggregate(pb.AGGREGATION_FIRST, ORDERS, pb.Value(text="category"), elements=PRODUCTS),
    ),
    named(
        "last_category",
        "",
        "A category of the newest order.",
        aggregate(pb.AGGREGATION_LAST, ORDERS, pb.Value(text="category"), elements=PRODUCTS),
    ),
    named(
        "median_item_price",
        "currency",
        "Median price of a line.",
        aggregate(pb.AGGREGATION_MEDIAN, ORDERS, pb.Value(number="price"), elements=PRODUCTS),
    ),
    named(
        "mean_item_price",
        "currency",
        "Mean price of a line.",
        aggregate(pb.AGGREGATION_MEAN, ORDERS, pb.Value(number="price"), elements=PRODUCTS),
    ),
    named(
        "highest_item_price",
        "currency",
        "The dearest line.",
        aggregate(pb.AGGREGATION_MAX, ORDERS, pb.Value(number="price"), elements=PRODUCTS),
    ),
    ratio(
        "items_per_order",
        "Lines for each order.",
        aggregate(pb.AGGREGATION_COUNT, ORDERS, elements=PRODUCTS),
        orders(),
        "lines",
    ),
    ratio(
        "product_variety",
        "Different products to lines; 1 is never the same.",
        aggregate(pb.AGGREGATION_COUNT_DISTINCT, ORDERS, pb.Value(text="product_id"), elements=PRODUCTS),
        aggregate(pb.AGGREGATION_COUNT, ORDERS, elements=PRODUCTS),
    ),
    ratio(
        "multiple_unit_share",
        "Share of the lines with more than one unit.",
        aggregate(pb.AGGREGATION_COUNT, ORDERS, elements=LARGE),
        aggregate(pb.AGGREGATION_COUNT, ORDERS, elements=PRODUCTS),
    ),
    named(
        "days_since_last_multiple_unit",
        "days",
        "Days from the newest line with more than one unit.",
        aggregate(pb.AGGREGATION_DAYS_SINCE_LAST, ORDERS, elements=LARGE),
    ),
)
