"""What the training set knows, and when."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chassis.errors import Conflict, InvalidArgument
from ml.features import catalogue
from ml.training.archive import open_archive
from ml.training.dataset import HORIZON, Dataset, build, judged_instant, training_instants
from tests.integration.ml.shop import DAYS, OPENING, archive, node, order, shop
from tests.integration.ml.timelines import BEGINNING, World

ANN, BOB, VISITOR = node("ann"), node("bob"), node("visitor", anonymous=True)


def dataset_of(folder: Path, made: World, *instants: datetime) -> Dataset:
    with open_archive(archive(folder, made)) as connection:
        return build(connection, instants)


def customers(events: list[tuple[Any, ...]], *merges: tuple[str, str, datetime]) -> World:
    ids = [ANN, BOB, VISITOR]
    return World(ids, events, [*((each, each, BEGINNING) for each in ids), *merges])


def day(number: float) -> datetime:
    return OPENING + timedelta(days=number)


@pytest.mark.parametrize(
    ("next_order", "churned"), [(100.0, False), (189.99, False), (190.0, True), (None, True), (99.99, True)]
)
def test_a_customer_churns_who_does_not_order_in_the_ninety_days_from_the_instant_on(
    next_order: float | None, churned: bool, tmp_path: Path
) -> None:
    events = [order(ANN, 50), order(BOB, 400), *([order(ANN, next_order)] if next_order else [])]
    found = dataset_of(tmp_path, customers(events), day(100))
    assert found.profile_ids == [ANN], "Bob had not bought yet"
    assert found.labels.tolist() == [churned]


def test_an_order_after_a_merge_is_the_same_persons(tmp_path: Path) -> None:
    events = [order(ANN, 50), order(BOB, 120)]
    apart = dataset_of(tmp_path, customers(events), day(100))
    merged = dataset_of(tmp_path, customers(events, (BOB, ANN, day(130))), day(100))
    lost = dataset_of(tmp_path, customers(events, (ANN, BOB, day(110))), day(100))
    late = dataset_of(tmp_path, customers(events, (BOB, ANN, day(300))), day(100))
    assert [each.labels.tolist() for each in (apart, merged, lost, late)] == [[1], [0], [0], [1]]


def test_a_link_counts_from_when_it_was_learnt(tmp_path: Path) -> None:
    events = [order(ANN, 50), order(BOB, 60)]
    made = customers(events, (BOB, ANN, day(130)))
    found = dataset_of(tmp_path, made, day(100), day(140))
    orders = dict(zip(zip(found.as_of.tolist(), found.profile_ids, strict=True), found.matrix[:, 0], strict=True))
    instants = [each.replace(tzinfo=None) for each in (day(100), day(140))]
    assert orders == {(instants[0], ANN): 1, (instants[0], BOB): 1, (instants[1], ANN): 2}


def test_who_stays_anonymous_is_not_learnt_from(tmp_path: Path) -> None:
    events = [order(ANN, 50), order(VISITOR, 60)]
    assert dataset_of(tmp_path, customers(events), day(100)).profile_ids == [ANN]
    known = dataset_of(tmp_path, customers(events, (VISITOR, BOB, day(70))), day(100))
    assert sorted(known.profile_ids) == sorted([ANN, BOB])


def test_what_happens_later_changes_no_feature(tmp_path: Path) -> None:
    made = shop(customers=120)
    instants = (day(150), day(240))
    whole = dataset_of(tmp_path / "whole", made, *instants)
    past = World(made.profile_ids, [event for event in made.events if event[2] < day(240)], made.links)
    cut = dataset_of(tmp_path / "cut", past, *instants)
    assert whole.profile_ids == cut.profile_ids
    assert np.array_equal(whole.matrix, cut.matrix, equal_nan=True)
    assert cut.at(instants[1]).labels.all(), "nobody orders after the data ends"


def test_the_judged_instant_leaves_a_horizon_and_no_training_horizon_reaches_beyond_it(tmp_path: Path) -> None:
    made = shop(customers=30)
    # What services record about customers may be dated later, and is no data of theirs.
    made.events.append(order(ANN, DAYS + 200, source="rapport.scoring"))
    with open_archive(archive(tmp_path, made)) as connection:
        judged = judged_instant(connection)
        instants = training_instants(connection, judged)
    assert judged == day(DAYS - 91)
    assert instants[-1] + HORIZON == judged
    assert instants[0] >= OPENING + timedelta(days=90)
    assert {later - earlier for earlier, later in pairwise(instants)} == {timedelta(days=30)}


def test_too_little_history_is_said_so(tmp_path: Path) -> None:
    made = customers([order(ANN, 0), order(ANN, 200)])
    with open_archive(archive(tmp_path, made)) as connection, pytest.raises(Conflict, match="270 days"):
        training_instants(connection, judged_instant(connection))


def test_a_folder_without_an_archive_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no archive"), open_archive(tmp_path):
        pass


def test_the_digest_is_of_the_rows(tmp_path: Path) -> None:
    made = shop(customers=40)
    one, again = (dataset_of(tmp_path, made, day(200)) for _ in range(2))
    assert one.digest() == again.digest()
    made.events.append(order(one.profile_ids[0], 190))
    assert dataset_of(tmp_path, made, day(200)).digest() != one.digest()
    assert one.matrix.shape[1] == len(catalogue.NAMES)
