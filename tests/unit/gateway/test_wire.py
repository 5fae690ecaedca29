"""Between messages and JSON."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from rapport.evaluation.v1 import evaluation_pb2
from rapport.profiles.v1 import profiles_pb2
from rapport.scoring.v1 import scoring_pb2
from rapport.segmentation.v1 import segmentation_pb2

from chassis.errors import InvalidArgument
from services.gateway.api.conditions import DEEPEST, Condition, condition_message, shown
from services.gateway.api.scores import ScoreResult, written
from services.gateway.wire import JsonObject, Moment, Ref, enum_name, enum_number, plain, set_moment

AT = datetime(2011, 9, 10, 12, 30, 0, 250_000, tzinfo=UTC)


def test_a_message_is_read_with_what_is_unset_as_none() -> None:
    message = evaluation_pb2.ModelEvaluation(version="7", auc=0.5, verdict=evaluation_pb2.VERDICT_NO_DIFFERENCE)
    set_moment(message, "as_of", AT)
    fields = plain(message)
    assert (fields["version"], fields["auc"], fields["ece"]) == ("7", 0.5, None)
    assert (fields["as_of"], fields["evaluated"]) == (AT, None)
    assert (fields["verdict"], fields["bins"], fields["row_count"]) == ("NO_DIFFERENCE", [], 0)


def test_messages_maps_and_json_inside_a_message_are_read_too() -> None:
    profile = profiles_pb2.Profile(traits=b'{"plan":"gold"}', identities=[profiles_pb2.Identity(namespace="user_id")])
    assert plain(profile)["traits"] == {"plan": "gold"}
    assert plain(profile)["identities"] == [{"namespace": "user_id", "node_id": "", "since": None}]
    assert plain(profiles_pb2.Profile())["traits"] == {}
    assert plain(scoring_pb2.Score(features={"a": 1.0}))["features"] == {"a": 1.0}


def test_enums_go_by_their_names_without_prefix() -> None:
    kind = evaluation_pb2.DESCRIPTOR.enum_types_by_name["Verdict"]
    assert enum_name(kind, evaluation_pb2.VERDICT_BETTER) == "BETTER"
    assert enum_name(kind, 99) is None
    assert enum_number(kind, "better") == evaluation_pb2.VERDICT_BETTER


MOMENT = TypeAdapter(Moment)
REF = TypeAdapter(Ref)


@pytest.mark.parametrize("text", ["2011-09-10T12:30:00.25Z", "2011-09-10T14:30:00.250+02:00", "2011-09-10 12:30:00.25+00:00"])
def test_a_time_with_its_offset_is_read_as_utc(text: str) -> None:
    assert MOMENT.validate_python(text) == AT
    assert MOMENT.validate_python(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2011-09-10",
        "2011-09-10T12:30:00",
        "2011-13-10T12:30:00Z",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1315657800",
        1315657800,
        0.5,
        True,
    ],
)
def test_any_other_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(value)


@pytest.mark.parametrize(
    "ref", ["user_id:12347", "anonymous_id:ö/ü :x", "0B8f7a52-4a53-4b6e-9c39-6f0d3f0f8c11", "user_id:" + "x" * 255]
)
def test_a_ref_is_a_profile_id_or_an_id_of_a_known_kind(ref: str) -> None:
    assert REF.validate_python(ref) == ref


@pytest.mark.parametrize(
    "ref", ["", "12347", "user_id:", "email:a@b", "user_id:a\0", "user_id:" + "x" * 257, "0b8f7a52", "user_id:\ud800"]
)
def test_anything_else_is_no_ref(ref: str) -> None:
    with pytest.raises(ValidationError):
        REF.validate_python(ref)


def score_result(**changes: Any) -> scoring_pb2.ScoreResult:
    score = scoring_pb2.Score(
        model="churn", version="7", probability=0.5, reasons=[scoring_pb2.Reason(feature="a")], features={"a": 1.0}
    )
    set_moment(score, "as_of", AT)
    return scoring_pb2.ScoreResult(**({"ref": "user_id:a", "profile_id": "p", "score": score} | changes))


@pytest.mark.parametrize(
    "message",
    [
        score_result(),
        score_result(profile_id="", score=None, not_scored=scoring_pb2.NotScored(reason="UNKNOWN_PROFILE", message="m")),
    ],
)
def test_a_score_written_by_hand_is_what_the_document_says(message: scoring_pb2.ScoreResult) -> None:
    fields = written(message)
    described = ScoreResult.model_validate(fields).model_dump(by_alias=True)
    assert described == fields


TREE: dict[str, Any] = {
    "anyOf": [
        {"allOf": [{"feature": "orders_count", "operator": "band", "value": [1.0, 5.0]}, {"inSegment": "active"}]},
        {"not": {"trait": "plan", "operator": "one_of", "value": ["gold"]}},
        {"trait": "plan", "operator": "present"},
        {"feature": "orders_count", "operator": "less", "value": 3.0},
        {"trait": "plan", "operator": "equal", "value": "3"},
    ]
}


def test_a_condition_comes_back_as_it_was_given() -> None:
    assert shown(condition_message(Condition.model_validate(TREE))) == TREE


def test_a_comparison_keeps_numbers_and_texts_apart() -> None:
    number = condition_message(Condition.model_validate({"trait": "age", "operator": "equal", "value": 3})).comparison
    text = condition_message(Condition.model_validate({"trait": "age", "operator": "equal", "value": "3"})).comparison
    assert (list(number.numbers), list(number.texts)) == ([3.0], [])
    assert (list(text.numbers), list(text.texts)) == ([], ["3"])
    assert number.operator == segmentation_pb2.OPERATOR_EQUAL


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"allOf": [], "inSegment": "a"},
        {"feature": "a"},
        {"feature": "a", "operator": "like"},
        {"inSegment": "a", "operator": "equal"},
        {"feature": "a", "operator": "equal", "value": True},
        {"feature": "a", "operator": "equal", "value": [1, "a"]},
        {"feature": "a", "operator": "equal", "value": {"a": 1}},
        {"feature": "a", "operator": "equal", "value": float("inf")},
        {"feature": "a", "operator": "equal", "value": 10**400},
        {"feature": "a", "operator": "equal", "value": [1] * 101},
        {"trait": "a", "operator": "equal", "value": "x" * 1001},
        {"trait": "a", "operator": "equal", "value": "\0"},
        {"trait": "a\0", "operator": "present"},
        {"trait": "a", "operator": "present", "colour": "red"},
    ],
)
def test_what_is_no_condition_is_refused(condition: Any) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate(condition)


def test_a_condition_has_a_greatest_depth() -> None:
    def nested(depth: int) -> Condition:
        tree: dict[str, Any] = {"inSegment": "a"}
        for _ in range(depth - 1):
            tree = {"not": tree}
        return Condition.model_validate(tree)

    condition_message(nested(DEEPEST))
    with pytest.raises(InvalidArgument, match="nested"):
        condition_message(nested(DEEPEST + 1))


@pytest.mark.parametrize("text", ['{"a":["\\ud800"]}', '{"\\udfff":1}', '{"a":{"b":NaN}}', '{"a":-Infinity}', '{"a":1e400}'])
def test_what_no_other_text_can_hold_is_refused_in_an_object(text: str) -> None:
    read = TypeAdapter(JsonObject)
    with pytest.raises(ValidationError, match=r"surrogate pair|no numbers"):
        read.validate_python(json.loads(text))
    whole = json.loads('{"a":[1e308,null,"\\ud83d\\ude00",{"b":[[]]}]}')
    assert read.validate_python(whole) == whole
