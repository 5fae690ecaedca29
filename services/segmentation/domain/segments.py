"""Segments: what is shipped, which a new one may be, who is in what, and what has changed."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Final
from uuid import UUID

from chassis.errors import Conflict, InvalidArgument, Reason
from services.segmentation.domain.conditions import (
    AllOf,
    Comparison,
    Condition,
    Facts,
    Finding,
    InSegment,
    Not,
    Operator,
    Subject,
    features_of,
    findings,
    is_storable,
    matches,
    references_of,
    traits_of,
)
from services.segmentation.domain.rfm import (
    RFM_FEATURES,
    RFM_SEGMENTS,
    Cuts,
    RfmScores,
    RfmSegment,
    rfm_scores,
    rfm_segment,
    rfm_value_of,
)

_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_TEXT: Final = 256
NEW_DAYS: Final = 30
NEW_ORDERS: Final = 2
LOST_DAYS: Final = 90


class Family(Enum):
    """Where a segment comes from."""

    CUSTOM = "custom"
    RFM = "rfm"
    LIFE_CYCLE = "life_cycle"


@dataclass(frozen=True, slots=True)
class Use:
    """What a segment is for. `channel` empty: any. profiles knows both, and what people allow."""

    purpose: str
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A segment as it stands. An RFM segment has no condition; its version is that of the tenant's quintile cuts."""

    key: str
    name: str
    description: str
    family: Family = Family.CUSTOM
    condition: Condition | None = None
    version: int = 1
    use: Use | None = None


def _days(name: str, sign: Operator, days: float) -> Comparison:
    return Comparison(Subject.FEATURE, name, sign, (days,))


_BOUGHT: Final = Comparison(Subject.FEATURE, "days_since_last_order", Operator.PRESENT)
_IS_NEW: Final = AllOf(
    (
        _days("days_since_first_order", Operator.LESS, NEW_DAYS),
        Comparison(Subject.FEATURE, "orders_count", Operator.LESS_OR_EQUAL, (NEW_ORDERS,)),
    )
)

# Each profile is in exactly one: never bought, or by the last order, and among those of late new or not.
_LIFE_CYCLE: Final = (
    Definition("potential", "Potential", "Never bought.", Family.LIFE_CYCLE, Not(_BOUGHT)),
    Definition(
        "new",
        "New",
        f"First order less than {NEW_DAYS} days ago, at most {NEW_ORDERS} orders.",
        Family.LIFE_CYCLE,
        AllOf((_days("days_since_last_order", Operator.LESS, LOST_DAYS), _IS_NEW)),
    ),
    Definition(
        "active",
        "Active",
        f"An order less than {LOST_DAYS} days ago, and not new.",
        Family.LIFE_CYCLE,
        AllOf((_days("days_since_last_order", Operator.LESS, LOST_DAYS), Not(InSegment("new")))),
    ),
    Definition(
        "lost",
        "Lost",
        f"No order for {LOST_DAYS} days or more.",
        Family.LIFE_CYCLE,
        _days("days_since_last_order", Operator.GREATER_OR_EQUAL, LOST_DAYS),
    ),
)

# Every tenant has these; their rules are ours to change.
SHIPPED: Final = (*_LIFE_CYCLE, *(Definition(each.key, each.name, each.description, Family.RFM) for each in RFM_SEGMENTS))


@dataclass(frozen=True)
class Plan:
    """All segments of a tenant, to be evaluated for any profile. `cuts` is None before the first recompute."""

    definitions: Sequence[Definition]
    cuts: Cuts | None = None

    @cached_property
    def by_key(self) -> Mapping[str, Definition]:
        """The segments by their key."""
        return {definition.key: definition for definition in self.definitions}

    @cached_property
    def ordered(self) -> Sequence[Definition]:
        """Each after those that it refers to."""
        placed: dict[str, Definition] = {}

        def place(definition: Definition) -> None:
            for key in sorted(_references(definition)):
                if key not in placed:
                    place(self.by_key[key])
            placed[definition.key] = definition

        for definition in self.definitions:
            if definition.key not in placed:
                place(definition)
        return tuple(placed.values())

    @cached_property
    def features(self) -> frozenset[str]:
        """Names of all features that an evaluation reads."""
        read = frozenset[str]().union(*(features_of(each.condition) for each in self.definitions if each.condition))
        return read.union(RFM_FEATURES) if any(each.family is Family.RFM for each in self.definitions) else read

    @cached_property
    def traits(self) -> frozenset[str]:
        """Names of all traits that an evaluation reads."""
        return frozenset[str]().union(*(traits_of(each.condition) for each in self.definitions if each.condition))

    def around(self, condition: Condition) -> "Plan":
        """Only what a condition refers to, directly or through other segments."""
        keys: set[str] = set()
        waiting = list(references_of(condition))
        while waiting:
            key = waiting.pop()
            if key not in keys:
                keys.add(key)
                waiting.extend(_references(self.by_key[key]))
        return Plan([each for each in self.definitions if each.key in keys], self.cuts)

    def memberships(self, facts: Facts) -> frozenset[str]:
        """Keys of the segments that a profile is in."""
        scores = self._scores(facts)
        keys: set[str] = set() if scores is None else {rfm_segment(scores).key}
        for definition in self.ordered:
            if definition.condition is not None and matches(definition.condition, facts, memberships=keys):
                keys.add(definition.key)
        return frozenset(keys & self.by_key.keys())

    def why(self, key: str, facts: Facts) -> Iterator[Finding]:
        """What decided whether a profile is in the segment `key`."""
        definition = self.by_key[key]
        if definition.condition is not None:
            return findings(definition.condition, facts, memberships=self.memberships(facts))
        return _rfm_findings(next(each for each in RFM_SEGMENTS if each.key == key), facts, self.cuts, self._scores(facts))

    def _scores(self, facts: Facts) -> RfmScores | None:
        value = rfm_value_of(facts.features)
        return None if value is None or self.cuts is None else rfm_scores(value, self.cuts)


