"""Each way to be wrong has its reason and names its field."""

from typing import Any

import pytest

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain import validate


def _reason(error: pytest.ExceptionInfo[InvalidArgument]) -> tuple[Reason, str]:
    return error.value.reason, error.value.field


@pytest.mark.parametrize(
    ("type_", "ids", "reason", "field"),
    [
        ("track", {}, Reason.MISSING_IDENTITY, "userId"),
        ("group", {"user_id": "u"}, Reason.MISSING_FIELD, "groupId"),
        ("alias", {"user_id": "u"}, Reason.MISSING_FIELD, "previousId"),
        ("alias", {"previous_id": "p", "anonymous_id": "a"}, Reason.MISSING_FIELD, "userId"),
    ],
)
def test_a_call_without_its_ids_is_refused(type_: str, ids: dict[str, str], reason: Reason, field: str) -> None:
    names = dict.fromkeys(("user_id", "anonymous_id", "previous_id", "group_id"), "")
    with pytest.raises(InvalidArgument) as error:
        validate.check_identity(type_, **(names | ids))
    assert _reason(error) == (reason, field)


def test_an_identifier_is_a_text_of_up_to_255_characters() -> None:
    assert validate.identifier("x" * 255, "userId") == "x" * 255
    assert validate.identifier(17, "userId") == "17"
    assert validate.identifier(None, "userId") == validate.identifier("  ", "userId") == ""
    with pytest.raises(InvalidArgument) as error:
        validate.identifier("x" * 256, "userId")
    assert _reason(error) == (Reason.INVALID_FIELD, "userId")


@pytest.mark.parametrize("name", ["", "  ", "x" * 257, "Churn Scored", "Model Promoted"])
def test_a_track_call_needs_an_event_of_its_own(name: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        validate.check_name("track", name)
    assert error.value.field == "event"


@pytest.mark.parametrize(
    ("properties", "reason", "field"),
    [
        ({"revenue": -1}, Reason.NEGATIVE_PRICE, "properties.revenue"),
        ({"total": -0.01}, Reason.NEGATIVE_PRICE, "properties.total"),
        ({"products": [{}, {}, {}, {"price": -5}]}, Reason.NEGATIVE_PRICE, "properties.products[3].price"),
        ({"products": [{"quantity": -1}]}, Reason.NEGATIVE_PRICE, "properties.products[0].quantity"),
        ({"revenue": "12.50"}, Reason.INVALID_FIELD, "properties.revenue"),
        ({"total": True}, Reason.INVALID_FIELD, "properties.total"),
        ({"products": {"price": 1}}, Reason.INVALID_FIELD, "properties.products"),
        ({"products": ["p1"]}, Reason.INVALID_FIELD, "properties.products[0]"),
        ({"order_id": ["o1"]}, Reason.INVALID_FIELD, "properties.order_id"),
    ],
)
def test_an_order_with_impossible_amounts_is_refused(properties: dict[str, Any], reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        validate.check_commerce("Order Completed", properties)
    assert _reason(error) == (reason, field)


def test_amounts_of_other_events_may_be_what_they_are() -> None:
    validate.check_commerce("Balance Changed", {"total": -5, "products": "none"})
    validate.check_commerce("Order Completed", {"total": 0, "revenue": None, "products": [{"price": 0, "quantity": 1.5}]})


def test_a_nul_character_is_found_wherever_it_is() -> None:
    for parts, field in (
        ({"properties": {"a": [{"b": "x\x00"}]}}, "properties.a[0].b"),
        ({"userId": "\x00"}, "userId"),
        ({"traits": {"k\x00": 1}}, "traits"),
        ({"traits": {"ann@example.com": "\x00"}}, "traits...."),
    ):
        with pytest.raises(InvalidArgument) as error:
            validate.check_texts(parts)
        assert _reason(error) == (Reason.MALFORMED_TEXT, field)
    validate.check_texts({"properties": {"a": ["\\u0000", 5, None]}})


def test_properties_are_counted_through_lists_and_objects() -> None:
    validate.check_shape({"properties": {f"k{number}": number for number in range(2000)}})
    validate.check_shape({"properties": {"products": [{"a": 1, "b": 2}] * 999}})
    for parts in ({f"k{number}": 0 for number in range(2001)}, {"products": [{"a": 1, "b": 2}] * 1000}):
        with pytest.raises(InvalidArgument) as error:
            validate.check_shape({"properties": parts})
        assert error.value.reason is Reason.TOO_MANY_PROPERTIES


def test_properties_nest_twenty_deep_and_no_deeper() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"x": nested(depth - 1)} if depth > 1 else {"x": 1}

    validate.check_shape({"properties": nested(20)})
    with pytest.raises(InvalidArgument) as error:
        validate.check_shape({"properties": nested(21)})
    assert error.value.reason is Reason.TOO_MANY_PROPERTIES
