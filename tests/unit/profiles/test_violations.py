"""What is told of events that are not as planned: the place, what would be right, a type; never what is personal."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain import classify
from services.profiles.domain.plan import plan_of
from services.profiles.domain.violations import MAX_GROUPS, Violation, unplanned
from services.profiles.judge import MAX_VIOLATIONS, Judge
from services.profiles.segment import Call

PRODUCTS = {"type": "array", "items": {"properties": {"q": {"type": "integer"}}, "additionalProperties": False}}


def judge_of(schema: Mapping[str, Any], **more: Any) -> Judge:
    return Judge(plan_of({"events": {"A": {"schema": schema}}, **more}), 7)


def violations(schema: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Violation]:
    verdict = judge_of(schema).judge_fields("track", "A", fields)
    return list(verdict.violations) if verdict else []


@pytest.mark.parametrize(
    ("schema", "fields", "message"),
    [
        ({"required": ["a"]}, {}, "properties.a must be there, found nothing"),
        ({"type": "array"}, {}, "properties must be of type array, found object"),
        ({"properties": {"a": {"type": ["string"]}}}, {"a": 1}, "properties.a must be of type string, found integer"),
        ({"properties": {"a": {"enum": ["x", 2]}}}, {"a": "y"}, 'properties.a must be one of "x", 2, found string'),
        ({"properties": {"a": {"const": True}}}, {"a": None}, "properties.a must be True, found null"),
        ({"properties": {"a": {"minimum": 3}}}, {"a": 2.5}, "properties.a must be at least 3, found number"),
        ({"properties": {"a": {"exclusiveMaximum": 3}}}, {"a": 3}, "properties.a must be under 3, found integer"),
        ({"properties": {"a": {"maxLength": 1}}}, {"a": "x1"},
         "properties.a must be a text of at most 1 characters, found string"),
        ({"properties": {"a": {"pattern": "^x$"}}}, {"a": "y"}, "properties.a must be a text that matches ^x$, found string"),
        ({"properties": {"a": {"format": "date"}}}, {"a": "y"}, "properties.a must be a date, found string"),
        ({"properties": {"a": {"minItems": 1}}}, {"a": []}, "properties.a must be a list of at least 1, found array"),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]},
         "properties.a must be a list without repeats, found array"),
        ({"properties": {"a": {"multipleOf": 2}}}, {"a": 3}, "properties.a must be a multiple of 2, found integer"),
        ({"properties": {"a": False}}, {"a": 3}, "properties.a must be absent, found integer"),
        ({"additionalProperties": False}, {"a": 3}, "properties.a must be absent, found integer"),
        ({"maxProperties": 0}, {"a": 3}, "properties must be an object with at most 0 properties, found object"),
        ({"properties": {"a": {"not": {}}}}, {"a": 3}, "properties.a must be as not has it, found integer"),
        ({"properties": {"p": PRODUCTS}}, {"p": [{}, {"q": "1"}]}, "properties.p[1].q must be of type integer, found string"),
    ],
)  # fmt: skip
def test_a_violation_says_where_what_would_be_right_and_what_type_was_found(
    schema: Mapping[str, Any], fields: Mapping[str, Any], message: str
) -> None:
    assert [each.message for each in violations(schema, fields)] == [message]


def test_violations_of_one_kind_are_counted_together() -> None:
    found = violations({"properties": {"p": PRODUCTS}}, {"p": [{"q": "1"}, {"q": "2"}, {"r": 1}, {"s": 1}]})
    assert {each.path for each in found} == {"properties.p[].q", "properties.p[].*"}
    assert {each.rule for each in found} == {
        "/properties/p/items/properties/q/type",
        "/properties/p/items/additionalProperties",
    }
    assert len({each.group for each in found}) == 2


def test_of_one_event_only_so_many_violations_are_told() -> None:
    fields = {f"k{number}": number for number in range(50)}
    assert len(violations({"additionalProperties": {"type": "string"}}, fields)) == MAX_VIOLATIONS


def test_a_name_that_is_personal_is_not_told() -> None:
    assert unplanned("Mail to ann@example.com").event == "..."
    (found,) = violations({"additionalProperties": {"type": "string"}}, {"ann@example.com": 1})
    assert "ann" not in str(found)


def test_unplanned_names_are_counted_in_so_many_groups_and_the_rest_together() -> None:
    judge = judge_of({}, unplanned="observe")
    counted = [judge.counted(unplanned(f"E{number}")) for number in range(MAX_GROUPS + 50)]
    assert len({each.group for each in counted}) == MAX_GROUPS + 1
    assert {each.rule for each in counted[MAX_GROUPS:]} == {"others"}
    assert judge.counted(unplanned("E0")).event == "E0"


@pytest.mark.parametrize(
    ("type_", "call", "is_judged"),
    [
        ("track", Call(event="A", properties={"a": "1"}), True),
        ("track", Call(event="B", properties={"a": "1"}), False),
        ("page", Call(name="A", properties={"a": "1"}), False),
        ("identify", Call(traits={"a": "1"}), True),
        ("identify", Call(), False),
        ("group", Call(traits={"a": "1"}), False),
    ],
)
def test_track_calls_are_judged_by_their_name_and_others_by_their_type(type_: str, call: Call, is_judged: bool) -> None:
    rule = {"schema": {"properties": {"a": {"type": "number"}}}}
    judge = Judge(plan_of({"events": {"A": rule}, "identify": rule}), 1)
    assert (judge.judge(type_, call) is not None) is is_judged


KEYS = st.sampled_from(["a", "name", "email", "items", "address", "ann@example.com", "note", "price", "billing_address"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=80) | st.sampled_from(["ann@example.com", "secret://page"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.dictionaries(KEYS, VALUES, max_size=6)
SCHEMAS = st.sampled_from(
    [
        {"additionalProperties": {"type": "boolean"}},
        {"additionalProperties": False},
        {"properties": {key: {"type": "null"} for key in ("a", "email", "note", "address")}, "required": ["q"]},
        {"properties": {"items": {"items": {"enum": ["x"]}, "additionalProperties": {"const": 0}}}},
        {"propertyNames": {"maxLength": 3}, "minProperties": 3},
    ]
)


@given(FIELDS, SCHEMAS)
def test_what_is_told_never_holds_a_personal_value(fields: dict[str, Any], schema: dict[str, Any]) -> None:
    public, _ = classify.split(fields, classify.Kind.TRACK)
    for violation in violations(schema, fields):
        assert "@" not in violation.message + violation.path + violation.rule
        assert "://" not in str(violation)
        assert violation.value is None or repr(violation.value) in repr(public)


@given(FIELDS, st.sampled_from(list(classify.Kind)))
def test_what_was_split_is_joined_again(fields: dict[str, Any], kind: classify.Kind) -> None:
    assert classify.join(*classify.split(fields, kind)) == fields
