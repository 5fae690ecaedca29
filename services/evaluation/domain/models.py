"""How good a model version was, now that the outcomes are in, and what that is measured by.

The yardstick is the recency rule: whoever has not bought for longer is likelier to be gone. A model that orders customers
no better than that has cost something and brought nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from chassis.errors import Conflict, InvalidArgument, Reason
from services.evaluation.domain.verdicts import Verdict, percent

# Below these there is no verdict.
MIN_ROWS: Final = 100
MIN_OF_EACH_OUTCOME: Final = 20
# Recent: bought in that many days before the as-of time. Those are the customers that the recency rule says little about.
RECENT_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Target:
    """What a model predicts: that a customer has no `event` in [as_of, as_of + horizon)."""

    event: str
    horizon_days: int

    @property
    def horizon(self) -> timedelta:
        return timedelta(days=self.horizon_days)


TARGETS: Final[Mapping[str, Target]] = MappingProxyType({"churn": Target("Order Completed", 90)})


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Customers of like probability."""

    mean_probability: float
    observed_rate: float
    row_count: int


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of one group of customers; None where they have no meaning (nobody, or all with one outcome)."""

    row_count: int
    # Of them churned.
    rate: float | None = None
    auc: float | None = None
    # Expected calibration error.
    ece: float | None = None
    recency_auc: float | None = None
    logistic_auc: float | None = None


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """One version, judged at one as-of time."""

    model: str
    version: str
    as_of: datetime
    horizon_days: int
    everyone: Group
    recent: Group
    # With its bootstrap interval; None where `everyone.auc` is.
    auc: Estimate | None
    # AUC minus the recency rule's, paired.
    lift: Estimate | None
    verdict: Verdict
    explanation: str
    evaluated: datetime
    bins: tuple[Bin, ...]


def target_of(model: str) -> Target:
    """Raises InvalidArgument where nothing is known of what the model predicts."""
    if target := TARGETS.get(model):
        return target
    raise InvalidArgument(f"no outcome is defined for this model; there are: {', '.join(TARGETS)}", field="model")


def require_outcomes(target: Target, *, as_of: datetime, now: datetime) -> None:
    """Raises Conflict while the outcome window is open at the tenant's clock `now`."""
    ends = as_of + target.horizon
    if now < ends:
        raise Conflict(
            f"the outcomes are not in: the {target.horizon_days} days after {as_of:%Y-%m-%d %H:%M} end on "
            f"{ends:%Y-%m-%d %H:%M}, and the tenant's clock is at {now:%Y-%m-%d %H:%M} UTC",
            reason=Reason.OUTCOMES_MISSING,
            field="as_of",
        )


def verdict_of(everyone: Group, auc: Estimate | None, lift: Estimate | None) -> tuple[Verdict, str]:
    """Against the recency rule: better or worse where the interval of the lift lies on one side of 0."""
    rows = everyone.row_count
    churned = round((everyone.rate or 0.0) * rows)
    if auc is None or lift is None or rows < MIN_ROWS or min(churned, rows - churned) < MIN_OF_EACH_OUTCOME:
        return Verdict.NOT_ENOUGH_DATA, (
            f"{rows} customers have a score and a known outcome, {churned} of them churned and {rows - churned} stayed; "
            f"at least {MIN_ROWS} are needed, {MIN_OF_EACH_OUTCOME} of each."
        )
    if lift.low > 0:
        verdict, says = Verdict.BETTER, "it orders customers better than the recency rule"
    elif lift.high < 0:
        verdict, says = Verdict.WORSE, "it orders customers worse than the recency rule"
    else:
        verdict, says = Verdict.NO_DIFFERENCE, "these customers show no difference to the recency rule"
    return verdict, (
        f"AUC {_shown(auc)}, {lift.value:+.3f} ({lift.low:+.3f} to {lift.high:+.3f}) to the recency rule's "
        f"{everyone.recency_auc or 0.0:.3f}, on {rows} customers of whom {percent(everyone.rate or 0.0)} churned: {says}."
    )


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
