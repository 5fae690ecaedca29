"""What the log says of profiles, kept in its order: who entered or left a segment, who became whom, and who parted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A profile entered a segment, or left it."""

    segment: str
    profile_id: UUID
    entered: bool


@dataclass(frozen=True, slots=True)
class Merges:
    """From -> into; no target is a source."""

    targets: Mapping[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Parting:
    """Nodes of a profile that belong to another one now."""

    profile_id: UUID
    into_id: UUID
    nodes: Sequence[UUID]


# Steps of one kind that follow each other are written together.
Step: TypeAlias = "Sequence[Enrolment] | Merges | Parting"


def in_order(said: Iterable[Enrolment | tuple[UUID, UUID] | Parting]) -> list[Step]:
    """Runs of enrolments and of merges (from, into), and partings, as they came."""
    steps: list[Step] = []
    enrolments: list[Enrolment] = []
    merges: list[tuple[UUID, UUID]] = []

    def close_runs() -> None:
        if enrolments:
            steps.append(last_word(enrolments))
            enrolments.clear()
        if merges:
            steps.append(Merges(_targets(merges)))
            merges.clear()

    for each in said:
        if isinstance(each, Parting):
            close_runs()
            steps.append(each)
            continue
        run, other = (enrolments, merges) if isinstance(each, Enrolment) else (merges, enrolments)
        if other:
            close_runs()
        run.append(each)  # pyright: ignore[reportArgumentType]
    close_runs()
    return steps


def last_word(enrolments: Iterable[Enrolment]) -> list[Enrolment]:
    """For each segment and profile only what was said last."""
    return list({(each.segment, each.profile_id): each for each in enrolments}.values())


def _targets(merges: Iterable[tuple[UUID, UUID]]) -> Mapping[UUID, UUID]:
    """Where each merged profile ends after all merges, in order. Nobody ends in itself."""
    targets: dict[UUID, UUID] = {}
    for source, target in merges:
        targets = {old: target if new == source else new for old, new in targets.items()}
        targets[source] = target
    return {source: target for source, target in targets.items() if source != target}
