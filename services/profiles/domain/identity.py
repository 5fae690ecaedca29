"""Who is whom: pseudonymous nodes, the links between them, and the profile that a node belonged to at any time.

Everything follows from the set of links and rulings alone. They are taken in the order of (time, event id), so the order
in which they came does not matter, and what is so at an instant depends on nothing later.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Final, TypeAlias
from uuid import UUID

# A component takes no more nodes beyond this: a shared device or a test account would else swallow everybody.
MAX_NODES: Final = 100
# Of a node only its first links count; one with more is no person.
MAX_LINKS: Final = 300
# An identifier that comes with more user ids than this is shared, and joins nobody from then on.
MAX_USERS: Final = 5


class Namespace(Enum):
    """What kind of identifier a node stands for. A smaller number wins a merge. 16 kinds are possible."""

    USER_ID = 0
    ANONYMOUS_ID = 1
    EMAIL = 2
    PHONE = 3
    DEVICE_ID = 4
    EXTERNAL_ID = 5

    def __init__(self, _: int) -> None:
        # As it is written in references and answers: "user_id".
        self.label = self.name.lower()


# How many of a kind one profile may have. More user ids than one come only by an alias call or a person's word.
LIMITS: Final[Mapping[Namespace, int]] = {
    Namespace.USER_ID: 1,
    Namespace.ANONYMOUS_ID: MAX_NODES,
    Namespace.EMAIL: 5,
    Namespace.PHONE: 5,
    Namespace.DEVICE_ID: 20,
    Namespace.EXTERNAL_ID: 20,
}


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


Pair: TypeAlias = tuple[UUID, UUID]


def pair_of(one: UUID, other: UUID) -> Pair:
    """Both, the smaller first."""
    return (one, other) if one.int < other.int else (other, one)


@dataclass(frozen=True, slots=True)
class Link:
    """Two nodes are one person from `since_us` on: that event is the first to say so. `a` is the smaller of both."""

    a: UUID
    b: UUID
    since_us: int
    event_id: bytes = b""

    @property
    def order(self) -> tuple[int, bytes, int, int]:
        """When its turn is."""
        return self.since_us, self.event_id, self.a.int, self.b.int

    @property
    def is_explicit(self) -> bool:
        """Whether somebody said that two user ids are one: an alias call, or a person. No other event names two."""
        return namespace_of(self.a) is Namespace.USER_ID is namespace_of(self.b)


def link_of(one: UUID, other: UUID, since_us: int, event_id: bytes = b"") -> Link:
    """A link with its ends in order."""
    return Link(*pair_of(one, other), since_us, event_id)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A person's word on two nodes, from `since_us` on: `is_parted`, and never one again, or that no longer."""

    a: UUID
    b: UUID
    since_us: int
    event_id: bytes
    is_parted: bool


@dataclass(frozen=True, slots=True)
class Step:
    """From `since_us` on (None: since ever) a node belongs to `profile_id`."""

    profile_id: UUID
    since_us: int | None


class Refusal(Enum):
    """Why a link joins nobody."""

    PARTED = "unmerged"
    SHARED = "shared"
    USERS = "user_id_limit"
    LIMIT = "limit"
    LINKS = "too_many_links"


@dataclass(frozen=True, slots=True)
class Resolved:
    """`steps` of each node, oldest first, and why links among them are `refused` in the end."""

    steps: dict[UUID, list[Step]]
    refused: dict[Pair, Refusal]


# A node, and a link of it that comes after all that count at this node.
Late: TypeAlias = tuple[UUID, Link]


@dataclass(slots=True, eq=False)
class _Component:
    name: UUID
    nodes: list[UUID]
    counts: dict[Namespace, int]


