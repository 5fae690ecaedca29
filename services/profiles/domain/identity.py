"""Who is whom: pseudonymous nodes, the links between them, and the profile that a node belonged to at any time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

# A component takes no more nodes beyond this: a shared device or a test account would else swallow everybody.
MAX_NODES: Final = 100


class Namespace(Enum):
    """What kind of identifier a node stands for. A smaller number wins a merge."""

    USER_ID = 0
    ANONYMOUS_ID = 1

    def __init__(self, _: int) -> None:
        # As it is written in references and answers: "user_id".
        self.label = self.name.lower()


def node_id_of(digest: bytes, namespace: Namespace) -> UUID:
    """The node of a keyed hash of at least 16 bytes: a version 8 UUID (RFC 9562) whose seventh byte ends in the namespace."""
    raw = bytearray(digest[:16])
    raw[6] = 0x80 | namespace.value
    raw[8] = (raw[8] & 0x3F) | 0x80
    return UUID(bytes=bytes(raw))


def namespace_of(node_id: UUID) -> Namespace:
    """The kind of identifier that a node of ours stands for. Raises ValueError for any other UUID."""
    return Namespace(node_id.bytes[6] & 0x0F)


def _rank(node_id: UUID) -> tuple[int, int]:
    return node_id.bytes[6] & 0x0F, node_id.int


def winner(nodes: Iterable[UUID]) -> UUID:
    """The node that names the profile: user ids before anonymous ids, then the smallest."""
    return min(nodes, key=_rank)


@dataclass(frozen=True, slots=True)
class Link:
    """Two nodes are one person from `since_us` on. `a` is the smaller of both."""

    a: UUID
    b: UUID
    since_us: int


def link_of(one: UUID, other: UUID, since_us: int) -> Link:
    """A link with its ends in order."""
    return Link(one, other, since_us) if one.int < other.int else Link(other, one, since_us)


@dataclass(frozen=True, slots=True)
class Step:
    """From `since_us` on (None: since ever) a node belongs to `profile_id`."""

    profile_id: UUID
    since_us: int | None


def histories(nodes: Iterable[UUID], links: Iterable[Link], *, limit: int = MAX_NODES) -> tuple[dict[UUID, list[Step]], int]:
    """(the steps of each node, oldest first; how many links were refused since a component would pass `limit`).

    Depends on the set of links alone, not on their order: they are taken by time, then by their ends. A node belongs to
    itself first. Of several steps at one instant only the last stands.
    """
    steps = {node: [Step(node, None)] for node in nodes}
    members = {node: [node] for node in steps}
    refused = 0
    for link in sorted(links, key=lambda each: (each.since_us, each.a.int, each.b.int)):
        mine, theirs = members[link.a], members[link.b]
        if mine is theirs:
            continue
        if len(mine) + len(theirs) > limit:
            refused += 1
            continue
        joined = mine + theirs
        profile_id = winner((steps[mine[0]][-1].profile_id, steps[theirs[0]][-1].profile_id))
        for node in joined:
            members[node] = joined
            _step(steps[node], Step(profile_id, link.since_us))
    return steps, refused


def _step(steps: list[Step], step: Step) -> None:
    if steps[-1].since_us == step.since_us:
        steps.pop()
    if steps[-1].profile_id != step.profile_id:
        steps.append(step)


@dataclass(frozen=True, slots=True)
class Merge:
    """A profile that became part of another."""

    from_id: UUID
    into_id: UUID
    since_us: int


def merges(before: Iterable[UUID], after: dict[UUID, list[Step]]) -> Sequence[Merge]:
    """Which of the profiles that stood `before` now lead to another, in the order of their ids."""
    found: list[Merge] = []
    for profile_id in sorted(set(before), key=lambda each: each.int):
        last = after[profile_id][-1] if profile_id in after else None
        if last is not None and last.profile_id != profile_id and last.since_us is not None:
            found.append(Merge(profile_id, last.profile_id, last.since_us))
    return found
