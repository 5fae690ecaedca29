"""Reads the log: which model was promoted, which profile became which, and which parted again."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from rapport.profiles.v1.event_pb2 import Event

from chassis import telemetry
from chassis.log import Position, Record, messages
from services.scoring.domain import Champion, Changes
from services.scoring.store import ScoreStore

# Services sign what they tell; profiles lets no client use such a source.
_OURS: Final = "rapport."
_PROMOTED: Final = "Model Promoted"
_MERGED: Final = "Profile Merged"
_UNMERGED: Final = "Profile Unmerged"
_CONSUMER: Final = "scoring"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Promotion(msgspec.Struct, rename="camel"):
    model: str
    registered_name: str
    to_version: str
    digest: str
    feature_digest: str


class _Merge(msgspec.Struct):
    from_: UUID = msgspec.field(name="from")
    into: UUID


class Projector:
    """`handle` is what a log reader calls; `promoted` is called after a promotion has been written."""

    def __init__(self, store: ScoreStore, promoted: Callable[[], None]) -> None:
        self._store = store
        self._promoted = promoted

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Writes what the records say and moves the cursor on, all or nothing."""
        changes = changes_of(records)
        await self._store.apply(changes, position)
        if any(change.champions for change in changes.values()):
            self._promoted()


def changes_of(records: Sequence[Record]) -> dict[str, Changes]:
    """By tenant. What cannot be read is counted and left out."""
    found: dict[str, Changes] = {}
    for record, event in messages(records, Event, _CONSUMER):
        try:
            if event.name in (_PROMOTED, _MERGED, _UNMERGED) and event.source.startswith(_OURS):
                _add(found.setdefault(record.tenant_id, Changes()), event, record.received_at)
        except (msgspec.MsgspecError, ValueError):
            telemetry.LOG_UNREADABLE.labels(_CONSUMER).inc()
    return found


def _add(changes: Changes, event: Event, recorded: datetime) -> None:
    if event.name in (_MERGED, _UNMERGED):
        merge = msgspec.json.decode(event.properties, type=_Merge)
        if event.name == _MERGED:
            changes.merges.append((merge.from_, merge.into))
        else:
            changes.parted |= {merge.from_, merge.into}
        return
    said = msgspec.json.decode(event.properties, type=_Promotion)
    promoted = _EPOCH + timedelta(microseconds=event.ts_us)
    changes.champions[said.model] = Champion(
        said.registered_name, said.to_version, said.digest, said.feature_digest, promoted, recorded
    )
