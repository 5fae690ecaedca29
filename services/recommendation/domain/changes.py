"""What the log tells, in this service's words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

# Each customer is in one of them; segmentation ships them.
LIFE_CYCLE: Final = frozenset({"potential", "new", "active", "lost"})


@dataclass(frozen=True, slots=True)
class Item:
    """As an order named it."""

    item_id: str
    name: str
    category: str
    named: datetime


@dataclass(frozen=True, slots=True)
class Purchase:
    """One item of one order. `node_id` is as the event said; who that is now, the store knows."""

    node_id: UUID
    item_id: str
    order_id: str
    bought: datetime
    known: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """Revenue of an order event, or a refund, below 0."""

    node_id: UUID
    event_id: bytes
    happened: datetime
    amount: float


@dataclass(frozen=True, slots=True)
class Move:
    """Into a life-cycle segment, or out of it."""

    node_id: UUID
    segment: str
    entered: bool
    when: datetime


@dataclass(frozen=True, slots=True)
class ChurnScore:
    """The newest as-of counts."""

    node_id: UUID
    probability: float
    as_of: datetime


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """Whether an item is in the catalogue; the highest version counts."""

    item_id: str
    in_catalogue: bool
    version: int


@dataclass(frozen=True, slots=True)
class Parting:
    """Nodes of a profile that belong to another one now."""

    profile_id: UUID
    into_id: UUID
    nodes: Sequence[UUID]


@dataclass(slots=True)
class Changes:
    """What one batch of the log says of one tenant, in the log's order."""

    items: dict[str, Item] = field(default_factory=dict[str, Item])
    purchases: list[Purchase] = field(default_factory=list[Purchase])
    payments: list[Payment] = field(default_factory=list[Payment])
    moves: list[Move] = field(default_factory=list[Move])
    scores: dict[UUID, ChurnScore] = field(default_factory=dict[UUID, ChurnScore])
    catalogue: dict[str, CatalogueEntry] = field(default_factory=dict[str, CatalogueEntry])
    merges: list[tuple[UUID, UUID]] = field(default_factory=list[tuple[UUID, UUID]])
    partings: list[Parting] = field(default_factory=list[Parting])

    def merge(self, gone: UUID, kept: UUID) -> None:
        """Profiles that parted just before and are one again never did."""
        self.merges.append((gone, kept))
        self.partings = [each for each in self.partings if {each.profile_id, each.into_id} != {gone, kept}]

    def name(self, item: Item) -> None:
        """The newest name counts."""
        known = self.items.get(item.item_id)
        if known is None or item.named >= known.named:
            self.items[item.item_id] = item

    def score(self, score: ChurnScore) -> None:
        """The newest as-of counts, and of equals the last."""
        known = self.scores.get(score.node_id)
        if known is None or score.as_of >= known.as_of:
            self.scores[score.node_id] = score


@dataclass(frozen=True, slots=True)
class Stay:
    """In a segment from `entered` on; `exited` None: still there."""

    node_id: UUID
    segment: str
    entered: datetime
    exited: datetime | None


def stays(moves: Iterable[Move]) -> tuple[list[Move], list[Stay]]:
    """Moves in order -> (exits from stays that began before them, stays that began among them)."""
    exits: list[Move] = []
    found: list[Stay] = []
    open_stays: dict[tuple[UUID, str], Move] = {}
    for move in moves:
        key = (move.node_id, move.segment)
        if move.entered:
            open_stays.setdefault(key, move)
        elif begun := open_stays.pop(key, None):
            found.append(Stay(*key, begun.when, move.when))
        else:
            exits.append(move)
    return exits, found + [Stay(*key, move.when, None) for key, move in open_stays.items()]


def final_profiles(merges: Iterable[tuple[UUID, UUID]]) -> Mapping[UUID, UUID]:
    """(from, into) in the order in which they happened -> from: the last into, with chains followed to their end."""
    into_of: dict[UUID, UUID] = {}
    for gone, kept in merges:
        end = into_of.get(kept, kept)
        if end == gone:
            continue  # what it went into had gone into it: nothing to follow
        for earlier, target in into_of.items():
            if target == gone:
                into_of[earlier] = end
        into_of[gone] = end
    return into_of