class _Graph:
    """Joins nodes, link by link, while some pairs are parted."""

    def __init__(self, nodes: Iterable[UUID], parted: Iterable[Pair], late: Set[Late], limit: int) -> None:
        self._late = late
        self.components = {node: _Component(node, [node], {namespace_of(node): 1}) for node in nodes}
        self._parted = [pair for pair in parted if pair[0] in self.components and pair[1] in self.components]
        self._limit = limit
        self._users: dict[UUID, set[UUID]] = {}

    def join(self, link: Link) -> _Component | Refusal | None:
        """What both ends became part of; None where nothing changed, or one end is of no concern here."""
        is_shared = self._is_shared(link)
        mine, theirs = self.components.get(link.a), self.components.get(link.b)
        if mine is None or theirs is None or mine is theirs:
            return None
        if (refusal := self._refusal(link, mine, theirs, is_shared)) is not None:
            return refusal
        joined = _Component(winner((mine.name, theirs.name)), mine.nodes + theirs.nodes, dict(mine.counts))
        for namespace, count in theirs.counts.items():
            joined.counts[namespace] = joined.counts.get(namespace, 0) + count
        for node in joined.nodes:
            self.components[node] = joined
        return joined

    def _is_shared(self, link: Link) -> bool:
        """Also counts the user: what an identifier was seen with counts whether it joined or not."""
        found = False
        for end, other in ((link.a, link.b), (link.b, link.a)):
            if namespace_of(end) is not Namespace.USER_ID and (end, link) not in self._late:
                users = self._users.setdefault(end, set())
                if namespace_of(other) is Namespace.USER_ID:
                    users.add(other)
                found |= len(users) > MAX_USERS
        return found

    def _refusal(self, link: Link, mine: _Component, theirs: _Component, is_shared: bool) -> Refusal | None:
        if (link.a, link) in self._late or (link.b, link) in self._late:
            return Refusal.LINKS
        for a, b in self._parted:
            ends = (self.components[a], self.components[b])
            if ends in ((mine, theirs), (theirs, mine)):
                return Refusal.PARTED
        if is_shared:
            return Refusal.SHARED
        for namespace, count in mine.counts.items():
            if (other := theirs.counts.get(namespace)) and count + other > LIMITS[namespace]:
                if namespace is not Namespace.USER_ID:
                    return Refusal.LIMIT
                if not link.is_explicit:
                    return Refusal.USERS
        return Refusal.LIMIT if len(mine.nodes) + len(theirs.nodes) > self._limit else None


def histories(
    nodes: Iterable[UUID],
    links: Iterable[Link],
    rulings: Iterable[Ruling] = (),
    *,
    late: Set[Late] = frozenset(),
    limit: int = MAX_NODES,
) -> Resolved:
    """To whom each node belonged, since when. A node belongs to itself first.

    A ruling takes effect as if it had always been so, but from its own time on: before it, all stays as it was known. Of
    several steps at one instant only the last stands. A link that leads out of `nodes` joins nobody, but counts for sharing.
    """
    steps = {node: [Step(node, None)] for node in nodes}
    ordered = sorted(links, key=lambda link: link.order)
    said = sorted(rulings, key=lambda each: (each.since_us, each.event_id))
    refused: dict[Pair, Refusal] = {}
    parted: set[Pair] = set()
    starts: list[int | None] = [None, *sorted({each.since_us for each in said}), None]
    for start, end in pairwise(starts):
        for each in said:
            if each.since_us == start:
                (parted.add if each.is_parted else parted.discard)((each.a, each.b))
        graph = _Graph(steps, parted, late, limit)
        refused = _run(graph, ordered, steps, start, end)
    return Resolved(steps, refused)


def _run(
    graph: _Graph, links: Sequence[Link], steps: dict[UUID, list[Step]], start: int | None, end: int | None
) -> dict[Pair, Refusal]:
    """All links before `end`; what became of them before `start` is one step at `start`."""
    refused: dict[Pair, Refusal] = {}
    has_begun = start is None
    for link in links:
        if end is not None and link.since_us >= end:
            break
        if not has_begun and start is not None and link.since_us >= start:
            _begin(graph, steps, start)
            has_begun = True
        became = graph.join(link)
        if isinstance(became, Refusal):
            refused[link.a, link.b] = became
        elif became is not None and has_begun:
            for node in became.nodes:
                _step(steps[node], Step(became.name, link.since_us))
    if not has_begun and start is not None:
        _begin(graph, steps, start)
    return {pair: why for pair, why in refused.items() if graph.components[pair[0]] is not graph.components[pair[1]]}


