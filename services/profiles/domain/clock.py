"""Times of events: how they are written, corrected for the client's clock, and bounded; and the clock of a tenant."""

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from chassis.errors import InvalidArgument, Reason

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US: Final = 86_400_000_000
# Zero stands for "no time" in too many clients to be believed.
EARLIEST_US: Final = DAY_US
_MICROSECOND: Final = timedelta(microseconds=1)
# What a timestamp in a call must fit, with room for arithmetic.
_LATEST_US: Final = (datetime(9998, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND


class ClockKind(Enum):
    """What a tenant takes for now."""

    WALL = "wall"
    # The newest event's time, for replayed history.
    EVENTS = "events"


def microseconds(moment: datetime) -> int:
    """Since the epoch. `moment` is aware."""
    return (moment - EPOCH) // _MICROSECOND


def moment_of(us: int) -> datetime:
    """The aware UTC datetime. Raises OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=us)


def parse_time(text: str, field: str) -> int:
    """Microseconds of an ISO-8601 time; one without a zone is UTC. Raises InvalidArgument."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"{field} is not an ISO-8601 time, like 2026-01-31T08:30:00.000Z", field=field) from None
    return microseconds(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def event_time(
    received_us: int, *, timestamp: str | None = None, original: str | None = None, sent_us: int | None = None
) -> int:
    """When an event happened, in microseconds, as Segment computes it.

    `timestamp` and `original` (originalTimestamp) are by the client's clock. Where the client says when it sent the call by
    that same clock, the difference is what counts: received - (sent - happened). Without either time it is when it was
    received. Raises InvalidArgument: unreadable, before 1970-01-02, or over a day after it was received.
    """
    if sent_us is not None:
        text, field = (
            (original, "originalTimestamp") if original and not _is_meant(timestamp, original) else (timestamp, "timestamp")
        )
    else:
        text, field = (timestamp, "timestamp") if timestamp else (original, "originalTimestamp")
    if not text:
        return received_us
    us = parse_time(text, field)
    if sent_us is not None:
        us = received_us - (sent_us - us)
    check_bounds(us, received_us, field)
    return us


def _is_meant(timestamp: str | None, original: str) -> bool:
    """Whether `timestamp` is a time that the caller gave, beside an originalTimestamp of the library's own making.

    RudderStack's libraries write into the latter when they were called. A clock that is a day wrong is rarer than that.
    """
    return (
        timestamp is not None
        and timestamp != ""
        and abs(parse_time(timestamp, "timestamp") - parse_time(original, "originalTimestamp")) > DAY_US
    )


def check_bounds(us: int, received_us: int, field: str = "timestamp") -> None:
    """Raises InvalidArgument where no event can be of this time."""
    if us < EARLIEST_US or us > min(received_us + DAY_US, _LATEST_US):
        raise InvalidArgument(
            f"{field} is before 1970-01-02 or more than 24 hours after the event was received",
            reason=Reason.TIMESTAMP_OUT_OF_BOUNDS,
            field=field,
        )


def tenant_now(kind: ClockKind, *, newest_us: int | None, wall_us: int) -> int:
    """The tenant's present, in microseconds. One without events yet is at the wall's."""
    if kind is ClockKind.WALL or newest_us is None:
        return wall_us
    return newest_us + 1_000
