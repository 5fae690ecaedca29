"""Follows the log: who entered or left a segment, who became whom, and who parted."""

import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from rapport.profiles.v1.event_pb2 import Event

from chassis.log import Position, Record, messages
from services.feedback.domain import Enrolment, Parting, in_order
from services.feedback.store import ProjectionStore

# Who may say what: a client's event of the same name says nothing.
_SOURCES: Final = {
    "Profile Merged": "rapport.profiles",
    "Profile Unmerged": "rapport.profiles",
    "Segment Entered": "rapport.segmentation",
    "Segment Exited": "rapport.segmentation",
}

Said = Enrolment | tuple[UUID, UUID] | Parting


class Projector:
    """Its `handle` is what a Reader of the log calls."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Writes what the records say, and moves on."""
        said: dict[str, list[Said]] = {}
        for record, event in messages(records, Event, "feedback"):
            if (each := said_by(event)) is not None:
                said.setdefault(record.tenant_id, []).append(each)
        await self._store.apply({tenant: in_order(each) for tenant, each in said.items()}, position)


def said_by(event: Event) -> Said | None:
    """An enrolment, (from, into) of a merge, or a parting; None for what is of no concern here."""
    # A service writes through no channel; a client may call its own as it likes.
    if not event.source or _SOURCES.get(event.name) != event.source or event.channel:
        return None
    try:
        properties: Any = json.loads(event.properties)
        if event.name == "Profile Merged":
            return UUID(properties["from"]), UUID(properties["into"])
        if event.name == "Profile Unmerged":
            nodes = [UUID(node) for node in properties["nodes"]]
            return Parting(UUID(properties["from"]), UUID(properties["into"]), nodes)
        return Enrolment(str(properties["segment"]), UUID(event.node_id), event.name == "Segment Entered")
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