def _begin(graph: _Graph, steps: dict[UUID, list[Step]], start: int) -> None:
    for node, component in graph.components.items():
        _step(steps[node], Step(component.name, start))


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


@dataclass(frozen=True, slots=True)
class Parting:
    """Nodes that belong to another profile than the one that they were part of. `since_us` None: as was always so."""

    from_id: UUID
    into_id: UUID
    nodes: tuple[UUID, ...]
    since_us: int | None


@dataclass(frozen=True, slots=True)
class NodeTrait:
    """The newest value of a public trait of one node, as JSON."""

    node: UUID
    name: str
    value: str
    ts_us: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What became of profiles. The merges come first. `traits`: those of all nodes of profiles that parted."""

    merges: Sequence[Merge] = ()
    partings: Sequence[Parting] = ()
    traits: Mapping[UUID, Sequence[NodeTrait]] = field(default_factory=dict[UUID, Sequence[NodeTrait]])


def moves(before: Mapping[UUID, UUID], after: Mapping[UUID, Sequence[Step]]) -> Moves:
    """What tells others how nodes came from their profile of `before` to where they belong now, in the order of ids."""
    merges: list[Merge] = []
    for profile_id in sorted(set(before.values()), key=lambda each: each.int):
        last = after[profile_id][-1] if profile_id in after else None
        if last is not None and last.profile_id != profile_id and last.since_us is not None:
            merges.append(Merge(profile_id, last.profile_id, last.since_us))
    leads = {merge.from_id: merge.into_id for merge in merges}
    parted: dict[Pair, list[UUID]] = {}
    for node, profile_id in before.items():
        expected, last = leads.get(profile_id, profile_id), after[node][-1]
        if last.profile_id != expected:
            parted.setdefault((expected, last.profile_id), []).append(node)
    return Moves(merges, [_parting(pair, parted[pair], after) for pair in sorted(parted)])


def _parting(pair: Pair, nodes: Sequence[UUID], after: Mapping[UUID, Sequence[Step]]) -> Parting:
    times = [since for node in nodes if (since := after[node][-1].since_us) is not None]
    return Parting(*pair, tuple(sorted(nodes)), max(times, default=None))


def losing(
    before: Mapping[UUID, Sequence[Step]],
    after: Mapping[UUID, Sequence[Step]],
    outward: Iterable[Link],
    *,
    has_rulings: bool,
) -> set[UUID]:
    """The outer ends of those `outward` links that were refused and may now be followed.

    A limit that refuses a link refuses it to every greater component too. So only where a component has less nodes at the
    link's turn than it had, or where a ruling makes all links take their turn again, the other side has to be looked at.
    """
    changes = [_first_change(before[node], steps) for node, steps in after.items() if list(before[node]) != steps]
    if not changes:
        return set()
    earliest = min(changes)
    found: set[UUID] = set()
    for link in outward:
        inner, outer = (link.a, link.b) if link.a in after else (link.b, link.a)
        if has_rulings or (link.since_us >= earliest and _has_lost(before, after, inner, link.since_us)):
            found.add(outer)
    return found


def _first_change(before: Sequence[Step], after: Sequence[Step]) -> int:
    times = [step.since_us for step in {*before} ^ {*after} if step.since_us is not None]
    return min(times)


def _has_lost(before: Mapping[UUID, Sequence[Step]], after: Mapping[UUID, Sequence[Step]], node: UUID, us: int) -> bool:
    then, now = profile_at(before[node], us), profile_at(after[node], us)
    return any(profile_at(before[each], us) == then and profile_at(after[each], us) != now for each in before)


def profile_at(steps: Sequence[Step], us: int) -> UUID:
    """Where a node belonged at an instant."""
    found = steps[0].profile_id
    for step in steps[1:]:
        if step.since_us is None or step.since_us > us:
            break
        found = step.profile_id
    return found
