"""What the timeline keeps of an event."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rapport.profiles.v1 import event_pb2

from services.profiles.jsontext import dumps
from services.profiles.timeline import is_fact, timeline_row

NODE = "7d444840-9dc0-81d1-b245-5ffdce74fad2"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _parts(properties: dict[str, Any]) -> tuple[Any, Any, Any]:
    row = timeline_row(event_pb2.Event(node_id=NODE, properties=dumps(properties)))
    assert row is not None
    return json.loads(row.numbers), json.loads(row.texts), json.loads(row.rest)


def test_properties_are_kept_by_what_they_are() -> None:
    numbers, texts, rest = _parts(
        {"revenue": 12.50, "n": 3, "gift": True, "order_id": "o1", "products": [{"price": 1}], "none": None, "huge": 1e300}
    )
    assert numbers == {"revenue": 12.5, "n": 3, "gift": 1}
    assert texts == {"order_id": "o1"}
    assert rest == {"gift": True, "products": [{"price": 1}], "none": None, "huge": 1e300}


def test_numbers_are_written_without_exponent_so_that_every_engine_reads_the_same_text() -> None:
    row = timeline_row(event_pb2.Event(node_id=NODE, properties=b'{"a":1e22,"b":1e-7,"c":12.0,"d":99999999999999999999}'))
    assert row is not None
    assert row.numbers == '{"a":10000000000000000000000,"b":0.0000001,"c":12,"d":99999999999999999999}'


def test_what_concerns_nobody_is_on_no_timeline() -> None:
    assert timeline_row(event_pb2.Event(source="rapport.evaluation", name="Model Promoted")) is None


def test_a_fact_is_known_by_its_source() -> None:
    assert is_fact(event_pb2.Event(source="rapport.scoring"))
    assert not is_fact(event_pb2.Event(source="web"))


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_nothing_of_the_properties_is_lost(properties: dict[str, Any]) -> None:
    numbers, texts, rest = _parts(properties)
    assert numbers.keys() | texts.keys() | rest.keys() == properties.keys()
    for key, value in properties.items():
        if key in rest:
            assert rest[key] == value
        elif key in texts:
            assert texts[key] == value
        else:
            assert abs(numbers[key] - value) <= max(1e-9, abs(value) * 1e-9)
