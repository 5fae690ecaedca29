"""Tracking plans: documents that are none are refused with their place, and what a schema costs is bounded."""

import time
from typing import Any

import pytest

from chassis.errors import InvalidArgument
from services.profiles.domain.plan import MAX_NODES, Mode, plan_of
from services.profiles.judge import Judge, check, compiled

BACK = {"$ref": "#/$defs/a"}
DOUBLING = {f"a{step}": {"allOf": [{"$ref": f"#/$defs/a{step + 1}"}] * 2} for step in range(20)} | {"a20": {}}


def of_schema(schema: Any) -> Any:
    return {"events": {"A b": {"schema": schema}}}


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ([], "", "is a JSON object"),
        ({"events": []}, "/events", "a rule for each name"),
        ({"mod": "observe"}, "/mod", "there are events, group, identify, mode, unplanned"),
        ({"mode": "drop"}, "/mode", "one of observe, quarantine, reject"),
        ({"mode": ["observe"]}, "/mode", "one of observe"),
        ({"unplanned": "drop"}, "/unplanned", "one of allow, observe, quarantine, reject"),
        ({"events": {"A": 7}}, "/events/A", "is a JSON object"),
        ({"events": {"A/b": {"shema": {}}}}, "/events/A~1b/shema", "there are description, mode, schema"),
        ({"events": {"A": {"mode": "allow"}}}, "/events/A/mode", "one of observe"),
        ({"events": {"A": {"description": 7}}}, "/events/A/description", "a text"),
        ({"events": {" ": {}}}, "/events/ ", "1 to 256 characters"),
        ({"events": {"ann@example.com": {}}}, "/events/ann@example.com", "no address of a person"),
        ({"events": {"Churn Scored": {}}}, "/events/Churn Scored", "by the platform only"),
        ({"events": {f"E{number}": {} for number in range(1001)}}, "/events", "at most 1,000 events"),
        ({"identify": {"schema": []}}, "/identify/schema", "JSON Schema 2020-12"),
        (
            of_schema({"properties": {"a": {"x-field-class": "public"}}}),
            "/events/A b/schema/properties/a/x-field-class",
            "one of personal, sensitive",
        ),
        (of_schema({"x-field-class": "personal"}), "/events/A b/schema/x-field-class", "of a property, right below it"),
        (
            of_schema({"properties": {"a": {"items": {"x-field-class": "personal"}}}}),
            "/events/A b/schema/properties/a/items/x-field-class",
            "of a property, right below it",
        ),
        (of_schema({"properties": 7}), "/events/A b/schema/properties", 'not of type "object"'),
        (of_schema({"type": "objekt"}), "/events/A b/schema/type", "none of null, boolean"),
        (of_schema({"required": "a"}), "/events/A b/schema/required", 'not of type "array"'),
        (of_schema({"minimum": "1"}), "/events/A b/schema/minimum", 'not of type "number"'),
        (of_schema({"$schema": "http://json-schema.org/draft-07/schema#"}), "/events/A b/schema/$schema", "2020-12"),
        (of_schema({"$ref": "https://example.com/a"}), "/events/A b/schema/$ref", "nothing is fetched"),
        (of_schema({"$ref": "file:///etc/passwd"}), "/events/A b/schema/$ref", "nothing is fetched"),
        (of_schema({"$ref": "#anchor"}), "/events/A b/schema/$ref", "nothing is fetched"),
        (of_schema({"allOf": [{}], "$ref": f"#/allOf/{'9' * 5000}"}), "/events/A b/schema/$ref", "points to nothing"),
        (of_schema({"$ref": "#/$defs/no"}), "/events/A b/schema/$ref", "points to nothing"),
        (of_schema({"$id": "https://example.com"}), "/events/A b/schema/$id", "is not taken"),
        (
            of_schema({"properties": {"a": {"$dynamicRef": "#a"}}}),
            "/events/A b/schema/properties/a/$dynamicRef",
            "is not taken",
        ),
        (of_schema({"properties": {"a": {"$ref": "#"}}}), "/events/A b/schema/properties/a/$ref", "to itself again"),
        (of_schema({"$defs": {"a": {"not": BACK}}}), "/events/A b/schema/$defs/a/not/$ref", "to itself again"),
        (of_schema({"properties": {"a": {"pattern": "("}}}), "/events/A b/schema/properties/a/pattern", "linear time"),
        (of_schema({"pattern": "^(?=a)"}), "/events/A b/schema/pattern", "without lookaround"),
        (of_schema({"pattern": r"(a)\1"}), "/events/A b/schema/pattern", "references back"),
        (of_schema({"pattern": "((a{100}){100}){100}"}), "/events/A b/schema/pattern", "at most 64 KB"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(document: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(plan_of(document))
    assert caught.value.field == field
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/a0", "$defs": DOUBLING}, f"at most {MAX_NODES:,} rules"),
        ({"allOf": [{}] * (MAX_NODES + 1)}, f"at most {MAX_NODES:,} rules"),
        ({"$defs": {f"a{step}": {"$ref": f"#/$defs/a{step + 1}"} for step in range(500)} | {"a500": {}}}, "at most 40 times"),
        ({"properties": {f"p{number}": {"pattern": "a"} for number in range(501)}}, "at most 500 regular expressions"),
        ({"description": "x" * 40_000}, "over 32 KB"),
    ],
)
def test_what_would_cost_too_much_to_check_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check(plan_of(of_schema(schema)))


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"not": schema}
    with pytest.raises(InvalidArgument, match="nested at most 40 deep"):
        plan_of(of_schema(schema))


