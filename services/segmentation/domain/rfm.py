"""RFM: recency, frequency and monetary value of customers with orders, each scored 1 to 5 by quintile.

Scores after Hughes, Strategic Database Marketing (1994). The segments are the well-known grid of recency against the
mean of frequency and monetary score, here with cells that neither overlap nor leave a gap.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from services.segmentation.domain.conditions import Value

RECENCY_FEATURE: Final = "days_since_last_order"
FREQUENCY_FEATURE: Final = "orders_count"
RFM_FEATURES: Final = (RECENCY_FEATURE, FREQUENCY_FEATURE, "revenue_total", "refunds_total")
# Below this there are not five groups to be made.
MIN_CUSTOMERS: Final = 5
# Below this a fifth is fewer than ten customers, and the borders are mostly chance.
FEW_CUSTOMERS: Final = 50

Borders = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RfmValue:
    """Of one customer: days since the last order, number of orders, revenue less refunds."""

    recency_days: float
    frequency: float
    monetary: float


@dataclass(frozen=True, slots=True)
class Cuts:
    """Four ascending borders for each dimension; none where there were too few customers to cut.

    A value equal to a border belongs to the fifth below it, so equal customers are always in the same fifth.
    """

    recency: Borders
    frequency: Borders
    monetary: Borders
    # Of how many customers with orders, and when.
    customer_count: int = field(compare=False)
    at: datetime = field(compare=False)
    # Counts up when the borders change.
    version: int = field(default=1, compare=False)

    @property
    def note(self) -> str:
        """Where the borders come from, in words, and how far they can be trusted."""
        when = f"{self.at:%Y-%m-%d}"
        count = f"{self.customer_count:,} customer{'' if self.customer_count == 1 else 's'} with orders"
        if not self.recency:
            return f"not computed: {count} at {when}, at least {MIN_CUSTOMERS} are needed for quintiles"
        few = f"; with fewer than {FEW_CUSTOMERS} the borders are coarse" if self.customer_count < FEW_CUSTOMERS else ""
        return f"quintiles of {count} at {when}{few}"


@dataclass(frozen=True, slots=True)
class RfmScores:
    """Each 1 to 5, 5 the best: the most recent, the most frequent, the most valuable."""

    recency: int
    frequency: int
    monetary: int

    @property
    def worth(self) -> int:
        """Mean of frequency and monetary score, halves rounded up."""
        return (self.frequency + self.monetary + 1) // 2


@dataclass(frozen=True, slots=True)
class RfmSegment:
    """A block of cells: recency scores and worth, both inclusive."""

    key: str
    name: str
    description: str
    recency: tuple[int, int]
    worth: tuple[int, int]

    @property
    def rule(self) -> str:
        """In words."""
        return (
            f"recency score {_span(self.recency)}, mean of frequency and monetary score {_span(self.worth)}, "
            "of customers with at least one order"
        )

    def holds(self, scores: RfmScores) -> bool:
        """Whether a customer with these scores belongs here."""
        recency, worth = self.recency, self.worth
        return recency[0] <= scores.recency <= recency[1] and worth[0] <= scores.worth <= worth[1]


def _span(scores: tuple[int, int]) -> str:
    return str(scores[0]) if scores[0] == scores[1] else f"{scores[0]} to {scores[1]}"


RFM_SEGMENTS: Final = (
    RfmSegment("champions", "Champions", "Bought lately, buy often and much.", (5, 5), (4, 5)),
    RfmSegment("loyal", "Loyal", "Buy often and much, the last time not long ago.", (3, 4), (4, 5)),
    RfmSegment("potential_loyalists", "Potential loyalists", "Bought lately, more than once.", (4, 5), (2, 3)),
    RfmSegment("recent", "Recent", "Bought lately, little so far.", (5, 5), (1, 1)),
    RfmSegment("promising", "Promising", "Bought fairly lately, little so far.", (4, 4), (1, 1)),
    RfmSegment("need_attention", "Need attention", "Middling in everything.", (3, 3), (3, 3)),
    RfmSegment("about_to_sleep", "About to sleep", "Bought little, and not lately.", (3, 3), (1, 2)),
    RfmSegment("at_risk", "At risk", "Bought fairly often and much, but long ago.", (1, 2), (3, 4)),
    RfmSegment("cannot_lose", "Cannot lose", "Among the best by far, but long ago.", (1, 2), (5, 5)),
    RfmSegment("hibernating", "Hibernating", "Bought little, and long ago.", (1, 2), (1, 2)),
)


def rfm_value_of(features: Mapping[str, Value]) -> RfmValue | None:
    """The three values; None for who never bought. Refunds count against revenue, so it may be negative."""
    recency = features.get(RECENCY_FEATURE)
    if not isinstance(recency, int | float):
        return None
    revenue, refunds = _amount(features, "revenue_total"), _amount(features, "refunds_total")
    return RfmValue(recency, _amount(features, FREQUENCY_FEATURE), revenue - refunds)


def _amount(features: Mapping[str, Value], name: str) -> float:
    value = features.get(name)
    return value if isinstance(value, int | float) else 0.0


def cuts_of(values: Sequence[RfmValue], *, at: datetime, last: Cuts | None = None) -> Cuts:
    """The quintiles of all customers with orders. They keep the version of `last` while the borders are the same."""
    borders: list[Borders] = [(), (), ()]
    if len(values) >= MIN_CUSTOMERS:
        borders = [
            _quintiles([value.recency_days for value in values]),
            _quintiles([value.frequency for value in values]),
            _quintiles([value.monetary for value in values]),
        ]
    cuts = Cuts(borders[0], borders[1], borders[2], len(values), at)
    version = 1 if last is None else last.version + (cuts != last)
    return Cuts(borders[0], borders[1], borders[2], len(values), at, version)


def _quintiles(values: Sequence[float]) -> Borders:
    """The values below or at which 20, 40, 60 and 80 % of all lie (the inverse of the empirical distribution)."""
    ordered = sorted(values)
    return tuple(ordered[math.ceil(len(ordered) * fifth / 5) - 1] for fifth in (1, 2, 3, 4))


def rfm_scores(value: RfmValue, cuts: Cuts) -> RfmScores | None:
    """A customer's scores; None where there were too few customers to cut."""
    if not cuts.recency:
        return None
    return RfmScores(
        5 - bisect_left(cuts.recency, value.recency_days),
        1 + bisect_left(cuts.frequency, value.frequency),
        1 + bisect_left(cuts.monetary, value.monetary),
    )


def rfm_segment(scores: RfmScores) -> RfmSegment:
    """The one segment that holds these scores."""
    return next(segment for segment in RFM_SEGMENTS if segment.holds(scores))
