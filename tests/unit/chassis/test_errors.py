"""The closed set of errors: complete on every wire, and nothing in it that nobody raises."""

from pathlib import Path

import grpc
import pytest

from chassis import errors
from chassis.errors import TABLE, Conflict, Error, InvalidArgument, Reason, error_class_of, http_status_of, status_of
from infra.docs import classes_by_reason

PROJECT = Path(__file__).resolve().parents[3]


def below(cls: type[Error]) -> set[type[Error]]:
    return {each for direct in cls.__subclasses__() for each in ({direct} | below(direct))}


def test_every_class_of_the_set_has_its_row_in_the_table() -> None:
    defined = {cls for cls in below(Error) if cls.__module__ == errors.__name__}
    assert defined == set(TABLE)


def test_nobody_adds_a_class_outside_the_set() -> None:
    classes_by_reason(PROJECT)
    assert {cls for cls in below(Error) if cls.__module__.split(".")[0] in ("chassis", "services", "ml")} == set(TABLE)


def test_no_two_classes_are_the_same_on_a_wire() -> None:
    assert len({status.grpc for status in TABLE.values()}) == len(TABLE)
    assert len({status.http for status in TABLE.values()}) == len(TABLE)
    assert grpc.StatusCode.INTERNAL not in {status.grpc for status in TABLE.values()}


@pytest.mark.parametrize("cls", TABLE)
def test_a_class_comes_back_from_its_code(cls: type[Error]) -> None:
    assert error_class_of(TABLE[cls].grpc) is cls
    assert status_of(cls("no")) is TABLE[cls]


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED])
def test_a_bug_comes_back_as_no_class(code: grpc.StatusCode) -> None:
    assert error_class_of(code) is None


def test_every_reason_is_used_somewhere() -> None:
    used = classes_by_reason(PROJECT)
    assert [reason.name for reason in Reason if reason not in used] == []


def test_every_reason_has_a_sentence_of_its_own() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason)
    assert all(reason.value.endswith(".") and reason.value[0].isupper() for reason in Reason)


def test_a_class_gives_its_reason_where_none_is_named() -> None:
    assert Conflict("no").reason is Reason.ALREADY_EXISTS
    assert Conflict("no", reason=Reason.NO_MODEL).reason is Reason.NO_MODEL


def test_a_reason_may_be_finer_over_http_than_its_class() -> None:
    assert http_status_of(InvalidArgument("no")) == 400
    assert http_status_of(InvalidArgument("no", reason=Reason.BODY_TOO_LARGE)) == 413


def test_metadata_is_the_error_s_own() -> None:
    one = Error("no")
    one.metadata["key"] = "value"
    assert Error("no").metadata == {}
