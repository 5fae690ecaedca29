"""What becomes of rows that are kept by profile when profiles merge."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Trait:
    """One public trait as an identify call gave it; `stored` is its JSON, null where it was unset."""

    profile_id: UUID
    name: str
    stored: str
    ts: datetime


def newest_traits(traits: Iterable[Trait]) -> list[Trait]:
    """For each profile and name the newest; of two at the same time the one that came later."""
    newest: dict[tuple[UUID, str], Trait] = {}
    for trait in traits:
        key = (trait.profile_id, trait.name)
        if key not in newest or trait.ts >= newest[key].ts:
            newest[key] = trait
    return list(newest.values())


def final_targets(merges: Iterable[tuple[UUID, UUID]]) -> Mapping[UUID, UUID]:
    """Where each merged profile ends after all merges (from, into), in order. Nobody ends in itself."""
    targets: dict[UUID, UUID] = {}
    for source, target in merges:
        targets = {old: target if new == source else new for old, new in targets.items()}
        targets[source] = target
    return {source: target for source, target in targets.items() if source != target}
