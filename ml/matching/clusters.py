"""Pairs become clusters. Pure."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

Id = TypeVar("Id", bound=Hashable)


def connected(pairs: Iterable[tuple[Id, Id]]) -> list[set[Id]]:
    """Everything that pairs connect, directly or through others."""
    home: dict[Id, set[Id]] = {}
    for one, other in pairs:
        mine, theirs = home.setdefault(one, {one}), home.setdefault(other, {other})
        if mine is theirs:
            continue
        small, large = sorted((mine, theirs), key=len)
        large |= small
        home.update(dict.fromkeys(small, large))
    return list({id(each): each for each in home.values()}.values())


def one_to_one(pairs: Sequence[tuple[Id, Id]], weights: Sequence[float]) -> list[tuple[Id, Id]]:
    """Of pairs across two sources without duplicates, the heaviest of which no two share an end; equal weights go by order."""
    taken_left: set[Id] = set()
    taken_right: set[Id] = set()
    kept: list[tuple[Id, Id]] = []
    for index in sorted(range(len(pairs)), key=lambda each: (-weights[each], each)):
        left, right = pairs[index]
        if left not in taken_left and right not in taken_right:
            taken_left.add(left)
            taken_right.add(right)
            kept.append((left, right))
    return kept


def pairs_within(clusters: Iterable[Iterable[Id]]) -> set[frozenset[Id]]:
    """Every two that are in one cluster."""
    found: set[frozenset[Id]] = set()
    for cluster in clusters:
        members = list(cluster)
        found.update(frozenset((one, other)) for index, one in enumerate(members) for other in members[:index])
    return found


def label_of(records: Iterable[Id], clusters: Iterable[Iterable[Id]]) -> Mapping[Id, int]:
    """The number of each record's cluster; a record in none has one of its own."""
    labels = {member: number for number, cluster in enumerate(clusters) for member in cluster}
    for record in records:
        labels.setdefault(record, len(labels) + 1_000_000_000)
    return labels
