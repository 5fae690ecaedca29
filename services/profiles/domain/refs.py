"""How callers name a profile: its id, `user_id:<id>` or `anonymous_id:<id>`.

Any other identifier stands in no reference, since references stand in URLs: it is looked up by a call of its own.
"""

from typing import Final
from uuid import UUID

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.identity import Namespace

MAX_ID_LENGTH: Final = 255


def parse(ref: str, *, field: str = "ref") -> UUID | tuple[Namespace, str]:
    """A profile id, or the identifier to be hashed. Raises InvalidArgument; the message does not repeat the reference."""
    for namespace in (Namespace.USER_ID, Namespace.ANONYMOUS_ID):
        prefix = f"{namespace.label}:"
        if ref.startswith(prefix):
            value = ref[len(prefix) :]
            if not 0 < len(value) <= MAX_ID_LENGTH or "\x00" in value:
                raise InvalidArgument(f"{prefix} is followed by 1 to {MAX_ID_LENGTH} characters, without NUL", field=field)
            return namespace, value
    if (found := profile_id_of(ref)) is None:
        raise InvalidArgument("a reference is a profile id, user_id:<id> or anonymous_id:<id>", field=field)
    return found


def profile_id_of(text: str) -> UUID | None:
    """The UUID, in its usual form of 36 characters; None where it is none."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None


def profile_id(text: str, *, field: str = "profile_id") -> UUID:
    """The UUID. Raises InvalidArgument."""
    if (found := profile_id_of(text)) is None:
        raise InvalidArgument("a profile id is a UUID of 36 characters", reason=Reason.INVALID_FIELD, field=field)
    return found
