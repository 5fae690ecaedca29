"""What a customer does, in both worlds: with a retention action at the decision time, and without.

The chance is the same in both (common random numbers): every draw that an outcome needs is made once, before the worlds
part, so that the difference of two outcomes is the action's doing alone. Up to the decision the worlds are equal.

A buyer orders at intervals that are gamma distributed, until the dropout. Before it, visits fade, and many of the
unhappy open tickets; after it, hardly a visit remains. The action
- lets whoever is still a customer stay longer, and order more often, by their strength;
- wins some of those who dropped out back, the likelier the stronger they answer and the more recently they left.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from demo.simulator.people import Kind, Nature

# An action multiplies the days left by 1 + STAY * strength, and the order rate by 1 + HURRY * strength.
STAY: Final = 2.0
HURRY: Final = 1.0
# The chance to be won back: RETURN * strength, falling by 1/e for every RETURN_FADES_DAYS since the dropout.
RETURN: Final = 0.8
RETURN_FADES_DAYS: Final = 150.0
RETURN_AFTER_DAYS: Final = 12.0
RETURN_LASTS_DAYS: Final = 120.0
# Visits fade over these days before a dropout; after it, this share remains.
FADING_DAYS: Final = 40.0
REMAINDER: Final = 0.45
# So many come back once on a second device, as strangers at first.
SECOND_DEVICE: Final = 0.2
TICKETS_PER_DAY: Final = 0.3 / 365.0
# Tickets before a dropout: so many at the mean, so unhappy, within so many days.
TROUBLE: Final = 0.7
TROUBLE_DAYS: Final = 70.0
RETURNED_FROM: Final = 1000  # numbers of the orders of a customer who was won back


class World(Enum):
    """Whether the action is taken."""

    CONTROL = "control"
    TREATMENT = "treatment"


@dataclass(frozen=True, slots=True)
class Life:
    """All chance of one customer, drawn. Times in days from the shop's first day; `gaps` are intervals with mean 1."""

    nature: Nature
    decision: float
    gaps: NDArray[np.float64]
    return_gaps: NDArray[np.float64]
    return_chance: float
    return_delay: float
    return_lasts: float
    visits: NDArray[np.float64]
    visit_chances: NDArray[np.float64]
    tickets: NDArray[np.float64]
    trouble_before: NDArray[np.float64]
    early_visits: NDArray[np.float64]
    second_device: float | None


def draw_life(nature: Nature, rng: np.random.Generator, *, decision: float, end: float) -> Life:
    """Draws what may happen up to day `end`."""
    # The action doubles the rate at most; more, so that chance does not run out.
    needed = int(3.0 * (end - nature.arrival) / nature.interval_days) + 12
    shape = nature.regularity
    unhappy = 1.0 / (1.0 + np.exp(1.4 * nature.satisfaction))
    troubles = rng.poisson(2 * TROUBLE * unhappy) if nature.kind is Kind.BUYER else 0
    first = min(nature.identified, end)
    visits = _poisson_times(rng, nature.visits_per_day, first, end)
    return Life(
        nature=nature,
        decision=decision,
        gaps=rng.gamma(shape, 1.0 / shape, needed),
        return_gaps=rng.gamma(shape, 1.0 / shape, needed),
        return_chance=float(rng.random()),
        return_delay=RETURN_AFTER_DAYS * float(rng.standard_exponential()),
        return_lasts=RETURN_LASTS_DAYS * float(rng.standard_exponential()),
        visits=visits,
        visit_chances=rng.random(len(visits)),
        tickets=_poisson_times(rng, TICKETS_PER_DAY * (0.5 + unhappy), first, end),
        trouble_before=TROUBLE_DAYS * rng.random(troubles),
        early_visits=np.sort(rng.uniform(nature.arrival, first, 1 + rng.poisson(0.8))),
        second_device=_second_device(nature, rng, decision),
    )


def _second_device(nature: Nature, rng: np.random.Generator, decision: float) -> float | None:
    used, when = rng.random(2).tolist()
    first, last = nature.identified + 5.0, min(nature.dropout, decision) - 1.0
    if used >= SECOND_DEVICE or last <= first or nature.kind is Kind.STRANGER:
        return None
    return first + (last - first) * when


def _poisson_times(rng: np.random.Generator, rate: float, start: float, end: float) -> NDArray[np.float64]:
    return np.sort(rng.uniform(start, end, rng.poisson(rate * max(end - start, 0.0))))


def buying_spans(life: Life, world: World) -> list[tuple[float, float]]:
    """From when to when the customer is one: first order to dropout, and perhaps once more after a dropout."""
    nature = life.nature
    if nature.kind is not Kind.BUYER:
        return []
    span = (nature.first_order, nature.dropout)
    if world is World.CONTROL:
        return [span]
    if nature.dropout > life.decision:
        left = nature.dropout - life.decision
        return [(span[0], life.decision + left * (1.0 + STAY * nature.strength))]
    gone_days = life.decision - nature.dropout
    chance = RETURN * nature.strength * float(np.exp(-gone_days / RETURN_FADES_DAYS))
    if life.return_chance >= chance:
        return [span]
    back = life.decision + life.return_delay
    return [span, (back, back + life.return_lasts)]


def order_days(life: Life, world: World) -> list[tuple[int, float]]:
    """(number, day) of each order ever, past any horizon too. A number means the same order in both worlds."""
    spans = buying_spans(life, world)
    if not spans:
        return []
    nature = life.nature
    days = nature.first_order + np.concatenate(([0.0], np.cumsum(life.gaps))) * nature.interval_days
    if world is World.TREATMENT and nature.dropout > life.decision:
        hurried = life.decision + (days - life.decision) / (1.0 + HURRY * nature.strength)
        days = np.where(days > life.decision, hurried, days)
    orders = list(enumerate(days[days < spans[0][1]].tolist()))
    for start, stop in spans[1:]:
        again = start + np.concatenate(([0.0], np.cumsum(life.return_gaps))) * nature.interval_days
        orders += enumerate(again[again < stop].tolist(), start=RETURNED_FROM)
    return orders


def visit_days(life: Life, world: World) -> list[tuple[int, float]]:
    """(number, day) of each visit without an order since the customer is known."""
    spans = buying_spans(life, world) or [(life.nature.arrival, life.nature.dropout)]
    days = life.visits
    interest = np.where(days < spans[0][1], np.clip((spans[0][1] - days) / FADING_DAYS, REMAINDER, 1.0), REMAINDER)
    for start, stop in spans[1:]:
        interest = np.where((days >= start) & (days < stop), 1.0, interest)
    kept = np.flatnonzero(life.visit_chances < interest)
    return list(zip(kept.tolist(), days[kept].tolist(), strict=True))


def ticket_days(life: Life, world: World) -> list[tuple[int, float]]:
    """(number, day) of each ticket. What led to a dropout that the action delays is delayed with it."""
    nature = life.nature
    trouble = nature.dropout - life.trouble_before
    if world is World.TREATMENT and nature.dropout > life.decision:
        later = buying_spans(life, world)[0][1] - life.trouble_before if nature.kind is Kind.BUYER else trouble
        trouble = np.where(trouble >= life.decision, later, trouble)
    days = np.concatenate((life.tickets, trouble))
    return [(number, day) for number, day in enumerate(days.tolist()) if day >= nature.identified]