def test_properties_may_be_called_as_keywords_are() -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}, "enum": {"type": "string"}}}
    plan = plan_of(of_schema(schema | {"examples": [{"$id": "x"}], "const": {"$ref": "x"}}))
    check(plan)
    judge = Judge(plan_of(of_schema(schema)), 1)
    assert judge.judge_fields("track", "A b", {"$ref": "a", "enum": "b"}) is None
    assert judge.judge_fields("track", "A b", {"enum": 7}) is not None


def test_a_rule_has_the_mode_of_the_plan_unless_it_has_its_own() -> None:
    plan = plan_of({"mode": "quarantine", "events": {"A": {}, "B": {"mode": "reject"}}, "group": {}, "unplanned": "observe"})
    assert [plan.events[name].mode for name in "AB"] == [Mode.QUARANTINE, Mode.REJECT]
    assert (plan.calls["group"].mode, plan.unplanned) == (Mode.QUARANTINE, Mode.OBSERVE)
    assert plan.asks_nothing is False


@pytest.mark.parametrize("document", [{}, {"events": {"A": {}}}, {"mode": "reject", "identify": {"schema": {}}}])
def test_a_plan_without_rules_asks_nothing(document: Any) -> None:
    assert plan_of(document).asks_nothing


def test_references_inside_a_schema_are_followed() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}}
    judge = Judge(plan_of(of_schema(schema)), 1)
    verdict = judge.judge_fields("track", "A b", {"a": 1, "b": "1"})
    assert verdict is not None
    assert [violation.field for violation in verdict.violations] == ["properties.b"]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(x+x+)+y", "^(.*,){20}P", "(a|aa)+$"])
def test_expressions_made_to_hang_are_matched_in_no_time(pattern: str) -> None:
    validator = compiled({"properties": {"a": {"pattern": pattern}}})
    began = time.process_time()
    validator.is_valid({"a": "a" * 15_000 + "x," * 8_000})
    assert time.process_time() - began < 1


def test_a_schema_declares_classes_by_the_names_of_its_properties_and_the_stricter_holds() -> None:
    schema = {
        "properties": {"a": {"x-field-class": "sensitive"}, "x-field-class": {"type": "string"}},
        "allOf": [{"properties": {"a": {"x-field-class": "personal"}}}],
        "$defs": {"deep": {"items": {"properties": {"b/c": {"x-field-class": "personal"}}}}},
    }
    judge = Judge(plan_of(of_schema(schema)), 1)
    assert judge.classes("track", "A b") == {"a": "sensitive", "b/c": "personal"}
    assert judge.classes("track", "A") == judge.classes("identify", "") == judge.classes("page", "A b") == {}
