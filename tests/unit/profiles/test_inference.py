"""A first plan out of events: it is a plan, it lets pass what it was made of, and it tells nothing personal."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain import classify
from services.profiles.domain.inference import MAX_ENUM, MIN_SEEN_FOR_ENUM, Seen, draft_of
from services.profiles.domain.plan import plan_of
from services.profiles.judge import Judge, check


def seen(name: str, fields: dict[str, Any], type_: str = "track") -> Seen:
    return Seen(type_, name, fields, classify.split(fields, classify.kind_of(type_, name))[0])


def schema_of(*events: dict[str, Any]) -> dict[str, Any]:
    return draft_of([seen("A", fields) for fields in events])["events"]["A"]["schema"]


def test_what_was_always_there_is_required_and_what_once_was_missing_is_not() -> None:
    events = [{"a": 1, "b": "x"}] * 9 + [{"a": 2.5}]
    schema = schema_of(*events)
    assert schema["required"] == ["a"]
    assert schema["properties"] == {"a": {"type": "number"}, "b": {"type": "string"}}


def test_from_a_few_events_nothing_is_required() -> None:
    assert "required" not in schema_of({"a": 1}, {"a": 2})


def test_types_that_differ_are_all_allowed() -> None:
    assert schema_of({"a": 1}, {"a": "1"}, {"a": None})["properties"]["a"]["type"] == ["integer", "null", "string"]


def test_lists_and_objects_are_told_by_what_is_in_them() -> None:
    schema = schema_of({"products": [{"id": "p", "price": 1.5}, {"id": "q"}]})
    items = {"type": "object", "properties": {"id": {"type": "string"}, "price": {"type": "number"}}}
    assert schema["properties"]["products"] == {"type": "array", "items": items}


def test_few_public_values_are_an_enum_and_personal_ones_never() -> None:
    events = [{"size": "sml"[number % 3], "email": "a@b.c", "note": "x"} for number in range(MIN_SEEN_FOR_ENUM)]
    schema = schema_of(*events)
    assert schema["properties"]["size"]["enum"] == ["l", "m", "s"]
    assert schema["properties"]["email"] == {"type": "string"}
    assert schema["properties"]["note"] == {"type": "string"}
    many = schema_of(*({"size": str(number % (MAX_ENUM + 1))} for number in range(MIN_SEEN_FOR_ENUM)))
    assert "enum" not in many["properties"]["size"]


def test_traits_have_a_rule_of_their_own_and_pages_have_none() -> None:
    document = draft_of([seen("", {"plan": "gold"}, "identify"), seen("Home", {"path": "/"}, "page")])
    assert document["identify"]["schema"]["properties"] == {"plan": {"type": "string"}}
    assert document["events"] == {}


KEYS = st.sampled_from(["a", "b", "email", "items", "ann@example.com", "note", "x\x00"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["x", "s@t"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["A", "B", "Order Completed"])
EVENTS = st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=5)), max_size=12)


@given(EVENTS)
def test_an_inferred_plan_lets_pass_what_it_was_made_of_and_tells_no_address(events: list[tuple[str, dict[str, Any]]]) -> None:
    document = draft_of([seen(name, fields) for name, fields in events])
    plan = plan_of(document)
    check(plan)
    judge = Judge(plan, 1)
    assert [judge.judge_fields("track", name, fields) for name, fields in events] == [None] * len(events)
    assert "@" not in json.dumps(document)


def test_what_the_present_plan_declares_is_declared_again_seen_or_not() -> None:
    code = {"properties": {"code": {"x-field-class": "sensitive"}, "rare": {"x-field-class": "personal"}}}
    present = plan_of({"events": {"A": {"schema": code}, "B": {"schema": code}}, "identify": {"schema": code}})
    events = [seen("A", {"code": "F32", "size": "s", "visit": {"code": "F33"}}) for _ in range(MIN_SEEN_FOR_ENUM)]
    document = draft_of(events, present.declared())
    assert plan_of(document).declared() == present.declared()
    assert "F3" not in json.dumps(document)
    properties = document["events"]["A"]["schema"]["properties"]
    assert properties["code"] == {"type": "string", "x-field-class": "sensitive"}
    assert properties["size"]["enum"] == ["s"]
