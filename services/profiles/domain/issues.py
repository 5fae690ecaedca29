"""What somebody ought to look at: identifiers that too many share, and profiles that are full."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from services.profiles.domain.identity import LIMITS, MAX_NODES, MAX_USERS, Late, Link, Namespace, Step, namespace_of


class IssueKind(Enum):
    """What somebody ought to look at."""

    # An identifier that comes with too many people.
    SHARED = "shared"
    # A profile that takes no more identifiers of some kind.
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Issue:
    """`node_id`: the shared identifier, or the profile that is full."""

    node_id: UUID
    kind: IssueKind
    since_us: int


def issues(steps: Mapping[UUID, Sequence[Step]], links: Iterable[Link], late: Set[Late] = frozenset()) -> list[Issue]:
    """Of all these nodes, and of the profiles that they are now."""
    found: list[Issue] = []
    users: dict[UUID, set[UUID]] = {}
    for link in sorted(links, key=lambda each: each.order):
        for end, other in ((link.a, link.b), (link.b, link.a)):
            if end in steps and namespace_of(end) is not Namespace.USER_ID is namespace_of(other) and (end, link) not in late:
                mine = users.setdefault(end, set())
                if other not in mine and len(mine) == MAX_USERS:
                    found.append(Issue(end, IssueKind.SHARED, link.since_us))
                mine.add(other)
    members: dict[UUID, list[UUID]] = {}
    for node, each in steps.items():
        members.setdefault(each[-1].profile_id, []).append(node)
    for profile_id, nodes in members.items():
        if len(nodes) >= min(LIMITS[namespace] for namespace in LIMITS if namespace is not Namespace.USER_ID):
            counts = Counter(namespace_of(node) for node in nodes)
            if any(count >= LIMITS[each] > 1 for each, count in counts.items()) or len(nodes) >= MAX_NODES:
                found.append(Issue(profile_id, IssueKind.FULL, max(steps[node][-1].since_us or 0 for node in nodes)))
    return found
