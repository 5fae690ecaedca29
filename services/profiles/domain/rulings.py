"""A person's word on who is who, as the log holds it."""

from typing import Final
from uuid import UUID

import msgspec

from services.profiles.domain.identity import Ruling, pair_of

LINKED: Final = "Identities Linked"
PARTED: Final = "Identities Parted"


class Said(msgspec.Struct):
    """The properties of both facts."""

    a: UUID
    b: UUID


def ruling_of(name: str, properties: bytes, since_us: int, event_id: bytes) -> Ruling:
    """Raises msgspec.MsgspecError where the properties are none of ours."""
    said = msgspec.json.decode(properties, type=Said)
    return Ruling(*pair_of(said.a, said.b), since_us, event_id, name == PARTED)
