"""Segments: what is shipped, circles, evaluation in the right order, and changes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Conflict, InvalidArgument, Reason
from services.segmentation.domain import (
    RFM_SEGMENTS,
    SHIPPED,
    AllOf,
    Change,
    Comparison,
    Condition,
    Cuts,
    Definition,
    Facts,
    Family,
    InSegment,
    Not,
    Operator,
    Plan,
    Standing,
    Subject,
    Trait,
    changes,
    check_new_definition,
    check_texts,
    final_targets,
    newest_traits,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = {definition.key for definition in SHIPPED if definition.family is Family.LIFE_CYCLE}
RFM_KEYS = {segment.key for segment in RFM_SEGMENTS}
CUTS = Cuts((10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0), 100, AT)
PROFILE = UUID(int=1)


def orders_at_least(count: float) -> Condition:
    return Comparison(Subject.FEATURE, "orders_count", Operator.GREATER_OR_EQUAL, (count,))


def bought(last: float, first: float, count: float, revenue: float = 25.0) -> Facts:
    return Facts(
        {
            "days_since_last_order": last,
            "days_since_first_order": first,
            "orders_count": count,
            "revenue_total": revenue,
            "refunds_total": 0.0,
        },
        {},
    )


NEVER_BOUGHT = Facts({"orders_count": 0.0, "revenue_total": 0.0, "refunds_total": 0.0}, {})


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        (NEVER_BOUGHT, "potential"),
        (Facts({}, {}), "potential"),
        (bought(5, 5, 1), "new"),
        (bought(1, 29.9, 2), "new"),
        (bought(1, 30, 2), "active"),
        (bought(1, 10, 3), "active"),
        (bought(89.9, 400, 7), "active"),
        (bought(90, 90, 1), "lost"),
        (bought(300, 900, 40), "lost"),
    ],
)
def test_a_customer_is_in_one_stage_of_the_life_cycle(facts: Facts, stage: str) -> None:
    assert Plan(SHIPPED).memberships(facts) & STAGES == {stage}


amounts = st.floats(-1e6, 1e6)
days = st.floats(0, 4_000)


@given(
    st.one_of(
        st.just(NEVER_BOUGHT),
        st.builds(bought, last=days, first=days, count=st.integers(0, 50).map(float), revenue=amounts),
    )
)
def test_stages_and_rfm_segments_are_exclusive_and_complete(facts: Facts) -> None:
    keys = Plan(SHIPPED, CUTS).memberships(facts)
    assert len(keys & STAGES) == 1
    assert len(keys & RFM_KEYS) == (0 if facts is NEVER_BOUGHT else 1)


def test_without_cuts_nobody_is_in_an_rfm_segment() -> None:
    assert Plan(SHIPPED).memberships(bought(1, 1, 1)) & RFM_KEYS == set()


def test_a_segment_may_stand_on_others_of_every_family() -> None:
    own = [
        Definition("a_best_and_active", "Best", "", condition=AllOf((InSegment("champions"), InSegment("z_many")))),
        Definition("z_many", "Many", "", condition=AllOf((orders_at_least(3), Not(InSegment("lost"))))),
    ]
    plan = Plan([*own, *SHIPPED], CUTS)
    assert {"a_best_and_active", "z_many", "champions", "active"} == plan.memberships(bought(5, 200, 9, 900.0))
    assert "z_many" not in plan.memberships(bought(95, 200, 9))


def test_a_plan_narrows_to_what_a_condition_stands_on() -> None:
    own = [
        Definition("inner", "Inner", "", condition=Comparison(Subject.TRAIT, "plan", Operator.PRESENT)),
        Definition("outer", "Outer", "", condition=InSegment("inner")),
        Definition("other", "Other", "", condition=orders_at_least(1)),
    ]
    narrowed = Plan([*SHIPPED, *own]).around(InSegment("outer"))
    assert set(narrowed.by_key) == {"inner", "outer"}
    assert (narrowed.features, narrowed.traits) == (frozenset(), {"plan"})
    assert set(Plan([*SHIPPED, *own]).around(InSegment("active")).by_key) == {"active", "new"}
    assert "orders_count" in Plan(SHIPPED).around(InSegment("champions")).features


def test_a_circle_is_refused_and_named() -> None:
    plan = Plan(
        [
            *SHIPPED,
            Definition("a", "A", "", condition=orders_at_least(1)),
            Definition("b", "B", "", condition=Not(InSegment("a"))),
            Definition("c", "C", "", condition=AllOf((InSegment("b"), InSegment("new")))),
        ]
    )
    with pytest.raises(InvalidArgument, match="a -> c -> b -> a") as refused:
        check_new_definition("a", AllOf((orders_at_least(1), InSegment("c"))), plan)
    assert refused.value.reason is Reason.CIRCULAR_SEGMENT
    with pytest.raises(InvalidArgument, match="d -> d") as refused:
        check_new_definition("d", Not(InSegment("d")), plan)
    assert refused.value.reason is Reason.CIRCULAR_SEGMENT
    check_new_definition("a", InSegment("new"), plan)
    check_new_definition("d", AllOf((InSegment("b"), InSegment("c"))), plan)


def test_a_shipped_segment_keeps_its_rule() -> None:
    with pytest.raises(Conflict) as refused:
        check_new_definition("champions", orders_at_least(1), Plan(SHIPPED))
    assert refused.value.reason is Reason.SHIPPED_SEGMENT


@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_what_passes_the_circle_check_can_always_be_ordered(references: list[set[int]]) -> None:
    plan = Plan([])
    for number, targets in enumerate(references):
        condition = AllOf(
            (orders_at_least(1), *(InSegment(f"s{target}") for target in sorted(targets) if target < len(references)))
        )
        try:
            check_new_definition(f"s{number}", condition, plan)
        except InvalidArgument:
            condition = AllOf((orders_at_least(1),))
        plan = Plan([*plan.definitions, Definition(f"s{number}", "", "", condition=condition)])
    complete = Plan(list(plan.definitions))
    seen: set[str] = set()
    for each in complete.ordered:
        targets = {part.key for part in each.condition.conditions if isinstance(part, InSegment)}  # pyright: ignore
        assert targets <= seen
        seen.add(each.key)


@pytest.mark.parametrize(
    ("key", "name", "description", "reason", "field"),
    [
        ("", "Name", "", Reason.INVALID_FIELD, "key"),
        ("Upper", "Name", "", Reason.INVALID_FIELD, "key"),
        ("9lives", "Name", "", Reason.INVALID_FIELD, "key"),
        ("a" * 65, "Name", "", Reason.INVALID_FIELD, "key"),
        ("a\n", "Name", "", Reason.INVALID_FIELD, "key"),
        ("fine", " ", "", Reason.MISSING_FIELD, "name"),
        ("fine", "x" * 257, "", Reason.TEXT_TOO_LONG, "name"),
        ("fine", "Name", "a\0b", Reason.MALFORMED_TEXT, "description"),
        ("fine", "\udfff", "", Reason.MALFORMED_TEXT, "name"),
    ],
)
def test_a_new_segment_needs_texts_that_can_be_kept(key: str, name: str, description: str, reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_texts(key, name, description)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_why_a_customer_is_a_champion_shows_the_scores() -> None:
    found = list(Plan(SHIPPED, CUTS).why("champions", bought(12, 200, 4, 99.5)))
    assert [(each.condition, each.value, each.held, each.depth) for each in found[1:]] == [
        ("5 <= recency score <= 5", "4 (12 days since the last order)", False, 1),
        (
            "4 <= frequency and monetary <= 5",
            "5 (frequency 4: 4 orders; monetary 5: 99.50 after refunds)",
            True,
            1,
        ),
    ]
    assert found[0].held is False


@pytest.mark.parametrize(
    ("cuts", "facts", "said"),
    [
        (CUTS, NEVER_BOUGHT, "no value"),
        (None, bought(1, 1, 1), "not computed yet"),
        (
            Cuts((), (), (), 3, AT),
            bought(1, 1, 1),
            "not computed: 3 customers with orders at 2026-01-01, at least 5 are needed for quintiles",
        ),
    ],
)
def test_why_says_what_is_missing_for_rfm(cuts: Cuts | None, facts: Facts, said: str) -> None:
    found = list(Plan(SHIPPED, cuts).why("loyal", facts))
    assert [each.held for each in found] == [False, False]
    assert found[1].value == said


def test_only_what_changed_is_told() -> None:
    standings = {"stays": Standing(True, AT), "leaves": Standing(True, AT), "was_out": Standing(False, AT)}
    later = AT + timedelta(days=1)
    known = ["stays", "leaves", "was_out", "fresh", "never"]
    found = list(changes(PROFILE, {"stays", "fresh", "was_out"}, standings, known=known, at=later))
    assert found == [
        Change("leaves", PROFILE, False, later),
        Change("was_out", PROFILE, True, later),
        Change("fresh", PROFILE, True, later),
    ]


def test_what_came_from_a_merge_is_told_again() -> None:
    standings = {"in": Standing(True, AT, is_doubtful=True), "out": Standing(False, AT, is_doubtful=True)}
    found = list(changes(PROFILE, {"in"}, standings, known=["in", "out"], at=AT))
    tick = AT + timedelta(microseconds=1)
    assert found == [Change("in", PROFILE, True, tick), Change("out", PROFILE, False, tick)]


@given(st.lists(st.booleans(), max_size=12))
def test_times_of_a_membership_ascend_while_the_clock_stands(wants: list[bool]) -> None:
    standings: dict[str, Standing] = {}
    times: list[datetime] = []
    for want in wants:
        for change in changes(PROFILE, {"s"} if want else set(), standings, known=["s"], at=AT):
            standings["s"] = Standing(change.entered, change.at)
            times.append(change.at)
    assert times == sorted(set(times))


def test_merges_are_followed_to_their_end() -> None:
    a, b, c, d = (UUID(int=number) for number in range(1, 5))
    assert final_targets([(a, b), (b, c), (d, a)]) == {a: c, b: c, d: a}
    assert final_targets([(a, b), (b, a)]) == {b: a}


def test_of_traits_the_newest_stays_and_of_equal_times_the_later() -> None:
    one, two = AT, AT + timedelta(seconds=1)
    traits = [
        Trait(PROFILE, "plan", '"new"', two),
        Trait(PROFILE, "plan", '"old"', one),
        Trait(PROFILE, "city", '"a"', one),
        Trait(PROFILE, "city", '"b"', one),
    ]
    assert {(each.name, each.stored) for each in newest_traits(traits)} == {("plan", '"new"'), ("city", '"b"')}
