"""What to do about a customer: the action whose expected value is the greatest.

    expected value = churn probability x retention x value at stake - cost
    value at stake = 365 x (R + r0 x 90) / (T + 90)

R: revenue after the first order, net of refunds. T: days from the first order to now. r0: the same ratio, R / T, of all
customers of the tenant together, which counts like 90 days of history, so that one order last week says little (a
Gamma-Poisson rate's posterior mean). The first order is where T begins, so it tells nothing about the rate and is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BORROWED_DAYS: Final = 90.0
YEAR_DAYS: Final = 365.0
ASSUMED: Final = "assumed, not measured: no experiment has concluded"
FREE: Final = "costs nothing, keeps nobody"


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that can be done. `retention`: share of those about to leave whom it keeps."""

    name: str
    cost: float
    retention: float


NOTHING: Final = Measure("nothing", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Spending:
    """Of one customer, or of all of them together. Money in the shop's currency."""

    revenue_after_first_order: float
    days: float


@dataclass(frozen=True, slots=True)
class Action:
    """A measure with its sum."""

    name: str
    expected_value: float
    cost: float
    retention: float
    basis: str
    explanation: str


def value_at_stake(spending: Spending, everybody: Spending) -> float:
    """Expected revenue of the next year if the customer stays; never below 0."""
    usual = everybody.revenue_after_first_order / everybody.days if everybody.days > 0 else 0.0
    rate = (spending.revenue_after_first_order + usual * BORROWED_DAYS) / (max(0.0, spending.days) + BORROWED_DAYS)
    return max(0.0, rate * YEAR_DAYS)


def compare(measures: Sequence[Measure], *, churn_probability: float, value: float) -> list[Action]:
    """Best first; of equals the cheaper. Doing nothing is always among them."""
    actions = [_action(each, churn_probability, value) for each in (*measures, NOTHING)]
    return sorted(actions, key=lambda each: (-each.expected_value, each.cost))


def only_nothing(why: str) -> Action:
    """Where there is nothing to compare by."""
    return Action(NOTHING.name, 0.0, 0.0, 0.0, FREE, f"no comparison: {why}")


def _action(measure: Measure, churn_probability: float, value: float) -> Action:
    expected = churn_probability * measure.retention * value - measure.cost
    shown = f"{churn_probability:.2f} x {measure.retention:.2f} x {value:.2f} - {measure.cost:.2f} = {expected:.2f}"
    if measure is NOTHING:
        basis = FREE
        shown += f"; expected loss {churn_probability:.2f} x {value:.2f} = {churn_probability * value:.2f}"
    else:
        basis = f"retention {measure.retention:.0%} and cost {measure.cost:.2f} are {ASSUMED}"
    return Action(measure.name, expected, measure.cost, measure.retention, basis, shown)
