"""Conditions: what they say of a profile, why, and which are refused."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument, Reason
from services.segmentation.domain import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Facts,
    InSegment,
    Not,
    Opaque,
    Operator,
    Subject,
    check,
    condition_from_json,
    condition_to_json,
    features_of,
    findings,
    matches,
    references_of,
    traits_of,
)

FACTS = Facts(
    {"orders_count": 3.0, "days_since_last_order": 41.2},
    {"plan": "pro", "seats": 12.0, "is_partner": 1.0, "tags": Opaque.VALUE},
)


def feature(name: str, operator: Operator, *numbers: float) -> Comparison:
    return Comparison(Subject.FEATURE, name, operator, numbers)


def trait(name: str, operator: Operator, *texts: str) -> Comparison:
    return Comparison(Subject.TRAIT, name, operator, texts=texts)


TRUE, FALSE = feature("orders_count", Operator.EQUAL, 3), feature("orders_count", Operator.EQUAL, 4)


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        (feature("orders_count", Operator.EQUAL, 3), True),
        (feature("orders_count", Operator.LESS, 3), False),
        (feature("orders_count", Operator.LESS_OR_EQUAL, 3), True),
        (feature("orders_count", Operator.GREATER, 3), False),
        (feature("orders_count", Operator.GREATER_OR_EQUAL, 3), True),
        (feature("orders_count", Operator.BAND, 3, 4), True),
        (feature("orders_count", Operator.BAND, 2, 3), False),
        (feature("orders_count", Operator.PRESENT), True),
        (feature("mean_order_interval_days", Operator.PRESENT), False),
        (feature("mean_order_interval_days", Operator.LESS, 1e9), False),
        (trait("plan", Operator.EQUAL, "pro"), True),
        (trait("plan", Operator.EQUAL, "Pro"), False),
        (trait("plan", Operator.ONE_OF, "free", "pro"), True),
        (trait("plan", Operator.ONE_OF, "free"), False),
        (trait("city", Operator.ONE_OF, "free"), False),
        (trait("tags", Operator.PRESENT), True),
        (trait("tags", Operator.EQUAL, "a list or an object"), False),
        (Comparison(Subject.TRAIT, "seats", Operator.GREATER, (10.0,)), True),
        (Comparison(Subject.TRAIT, "plan", Operator.GREATER, (10.0,)), False),
        (Comparison(Subject.TRAIT, "tags", Operator.LESS, (10.0,)), False),
        (Comparison(Subject.TRAIT, "tags", Operator.BAND, (0.0, 10.0)), False),
        (Comparison(Subject.TRAIT, "is_partner", Operator.EQUAL, (1.0,)), True),
        (InSegment("new"), True),
        (InSegment("lost"), False),
        (Not(InSegment("lost")), True),
        (AllOf((TRUE, TRUE)), True),
        (AllOf((TRUE, FALSE)), False),
        (AnyOf((FALSE, TRUE)), True),
        (AnyOf((FALSE, FALSE)), False),
    ],
)
def test_a_condition_says_what_it_reads(condition: Condition, held: bool) -> None:
    assert matches(condition, FACTS, memberships={"new"}) is held


def test_whole_numbers_are_numbers_too() -> None:
    facts = Facts({"orders_count": 3}, {})
    assert matches(feature("orders_count", Operator.BAND, 1, 4), facts, memberships=set())
    assert matches(feature("orders_count", Operator.LESS, 4), facts, memberships=set())


def test_findings_show_each_part_with_the_value_that_it_saw() -> None:
    condition = AllOf(
        (
            feature("days_since_last_order", Operator.LESS, 90),
            Not(feature("mean_order_interval_days", Operator.BAND, 30, 60)),
            AnyOf((trait("plan", Operator.ONE_OF, "pro", "team"), InSegment("new"))),
            trait("tags", Operator.PRESENT),
        )
    )
    found = [(each.depth, each.condition, each.value, each.held) for each in findings(condition, FACTS, memberships=set())]
    assert found == [
        (0, "all of", "", True),
        (1, "days_since_last_order < 90", "41.2", True),
        (1, "not", "", True),
        (2, "30 <= mean_order_interval_days < 60", "no value", False),
        (1, "any of", "", True),
        (2, 'trait plan is one of "pro", "team"', '"pro"', True),
        (2, 'in segment "new"', "not a member", False),
        (1, "trait tags is present", "a list or an object", True),
    ]


def test_a_condition_knows_what_it_reads() -> None:
    condition = AllOf((TRUE, Not(AnyOf((trait("plan", Operator.PRESENT), InSegment("new"))))))
    assert features_of(condition) == {"orders_count"}
    assert traits_of(condition) == {"plan"}
    assert references_of(condition) == {"new"}


def nested(depth: int) -> Condition:
    return TRUE if depth == 1 else Not(nested(depth - 1))


@pytest.mark.parametrize(
    ("condition", "reason", "field"),
    [
        (feature("shoe_size", Operator.EQUAL, 3), Reason.UNKNOWN_FEATURE, "condition.feature"),
        (AllOf((TRUE, InSegment("nowhere"))), Reason.INVALID_FIELD, "condition.allOf[1].inSegment"),
        (AllOf(()), Reason.INVALID_FIELD, "condition.allOf"),
        (Not(AnyOf(())), Reason.INVALID_FIELD, "condition.not.anyOf"),
        (feature("orders_count", Operator.BAND, 3), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.BAND, 3, 3), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.BAND, 4, 3), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.LESS), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.LESS, 1, 2), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.PRESENT, 1), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.ONE_OF, 1), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.EQUAL), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.EQUAL, math.nan), Reason.INVALID_FIELD, "condition.value"),
        (feature("orders_count", Operator.LESS, math.inf), Reason.INVALID_FIELD, "condition.value"),
        (trait("plan", Operator.EQUAL, "a\0b"), Reason.MALFORMED_TEXT, "condition.value"),
        (trait("plan", Operator.EQUAL, "\ud800"), Reason.MALFORMED_TEXT, "condition.value"),
        (trait("plan", Operator.EQUAL, "x" * 257), Reason.INVALID_FIELD, "condition.value"),
        (trait("", Operator.PRESENT), Reason.INVALID_FIELD, "condition.trait"),
        (trait("x" * 257, Operator.PRESENT), Reason.INVALID_FIELD, "condition.trait"),
        (nested(17), Reason.INVALID_FIELD, "condition" + 16 * ".not"),
        (AllOf((TRUE,) * 500), Reason.INVALID_FIELD, "condition"),
    ],
)
def test_what_could_never_be_evaluated_is_refused_with_its_path(condition: Condition, reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(condition, features={"orders_count"}, segments={"new"})
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_an_unknown_feature_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(InvalidArgument, match='no feature "shoe_size"; there are orders_90d, orders_count'):
        check(feature("shoe_size", Operator.PRESENT), features={"orders_count", "orders_90d"}, segments=set())


def test_a_well_formed_condition_passes() -> None:
    check(
        AllOf((nested(15), InSegment("new"), trait("城市", Operator.EQUAL, "杭州"))),
        features={"orders_count"},
        segments={"new"},
    )


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
names = st.sampled_from(["orders_count", "revenue_total", "plan"])
leaves: st.SearchStrategy[Condition] = st.one_of(
    st.builds(lambda name, low: feature(name, Operator.BAND, low, low + abs(low) + 1), names, finite),
    st.builds(lambda name, number: feature(name, Operator.LESS, number), names, finite),
    st.builds(lambda name, text: trait(name, Operator.EQUAL, text), names, st.text(max_size=5)),
    st.builds(lambda name: trait(name, Operator.PRESENT), names),
    st.builds(InSegment, st.sampled_from(["new", "lost"])),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=4).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=1, max_size=4).map(tuple)),
    ),
    max_leaves=12,
)
facts = st.builds(
    Facts,
    st.dictionaries(names, finite, max_size=3),
    st.dictionaries(names, st.one_of(finite, st.text(max_size=5), st.just(Opaque.VALUE)), max_size=3),
)
memberships = st.frozensets(st.sampled_from(["new", "lost"]))


@given(conditions)
def test_a_stored_condition_is_the_same_again(condition: Condition) -> None:
    assert condition_from_json(json.loads(json.dumps(condition_to_json(condition)))) == condition


@given(conditions, facts, memberships)
def test_not_is_the_opposite(condition: Condition, known: Facts, keys: frozenset[str]) -> None:
    assert matches(Not(condition), known, memberships=keys) is not matches(condition, known, memberships=keys)


@given(st.lists(conditions, min_size=1, max_size=4), facts, memberships)
def test_de_morgan_holds(parts: list[Condition], known: Facts, keys: frozenset[str]) -> None:
    none = Not(AnyOf(tuple(parts)))
    each_not = AllOf(tuple(Not(part) for part in parts))
    assert matches(none, known, memberships=keys) is matches(each_not, known, memberships=keys)


@given(conditions, facts, memberships)
def test_the_first_finding_is_the_verdict(condition: Condition, known: Facts, keys: frozenset[str]) -> None:
    found = list(findings(condition, known, memberships=keys))
    assert found[0].held is matches(condition, known, memberships=keys)
    assert found[0].depth == 0


@given(finite, st.lists(finite, min_size=2, max_size=6, unique=True))
def test_bands_that_share_borders_never_overlap(value: float, borders: list[float]) -> None:
    ordered = sorted(borders)
    known = Facts({"x": value}, {})
    held = [
        matches(feature("x", Operator.BAND, low, high), known, memberships=set()) for low, high in itertools.pairwise(ordered)
    ]
    assert sum(held) == (ordered[0] <= value < ordered[-1])
