"""Reads the log: who did what an experiment or a model's outcome counts, who was scored, who became whom."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from rapport.profiles.v1.event_pb2 import Event

from chassis import telemetry
from chassis.log import Position, Record, messages
from services.evaluation.domain.merges import final_profiles
from services.evaluation.store.projection import (
    ALWAYS_TRACKED,
    Changes,
    Outcome,
    Parting,
    ProjectionStore,
    RecordedScore,
)

# Services sign what they tell; a customer's own event of the same name is not a fact.
_FACTS: Final = "rapport."
_MERGED: Final = "Profile Merged"
_UNMERGED: Final = "Profile Unmerged"
_SCORED: Final = "Churn Scored"
_CONSUMER: Final = "evaluation"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Merge(msgspec.Struct):
    from_: UUID = msgspec.field(name="from")
    into: UUID


class _Parting(msgspec.Struct):
    from_: UUID = msgspec.field(name="from")
    into: UUID
    nodes: list[UUID]


class _Features(msgspec.Struct):
    days_since_last_order: float


class _Score(msgspec.Struct, rename="camel"):
    model: str
    version: str
    probability: float
    features: _Features
    logistic_probability: float | None = None


class Projector:
    """`handle` is what a log reader calls."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Writes what the records say and moves the cursor on, all or nothing."""
        # Read after the log: who created an experiment before an event came in finds that event counted.
        tracked = await self._store.tracked_names()
        await self._store.apply(changes_of(records, tracked), position)


def changes_of(records: Sequence[Record], tracked: Mapping[str, frozenset[str]]) -> dict[str, Changes]:
    """By tenant. Of customers' events only those of `tracked` names, and those that some model predicts."""
    changes: dict[str, Changes] = {}
    merges: dict[str, list[tuple[UUID, UUID]]] = {}
    for record, event in messages(records, Event, _CONSUMER):
        if event.type != "track" or not event.node_id:
            continue
        tenant = record.tenant_id
        mine = changes.setdefault(tenant, Changes())
        try:
            if event.name in ALWAYS_TRACKED or event.name in tracked.get(tenant, ()):
                mine.outcomes.append(Outcome(UUID(event.node_id), event.name, _moment(event.ts_us)))
            if event.name == _MERGED and event.source.startswith(_FACTS):
                merge = msgspec.json.decode(event.properties, type=_Merge)
                merges.setdefault(tenant, []).append((merge.from_, merge.into))
                mine.merge(merge.from_, merge.into)
            elif event.name == _UNMERGED and event.source.startswith(_FACTS):
                parting = msgspec.json.decode(event.properties, type=_Parting)
                mine.partings.append(Parting(parting.from_, parting.into, parting.nodes))
            elif event.name == _SCORED and event.source.startswith(_FACTS):
                mine.scores.append(_score(event))
        except (ValueError, OverflowError, msgspec.MsgspecError):
            telemetry.LOG_UNREADABLE.labels(_CONSUMER).inc()
    for tenant, pairs in merges.items():
        changes[tenant].merges = final_profiles(pairs)
    return {tenant: change for tenant, change in changes.items() if change.says_something}


def _score(event: Event) -> RecordedScore:
    score = msgspec.json.decode(event.properties, type=_Score)
    numbers = (score.probability, score.features.days_since_last_order, score.logistic_probability or 0.0)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a score is not a number")
    return RecordedScore(
        profile_id=UUID(event.node_id),
        model=score.model,
        version=score.version,
        as_of=_moment(event.ts_us),
        probability=score.probability,
        logistic_probability=score.logistic_probability,
        recency_days=score.features.days_since_last_order,
    )


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
