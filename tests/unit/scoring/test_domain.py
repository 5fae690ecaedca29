"""Who is scored, by what, and what is told of it."""

import math
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import numpy as np
import pytest
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2 import Fact

from chassis.log import Record
from services.scoring import facts
from services.scoring.domain import (
    Purpose,
    Refusal,
    Score,
    Subject,
    final_profiles,
    matrix_of,
    purpose_of,
    refusal_of,
    registered_name_of,
)
from services.scoring.project import changes_of

A, B, C = (UUID(int=number) for number in (1, 2, 3))
NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("profile_id", "values", "refusal"),
    [
        (A, {"orders_count": 1.0}, None),
        (A, {"orders_count": 0.0}, Refusal.NEVER_BOUGHT),
        (A, {"orders_count": math.nan}, Refusal.NEVER_BOUGHT),
        (A, {}, Refusal.NEVER_BOUGHT),
        (None, {"orders_count": 1.0}, Refusal.UNKNOWN_PROFILE),
    ],
)
def test_only_who_is_known_and_bought_is_scored(
    profile_id: UUID | None, values: dict[str, float], refusal: Refusal | None
) -> None:
    assert refusal_of(Subject("user_id:a", profile_id, values, None)) is refusal


@pytest.mark.parametrize(
    ("version", "at", "purpose"),
    [
        ("", None, Purpose.SERVING),
        ("3", None, Purpose.EVALUATION),
        ("", NOW, Purpose.EVALUATION),
        ("3", NOW, Purpose.EVALUATION),
    ],
)
def test_only_the_champion_now_is_serving(version: str, at: datetime | None, purpose: Purpose) -> None:
    assert purpose_of(version, at) is purpose


def test_a_matrix_has_the_models_columns_in_its_order() -> None:
    subjects = [Subject("a", A, {"x": 1.0, "y": 2.0}, None), Subject("b", B, {"y": 3.0}, None)]
    np.testing.assert_array_equal(matrix_of(subjects, ["y", "x"]), [[2, 1], [3, np.nan]])
    assert matrix_of([], ["y", "x"]).shape == (0, 2)


def test_tenants_have_models_of_their_own() -> None:
    assert registered_name_of("shop", "churn") != registered_name_of("other", "churn")


@pytest.mark.parametrize(
    ("merges", "expected"),
    [
        ([(A, B)], {A: B}),
        ([(A, B), (B, C)], {A: C, B: C}),
        ([(B, C), (A, B)], {B: C, A: C}),
        ([(A, B), (B, A)], {A: B}),
    ],
)
def test_merges_are_followed_to_their_end(merges: list[tuple[UUID, UUID]], expected: dict[UUID, UUID]) -> None:
    assert final_profiles(merges) == expected


def _score(probability: float = 0.25) -> Score:
    return Score("churn", "7", probability, 50.0, [], NOW, NOW, None, "f" * 64, 0.3, {"orders_count": 2.0})


def _message_id(probability: float, purpose: Purpose = Purpose.SERVING) -> str:
    return Fact.FromString(facts.scored(A, _score(probability), purpose)).message_id


def test_the_same_score_is_the_same_fact_and_another_is_another() -> None:
    assert _message_id(0.25) == _message_id(0.25) == f"score:churn:7:{A}:1717200000000000:serving:0.250000000"
    assert len({_message_id(0.25), _message_id(0.26), _message_id(0.25, Purpose.EVALUATION)}) == 3


def test_a_fact_says_what_evaluation_needs() -> None:
    fact = Fact.FromString(facts.scored(A, _score(), Purpose.SERVING))
    said = msgspec.json.decode(fact.properties)
    assert (fact.name, fact.profile_id, fact.source) == ("Churn Scored", str(A), "rapport.scoring")
    assert fact.timestamp.ToDatetime(UTC) == NOW
    assert said == {
        "model": "churn",
        "version": "7",
        "probability": 0.25,
        "percentile": 50.0,
        "asOf": "2024-06-01T00:00:00Z",
        "logisticProbability": 0.3,
        "features": {"orders_count": 2.0},
        "purpose": "serving",
    }


def _record(name: str, properties: bytes, source: str = "rapport.evaluation") -> Record:
    event = Event(type="track", name=name, ts_us=1_717_200_000_000_000, properties=properties, source=source)
    return Record(1, 1, "shop", None, NOW, event.SerializeToString())


def _promotion(version: str) -> bytes:
    said = {"model": "churn", "registeredName": "shop.churn", "toVersion": version, "digest": "d", "featureDigest": "f"}
    return msgspec.json.encode(said | {"fromVersion": "1", "kind": "promotion", "reason": "better", "actor": "key"})


def test_the_last_promotion_of_a_batch_counts() -> None:
    records = [_record("Model Promoted", _promotion(version)) for version in ("2", "3")]
    champion = changes_of(records)["shop"].champions["churn"]
    assert (champion.version, champion.registered_name, champion.promoted) == ("3", "shop.churn", NOW)


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"model":7}'])
def test_a_broken_promotion_is_left_out(broken: bytes) -> None:
    changes = changes_of([_record("Model Promoted", broken)])
    assert not any(change.champions for change in changes.values())


def test_what_is_not_ours_is_not_a_fact() -> None:
    assert changes_of([_record("Model Promoted", _promotion("2"), source="shop")]) == {}
    assert changes_of([_record("Order Completed", b"{}", source="shop")]) == {}
