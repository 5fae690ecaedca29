"""What the log tells, and when a model is due."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from rapport.profiles.v1.event_pb2 import Event

from chassis.log import Record
from services.recommendation.domain.changes import Changes, Move, Stay, final_profiles, stays
from services.recommendation.domain.refresh import Freshness, is_due
from services.recommendation.project import changes_of

A, B, C = (UUID(int=number) for number in (1, 2, 3))
TIMES = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
DAY_US = 86_400_000_000


def _record(name: str, properties: object, *, source: str = "shop", node: str = str(A), type_: str = "track") -> Record:
    body = properties if isinstance(properties, bytes) else msgspec.json.encode(properties)
    event = Event(
        event_id=b"e" * 16, type=type_, name=name, ts_us=DAY_US, known_us=DAY_US, node_id=node, properties=body, source=source
    )
    return Record(1, 1, "shop", None, TIMES[0], event.SerializeToString())


def _one(name: str, properties: object, **changes: str) -> Changes:
    return changes_of([_record(name, properties, **changes)]).get("shop", Changes())


def test_an_order_is_purchases_and_a_payment() -> None:
    products = [
        {"product_id": "85123A", "name": "WHITE MUG", "price": 2.5, "quantity": 2, "category": "cups"},
        {"sku": 22423},
        {"name": "no id"},
        "nonsense",
    ]
    found = _one("Order Completed", {"order_id": 536365, "revenue": 7.5, "products": products})
    assert [(each.item_id, each.order_id) for each in found.purchases] == [("85123A", "536365"), ("22423", "536365")]
    assert found.items["85123A"].name == "WHITE MUG"
    assert [each.amount for each in found.payments] == [7.5]


def test_a_refund_is_a_payment_back() -> None:
    assert [each.amount for each in _one("Order Refunded", {"order_id": "1", "total": 12.5}).payments] == [-12.5]


@pytest.mark.parametrize("revenue", [None, "7.5", True, [], {}])
def test_an_amount_that_is_no_number_is_no_payment(revenue: object) -> None:
    assert _one("Order Completed", {"order_id": "1", "revenue": revenue, "products": []}).payments == []


@pytest.mark.parametrize("broken", [b"", b"[]", b"{", b'{"products":7}', b'{"products":[[]],"order_id":{}}'])
def test_a_broken_event_is_left_out(broken: bytes) -> None:
    assert _one("Order Completed", broken).purchases == []


def test_only_a_serving_score_counts_and_the_newest_of_them() -> None:
    serving = {"model": "churn", "version": "3", "probability": 0.7, "purpose": "serving"}
    records = [
        _record("Churn Scored", serving, source="rapport.scoring"),
        _record("Churn Scored", serving | {"probability": 0.1, "purpose": "evaluation"}, source="rapport.scoring"),
    ]
    [score] = changes_of(records)["shop"].scores.values()
    assert (score.node_id, score.probability) == (A, 0.7)


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("Churn Scored", {"probability": 0.7, "purpose": "serving"}),
        ("Segment Entered", {"segment": "active", "version": 1}),
        ("Profile Merged", {"from": str(A), "into": str(B)}),
        ("Catalogue Item Updated", {"item": "x", "inCatalogue": False, "version": 1}),
    ],
)
def test_a_customers_event_with_the_name_of_a_fact_is_none(name: str, properties: object) -> None:
    assert changes_of([_record(name, properties)]) == {}
    assert changes_of([_record(name, properties, source="rapport.other")]) != {}


def test_only_life_cycle_segments_are_kept() -> None:
    assert _one("Segment Entered", {"segment": "vip", "version": 1}, source="rapport.segmentation").moves == []
    assert len(_one("Segment Entered", {"segment": "lost", "version": 1}, source="rapport.segmentation").moves) == 1


def test_moves_become_stays_in_their_order() -> None:
    moves = [
        Move(A, "new", False, TIMES[0]),
        Move(A, "active", True, TIMES[0]),
        Move(A, "active", False, TIMES[1]),
        Move(A, "active", True, TIMES[1]),
        Move(B, "new", True, TIMES[2]),
    ]
    exits, begun = stays(moves)
    assert exits == moves[:1]
    assert begun == [
        Stay(A, "active", TIMES[0], TIMES[1]),
        Stay(A, "active", TIMES[1], None),
        Stay(B, "new", TIMES[2], None),
    ]


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


@pytest.mark.parametrize(
    ("freshness", "due"),
    [
        (Freshness(1000, 1000, quiet_s=99, age_s=9999), False),
        (Freshness(1000, 1019, quiet_s=99, age_s=99), False),
        (Freshness(1000, 1019, quiet_s=99, age_s=600), True),
        (Freshness(1000, 1020, quiet_s=3, age_s=5), True),
        (Freshness(1000, 1020, quiet_s=1, age_s=5), False),
        (Freshness(1000, 9999, quiet_s=0.1, age_s=61), True),
        (Freshness(100_000, 100_500, quiet_s=9, age_s=9), False),
        (Freshness(0, 20, quiet_s=3, age_s=1), True),
    ],
)
def test_a_model_is_due_when_enough_came_and_came_to_rest(freshness: Freshness, due: bool) -> None:
    assert is_due(freshness) is due
