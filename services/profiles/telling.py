"""What the log is told of profiles that merged or parted: whoever keeps rows by profile has to move them."""

import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from rapport.profiles.v1 import event_pb2

from chassis import tracing
from chassis.log import Position
from services.profiles.domain.clock import moment_of
from services.profiles.domain.identity import Merge, Moves, Parting
from services.profiles.jsontext import dumps
from services.profiles.store.log import Entry
from services.profiles.tenancy import Tenant

SOURCE: Final = "rapport.profiles"
MERGED: Final = "Profile Merged"
UNMERGED: Final = "Profile Unmerged"


def told(tenant: Tenant, found: Moves, position: Position) -> list[Entry]:
    """A `Profile Merged` or `Profile Unmerged` for each, merges first.

    `position` is how far the log was read: the same two profiles may merge and part again and again.
    """
    received_us = time.time_ns() // 1_000
    place = f"{position.to_xid}:{position.to_seq}"
    return [
        *(_merged(tenant, merge, place, received_us) for merge in found.merges),
        *(_unmerged(tenant, parting, found, place, received_us) for parting in found.partings),
    ]


def _merged(tenant: Tenant, merge: Merge, place: str, received_us: int) -> Entry:
    said = {"from": str(merge.from_id), "into": str(merge.into_id), "since": _text(merge.since_us)}
    message_id = f"merge:{merge.from_id}:{merge.into_id}:{place}"
    return _entry(tenant, MERGED, message_id, merge.from_id, merge.since_us, received_us, said)


def _unmerged(tenant: Tenant, parting: Parting, found: Moves, place: str, received_us: int) -> Entry:
    """With the public traits of both, node by node: who keeps them by profile cannot tell them apart any more."""
    both = [*found.traits.get(parting.from_id, ()), *found.traits.get(parting.into_id, ())]
    since_us = received_us if parting.since_us is None else parting.since_us
    said = {
        "from": str(parting.from_id),
        "into": str(parting.into_id),
        "nodes": [str(node) for node in parting.nodes],
        "traits": [
            {"node": str(each.node), "name": each.name, "value": msgspec.Raw(each.value.encode()), "time": _text(each.ts_us)}
            for each in both
        ],
        "since": _text(since_us),
    }
    message_id = f"unmerge:{parting.from_id}:{parting.into_id}:{place}"
    return _entry(tenant, UNMERGED, message_id, parting.into_id, since_us, received_us, said)


def _entry(
    tenant: Tenant, name: str, message_id: str, node_id: UUID, ts_us: int, received_us: int, said: Mapping[str, Any]
) -> Entry:
    event = event_pb2.Event(
        event_id=tenant.keys.fact_id(message_id),
        type="track",
        name=name,
        ts_us=ts_us,
        known_us=ts_us,
        received_us=received_us,
        node_id=str(node_id),
        properties=dumps(said),
        source=SOURCE,
        traceparent=tracing.recorded(),
    )
    return Entry(event.event_id, node_id, moment_of(received_us), event.SerializeToString())


def _text(us: int) -> str:
    return moment_of(us).isoformat(timespec="microseconds").replace("+00:00", "Z")
