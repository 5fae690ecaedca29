"""Page sizes, and page tokens: the key of the last row, opaque to callers."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.clock import microseconds, moment_of

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
# Before every row of a list that is read newest first, and of one that is read oldest first.
NEWEST: Final = (datetime(9999, 1, 1, tzinfo=UTC), b"\xff" * 32)
OLDEST: Final = (datetime(1, 1, 1, tzinfo=UTC), b"")


def page_size(given: int) -> int:
    """0 is the default. Raises InvalidArgument."""
    if not 0 <= given <= MAX_PAGE:
        raise InvalidArgument(f"a page has 1 to {MAX_PAGE} rows", field="page_size")
    return given or DEFAULT_PAGE


def profile_token(last: UUID) -> str:
    """For a list by profile id."""
    return _token(str(last))


def profile_after(token: str) -> UUID | None:
    """None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        (text,) = _parts(token)
        return UUID(text)
    except ValueError:
        raise _bad() from None


def moment_token(moment: datetime, row_id: bytes) -> str:
    """For a list by time and id, newest first."""
    return _token(str(microseconds(moment)), row_id.hex())


def moment_before(token: str) -> tuple[datetime, bytes]:
    """The key that all rows of the page are before. Raises InvalidArgument."""
    if not token:
        return NEWEST
    try:
        us, row_id = _parts(token)
        return moment_of(int(us)), bytes.fromhex(row_id)
    except (ValueError, OverflowError):
        raise _bad() from None


def moment_after(token: str) -> tuple[datetime, bytes]:
    """As `moment_before`, for what is read oldest first."""
    return moment_before(token) if token else OLDEST


def named_token(node_id: UUID, name: str) -> str:
    """For a list by node and a name."""
    return _token(str(node_id), name)


def named_after(token: str) -> tuple[UUID, str] | None:
    """None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        node_id, name = _parts(token)
        return UUID(node_id), name
    except ValueError:
        raise _bad() from None


def said_token(moment: datetime, event_id: bytes, purpose: str, channel: str) -> str:
    """For a list of what was said, newest first."""
    return _token(str(microseconds(moment)), event_id.hex(), purpose, channel)


def said_before(token: str) -> tuple[datetime, bytes, str, str] | None:
    """None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        us, event_id, purpose, channel = _parts(token)
        place = moment_of(int(us)), bytes.fromhex(event_id), purpose, channel
    except (ValueError, OverflowError):
        raise _bad() from None
    if "\x00" in purpose + channel:
        raise _bad()
    return place


def number_token(number: int) -> str:
    """For a list by number."""
    return _token(str(number))


def number_after(token: str) -> int:
    """0 for the first page. Raises InvalidArgument."""
    if not token:
        return 0
    try:
        (text,) = _parts(token)
        number = int(text)
    except ValueError:
        raise _bad() from None
    if not 0 <= number < 2**31:
        raise _bad()
    return number


def place_token(xid: int, seq: int) -> str:
    """For what is read in the order of the log."""
    return _token(str(xid), str(seq))


def place_after(token: str) -> tuple[int, int] | None:
    """None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        xid, seq = map(int, _parts(token))
    except ValueError:
        raise _bad() from None
    if not (0 <= xid < 2**63 and 0 <= seq < 2**63):
        raise _bad()
    return xid, seq


def _token(*parts: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _parts(token: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[str, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError):
        raise _bad() from None


def _bad() -> InvalidArgument:
    return InvalidArgument("the page token is not one of ours", reason=Reason.INVALID_CURSOR, field="page_token")