def _references(definition: Definition) -> frozenset[str]:
    return frozenset() if definition.condition is None else references_of(definition.condition)


def _rfm_findings(segment: RfmSegment, facts: Facts, cuts: Cuts | None, scores: RfmScores | None) -> Iterator[Finding]:
    held = scores is not None and segment.holds(scores)
    yield Finding(segment.rule, "" if scores else "no scores", held, 0)
    value = rfm_value_of(facts.features)
    if value is None:
        yield Finding("days_since_last_order is present", "no value", held=False, depth=1)
        return
    if cuts is None or scores is None:
        yield Finding("quintiles are known", cuts.note if cuts else "not computed yet", held=False, depth=1)
        return
    recency, worth = segment.recency, segment.worth
    seen = f"{scores.recency} ({value.recency_days:.12g} days since the last order)"
    yield Finding(f"{recency[0]} <= recency score <= {recency[1]}", seen, recency[0] <= scores.recency <= recency[1], 1)
    seen = (
        f"{scores.worth} (frequency {scores.frequency}: {value.frequency:.12g} orders; "
        f"monetary {scores.monetary}: {value.monetary:.2f} after refunds)"
    )
    yield Finding(f"{worth[0]} <= frequency and monetary <= {worth[1]}", seen, worth[0] <= scores.worth <= worth[1], 1)


# What a new segment may be


def is_key(text: str) -> bool:
    """Whether a segment may have this key."""
    return _KEY.fullmatch(text) is not None


def check_texts(key: str, name: str, description: str) -> None:
    """Raises InvalidArgument where a text of a new segment is not one that can be stored and shown."""
    if not is_key(key):
        raise InvalidArgument("a key has 1 to 64 lower-case letters, digits and _, and starts with a letter", field="key")
    if not name.strip():
        raise InvalidArgument("a segment needs a name", reason=Reason.MISSING_FIELD, field="name")
    for field, text in (("name", name), ("description", description)):
        if len(text) > MAX_TEXT:
            raise InvalidArgument(f"at most {MAX_TEXT} characters", reason=Reason.TEXT_TOO_LONG, field=field)
        if not is_storable(text):
            raise InvalidArgument(
                "a text may hold no NUL and no half of a surrogate pair", reason=Reason.MALFORMED_TEXT, field=field
            )


def check_new_definition(key: str, condition: Condition, plan: Plan) -> None:
    """Raises where the segment `key` may not be given this condition. The condition itself is well formed."""
    known = plan.by_key.get(key)
    if known is not None and known.family is not Family.CUSTOM:
        raise Conflict(f'"{key}" is a shipped segment; its rule cannot be changed', reason=Reason.SHIPPED_SEGMENT, field="key")
    if circle := _circle(key, condition, plan):
        shown = " -> ".join(circle)
        raise InvalidArgument(f"the segment would hold itself: {shown}", reason=Reason.CIRCULAR_SEGMENT, field="condition")


def _circle(key: str, condition: Condition, plan: Plan) -> list[str]:
    """A way from the segment back to itself, both ends included; empty where there is none."""
    ways = [[key, reference] for reference in sorted(references_of(condition))]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        here = way[-1]
        if here == key:
            return way
        if here not in seen and here in plan.by_key:
            seen.add(here)
            ways.extend([*way, reference] for reference in sorted(_references(plan.by_key[here])))
    return []


# What has changed


@dataclass(frozen=True, slots=True)
class Standing:
    """How a profile stands to a segment, and since when.

    `is_doubtful`: it came from a merge. What was told of the profile that is gone may reach others after the merge and
    be taken for this one's, so it has to be told again.
    """

    is_member: bool
    since: datetime
    is_doubtful: bool = False


_OUTSIDE: Final = Standing(is_member=False, since=datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Change:
    """A profile entered a segment, or left it."""

    segment: str
    profile_id: UUID
    entered: bool
    at: datetime


def changes(
    profile_id: UUID, wanted: Set[str], standings: Mapping[str, Standing], *, known: Iterable[str], at: datetime
) -> Iterator[Change]:
    """What has to be told of one profile. Times of one segment always ascend, even while the tenant's clock stands."""
    for key in known:
        standing = standings.get(key, _OUTSIDE)
        if (key in wanted) != standing.is_member or standing.is_doubtful:
            yield Change(key, profile_id, key in wanted, max(at, standing.since + timedelta(microseconds=1)))
