"""Messages and segments: nothing is lost on the way, and what is not understood is refused with its path."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis.errors import InvalidArgument, NotFound, Reason
from services.segmentation import wire
from services.segmentation.domain import AllOf, AnyOf, Comparison, Condition, InSegment, Not, Operator, Subject


def test_a_condition_of_every_kind_crosses_the_wire() -> None:
    leaves = [Comparison(subject, "x", operator, (1.5,), ("a",)) for subject in Subject for operator in Operator]
    condition: Condition = AllOf((AnyOf(tuple(leaves)), Not(InSegment("new"))))
    assert wire.condition_from_proto(wire.condition_to_proto(condition)) == condition


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Condition(), "condition"),
        (pb.Condition(all_of=pb.AllOf(conditions=[pb.Condition(in_segment="a"), pb.Condition()])), "condition.allOf[1]"),
        (pb.Condition(any_of=pb.AnyOf(conditions=[pb.Condition()])), "condition.anyOf[0]"),
        (pb.Condition(**{"not": pb.Not()}), "condition.not"),  # pyright: ignore[reportArgumentType]
        (pb.Condition(comparison=pb.Comparison(operator=pb.OPERATOR_PRESENT)), "condition"),
        (pb.Condition(comparison=pb.Comparison(feature="x")), "condition.operator"),
        (pb.Condition(comparison=pb.Comparison(feature="x", operator=99)), "condition.operator"),  # pyright: ignore
    ],
)
def test_a_part_that_is_missing_is_named(message: pb.Condition, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        wire.condition_from_proto(message)
    assert refused.value.field == field


@given(st.uuids())
def test_a_cursor_leads_back(last: UUID) -> None:
    assert wire.after_token(wire.token_of(last)) == last


@pytest.mark.parametrize("token", ["?", "abc", "AAAA", "AAAAAAAAAAAAAAAAAAAAA!", "é" * 22])
def test_a_foreign_cursor_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        wire.after_token(token)
    assert refused.value.reason is Reason.INVALID_CURSOR


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_page_has_a_size_within_bounds(size: int) -> None:
    with pytest.raises(InvalidArgument):
        wire.page_size_of(size)
    assert wire.page_size_of(0) == 100


def test_ids_are_checked_before_they_are_looked_for() -> None:
    with pytest.raises(InvalidArgument):
        wire.profile_id_of("user_id:ann@example.com")
    with pytest.raises(NotFound):
        wire.key_of("a\0b")
