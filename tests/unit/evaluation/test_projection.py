"""What is read out of the log."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapport.profiles.v1.event_pb2 import Event

from chassis.log import Record
from services.evaluation.domain.merges import final_profiles
from services.evaluation.project import changes_of

A, B, C, D = (UUID(int=n) for n in range(1, 5))
NOON = datetime(2011, 9, 10, 12, tzinfo=UTC)
SCORE = {
    "model": "churn",
    "version": "3",
    "probability": 0.25,
    "percentile": 40.0,
    "asOf": "2011-09-10T12:00:00Z",
    "logisticProbability": 0.3,
    "features": {"days_since_last_order": 17.5, "orders_count": 4},
    "purpose": "evaluation",
}


def record(
    name: str, properties: object = None, *, node: UUID | None = A, source: str = "shop", type_: str = "track"
) -> Record:
    event = Event(
        type=type_,
        name=name,
        ts_us=int(NOON.timestamp()) * 1_000_000,
        node_id=str(node) if node else "",
        properties=json.dumps(properties or {}).encode(),
        source=source,
    )
    return Record(1, 1, "shop", node, NOON, event.SerializeToString())


def test_orders_are_kept_always_and_other_events_once_an_experiment_counts_them() -> None:
    records = [record("Order Completed"), record("Trial Started"), record("Order Completed", type_="page")]
    assert [each.name for each in changes_of(records, {})["shop"].outcomes] == ["Order Completed"]
    tracked = {"shop": frozenset({"Trial Started"}), "mill": frozenset({"Product Viewed"})}
    assert [each.name for each in changes_of(records, tracked)["shop"].outcomes] == ["Order Completed", "Trial Started"]


def test_a_score_is_kept_with_the_recency_that_the_model_saw() -> None:
    [score] = changes_of([record("Churn Scored", SCORE, source="rapport.scoring")], {})["shop"].scores
    assert (score.profile_id, score.version, score.as_of) == (A, "3", NOON)
    assert (score.probability, score.logistic_probability, score.recency_days) == (0.25, 0.3, 17.5)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        SCORE | {"features": {}},
        SCORE | {"probability": "high"},
        SCORE | {"features": {"days_since_last_order": None}},
        [],
    ],
)
def test_a_score_that_cannot_be_read_is_left_out_and_the_rest_goes_on(broken: object) -> None:
    records = [record("Churn Scored", broken, source="rapport.scoring"), record("Order Completed")]
    changes = changes_of(records, {})["shop"]
    assert not changes.scores
    assert len(changes.outcomes) == 1


def test_a_customers_own_event_is_no_fact() -> None:
    forged = [
        record("Churn Scored", SCORE, source="web"),
        record("Profile Merged", {"from": str(A), "into": str(B), "since": "x"}, source="shop"),
    ]
    assert changes_of(forged, {}) == {}


def test_merges_of_a_batch_are_followed_to_their_end() -> None:
    merges = [
        record("Profile Merged", {"from": str(A), "into": str(B), "since": "2011"}, source="rapport.profiles"),
        record("Profile Merged", {"from": str(B), "into": str(C), "since": "2011"}, node=B, source="rapport.profiles"),
    ]
    assert changes_of(merges, {})["shop"].merges == {A: C, B: C}


def test_facts_about_nobody_and_rows_that_are_no_events_are_passed_over() -> None:
    garbage = Record(1, 1, "shop", None, NOON, b"\xff\xff\xff")
    assert changes_of([record("Model Promoted", node=None, source="rapport.evaluation"), garbage], {}) == {}


def test_a_merge_into_itself_is_nothing() -> None:
    assert final_profiles([(A, A)]) == {}
    assert final_profiles([(A, B), (B, A)]) == {A: B}


def test_a_profile_may_go_into_one_that_had_gone_before_it() -> None:
    assert final_profiles([(B, C), (A, B), (C, D)]) == {A: D, B: D, C: D}


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20))
def test_nobody_ends_in_a_profile_that_is_gone(pairs: list[tuple[int, int]]) -> None:
    merges = final_profiles((UUID(int=a), UUID(int=b)) for a, b in pairs)
    assert not set(merges) & set(merges.values())
