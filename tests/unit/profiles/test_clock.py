"""Times of events, by whichever clock."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.clock import ClockKind, event_time, microseconds, moment_of, parse_time, tenant_now

RECEIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
RECEIVED_US = microseconds(RECEIVED)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T08:30:00.123Z", datetime(2026, 1, 31, 8, 30, 0, 123_000, UTC)),
        ("2026-01-31T08:30:00.123456+02:00", datetime(2026, 1, 31, 6, 30, 0, 123_456, UTC)),
        ("2026-01-31 08:30", datetime(2026, 1, 31, 8, 30, tzinfo=UTC)),
        ("20260131", datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_iso_times_are_read(text: str, moment: datetime) -> None:
    assert moment_of(parse_time(text, "timestamp")) == moment


@pytest.mark.parametrize("text", ["yesterday", "31.01.2026", "2026-13-01", "1767225600", "2026-01-31T25:00:00Z", "\x00"])
def test_other_times_are_not(text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        parse_time(text, "sentAt")
    assert error.value.field == "sentAt"


def test_without_a_time_an_event_happened_when_it_was_received() -> None:
    assert event_time(RECEIVED_US) == RECEIVED_US
    assert event_time(RECEIVED_US, timestamp="", original=None, sent_us=5) == RECEIVED_US


def test_a_client_whose_clock_is_wrong_is_corrected_where_it_says_when_it_sent() -> None:
    sent_us = microseconds(RECEIVED - timedelta(days=3650))
    happened = (RECEIVED - timedelta(days=3650, minutes=5)).isoformat()
    corrected = microseconds(RECEIVED - timedelta(minutes=5))
    assert event_time(RECEIVED_US, original=happened, sent_us=sent_us) == corrected
    assert event_time(RECEIVED_US, timestamp=happened, sent_us=sent_us) == corrected
    assert event_time(RECEIVED_US, timestamp=happened) == microseconds(datetime.fromisoformat(happened))


@pytest.mark.parametrize(
    "moment",
    ["1969-07-20T20:17:00Z", "1970-01-01T12:00:00Z", "2026-06-02T12:00:01Z", "2027-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
)
def test_a_time_that_no_event_can_have_is_refused(moment: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        event_time(RECEIVED_US, timestamp=moment)
    assert (error.value.reason, error.value.field) == (Reason.TIMESTAMP_OUT_OF_BOUNDS, "timestamp")


def test_the_bounds_themselves_are_taken() -> None:
    for moment in ("1970-01-02T00:00:00Z", "2026-06-02T12:00:00Z"):
        event_time(RECEIVED_US, timestamp=moment)


def test_a_tenants_present_is_its_newest_event_or_the_walls() -> None:
    assert tenant_now(ClockKind.EVENTS, newest_us=5_000, wall_us=9_000_000) == 6_000
    assert tenant_now(ClockKind.EVENTS, newest_us=None, wall_us=9_000_000) == 9_000_000
    assert tenant_now(ClockKind.WALL, newest_us=5_000, wall_us=9_000_000) == 9_000_000
