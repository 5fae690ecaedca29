"""Follows the log: who was touched, public traits, profiles that merged or parted. Facts about services touch nobody."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from rapport.profiles.v1.event_pb2 import Event

from chassis.log import Position, Record, messages
from services.segmentation.domain import Trait, final_targets, newest_traits
from services.segmentation.store import ProjectionStore, Touched

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Of services, and of nobody else: profiles lets no client name such a source, and a service writes through no channel.
_OURS: Final = "rapport."


class Projector:
    """Its `handle` is what a Reader of the log calls."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Writes what the records say, and moves on."""
        batches: dict[str, _Batch] = {}
        for record, event in messages(records, Event, "segmentation"):
            batches.setdefault(record.tenant_id, _Batch()).add(event, (record.xid, record.seq))
        touched = {tenant: found for tenant, batch in batches.items() if (found := batch.touched())}
        await self._store.apply(touched, position)


class _Batch:
    """What the events of one tenant say."""

    def __init__(self) -> None:
        self._nodes: dict[UUID, tuple[int, int]] = {}
        self._traits: list[Trait] = []
        self._merges: list[tuple[UUID, UUID]] = []
        self._parted: set[UUID] = set()

    def add(self, event: Event, place: tuple[int, int]) -> None:
        if event.source.startswith(_OURS) and not event.channel:
            if event.name == "Profile Merged" and (merge := _merge_of(event)):
                self._merges.append(merge)
                self._nodes[merge[1]] = place
            elif event.name == "Profile Unmerged" and (parting := _merge_of(event)):
                restored = _restored(event)
                self._parted.update(parting)
                self._traits.extend(restored)
                self._nodes.update(dict.fromkeys([*parting, *(trait.profile_id for trait in restored)], place))
        elif event.node_id:
            node = UUID(event.node_id)
            self._nodes[node] = place
            if event.type == "identify":
                self._traits.extend(_traits_of(event, node))

    def touched(self) -> Touched | None:
        if not self._nodes:
            return None
        return Touched(self._nodes, newest_traits(self._traits), final_targets(self._merges), self._parted)


def _object_of(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _merge_of(event: Event) -> tuple[UUID, UUID] | None:
    said = _object_of(event.properties)
    try:
        return UUID(said["from"]), UUID(said["into"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _traits_of(event: Event, node: UUID) -> list[Trait]:
    ts = _EPOCH + timedelta(microseconds=event.ts_us)
    return [Trait(node, name, _stored(value), ts) for name, value in _object_of(event.properties).items()]


def _restored(event: Event) -> list[Trait]:
    """The traits of profiles that parted, each under the identifier that it was told of. What cannot be read is left out."""
    found: list[Trait] = []
    for said in _object_of(event.properties).get("traits", []):
        with suppress(KeyError, ValueError, TypeError, AttributeError):
            ts = datetime.fromisoformat(said["time"])
            found.append(Trait(UUID(said["node"]), str(said["name"]), _stored(said["value"]), ts))
    return found


def _stored(value: Any) -> str:
    """Lists and objects are only present or not, so nothing of them is kept."""
    if isinstance(value, list | dict):
        return "[]"
    return json.dumps(value)
