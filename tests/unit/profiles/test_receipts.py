"""What became of a message, out of what is known of it."""

from datetime import UTC, datetime, timedelta

import pytest

from services.profiles.receipts import Fate, FateStatus, fates_of
from services.profiles.store.receipts import Held, Refused, Story

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ONE, TWO, THREE = (NOON + timedelta(hours=hours) for hours in (1, 2, 3))


def held(state: str, decided: datetime | None = None) -> Held:
    return Held(b"\x01" * 16, state, ONE, decided, "track", "Paid", 3, "/required", "properties.price", "m")


def refused(at: datetime) -> Refused:
    return Refused(at, "track", "MISSING_FIELD", "event", "m")


@pytest.mark.parametrize(
    ("accepted", "refusals", "waiting", "expected"),
    [
        (None, [], None, []),
        (NOON, [], None, ["ACCEPTED"]),
        (TWO, [NOON, ONE], None, ["ACCEPTED", "REJECTED", "REJECTED"]),
        (NOON, [ONE], None, ["REJECTED", "ACCEPTED"]),
        (None, [], held("waiting"), ["QUARANTINED"]),
        (ONE, [NOON], held("replayed", THREE), ["REPLAYED", "REJECTED"]),
        (TWO, [], held("waiting"), ["ACCEPTED", "QUARANTINED"]),
        (TWO, [], held("superseded", THREE), ["SUPERSEDED", "ACCEPTED"]),
        (TWO, [], held("superseded", TWO), ["ACCEPTED", "SUPERSEDED"]),
        (None, [THREE], held("discarded", TWO), ["REJECTED", "DISCARDED"]),
        (None, [], held("expired", TWO), ["EXPIRED"]),
    ],
)
def test_fates_come_with_the_newest_state_first(
    accepted: datetime | None, refusals: list[datetime], waiting: Held | None, expected: list[str]
) -> None:
    story = Story(accepted, 0, None, [refused(at) for at in refusals], waiting, None)
    assert [fate.status.name for fate in fates_of(story)] == expected


def test_what_was_held_says_by_which_rule() -> None:
    (fate,) = fates_of(Story(None, 0, None, [], held("waiting"), None))
    assert fate == Fate(FateStatus.QUARANTINED, ONE, None, "track", "PLAN_VIOLATION", "properties.price", "m", held("waiting"))
