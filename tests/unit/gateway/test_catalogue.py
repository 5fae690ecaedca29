"""Definitions as JSON, and who uses what."""

from typing import Any

import pytest
from rapport.features.v1 import features_pb2
from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis.errors import InvalidArgument
from services.gateway.api.catalogue import definition_message, definition_shown, using_segments

DEFINITION = {
    "description": "Spent on wine.",
    "aggregation": "ratio",
    "unit": "1",
    "parts": [
        {
            "aggregation": "sum",
            "events": {"type": "track", "names": ["Order Completed"], "channels": ["browser"]},
            "value": {"number": "price", "times": "quantity"},
            "elements": {"property": "products", "where": [{"property": "category", "texts": ["wine"]}]},
            "windowDays": 90,
            "since": "2024-01-01T00:00:00Z",
        },
        {"aggregation": "count_distinct", "value": {"field": "channel"}},
    ],
}


def test_a_definition_goes_in_and_comes_out_as_it_was() -> None:
    message = definition_message(DEFINITION)
    assert message.parts[0].aggregation == features_pb2.AGGREGATION_SUM
    assert message.parts[1].value.field == features_pb2.EVENT_FIELD_CHANNEL
    assert definition_shown(message) == DEFINITION


@pytest.mark.parametrize(
    "definition",
    [
        {"aggregation": "total"},
        {"aggregation": "sum", "colour": "red"},
        {"windowDays": "soon"},
        {"windowDays": 1e99},
        {"events": 5},
        {"value": {"number": "a", "text": "b"}},
        {"parts": [{"parts": [{"parts": 5}]}]},
        {"since": "yesterday"},
        {"aggregation": ["sum"]},
    ],
)
def test_what_is_no_definition_is_refused_by_field(definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        definition_message(definition)
    assert refusal.value.field == "definition"


def condition(**fields: Any) -> pb.Condition:
    return pb.Condition(**fields)


def test_segments_use_a_feature_directly_or_through_others() -> None:
    reads = condition(comparison=pb.Comparison(feature="orders_90d"))
    other = condition(comparison=pb.Comparison(trait="plan"))
    segments = [
        pb.Segment(key="loyal", version=2, condition=condition(all_of=pb.AllOf(conditions=[other, reads]))),
        pb.Segment(key="loyal_and_more", version=1, condition=condition(in_segment="loyal")),
        pb.Segment(
            key="third_hand",
            version=1,
            condition=condition(**{"not": pb.Not(condition=condition(in_segment="loyal_and_more"))}),
        ),
        pb.Segment(key="others", version=1, condition=other),
        pb.Segment(key="champions", version=1, family="rfm"),
    ]
    found = using_segments("orders_90d", segments)
    assert [(each.key, each.version, each.directly) for each in found] == [
        ("loyal", 2, True),
        ("loyal_and_more", 1, False),
        ("third_hand", 1, False),
    ]
