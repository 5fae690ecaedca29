"""Why a score is what it is, in words: pure, from the values that the model saw and what each added to the log-odds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MAX_REASONS: Final = 5
# Log-odds; below it a reason would explain a tenth of a percent.
SMALLEST: Final = 0.005

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reason:
    """`contribution` in log-odds, positive where it raises the risk; `value` None where there was none."""

    feature: str
    text: str
    contribution: float
    value: float | None


def reasons(
    names: Sequence[str], values: Sequence[float], contributions: Sequence[float], *, limit: int = MAX_REASONS
) -> list[Reason]:
    """Strongest first, at most `limit`. `values` has NaN where there is none; `contributions` may end with the bias."""
    seen = dict(zip(names, values, strict=True))
    strength = dict(zip(names, contributions, strict=False))
    ranked = sorted(strength, key=lambda name: (-abs(strength[name]), name))
    return [
        Reason(name, describe(name, seen), strength[name], None if math.isnan(seen[name]) else seen[name])
        for name in ranked[:limit]
        if abs(strength[name]) >= SMALLEST
    ]


def describe(name: str, values: Values) -> str:
    """One phrase about one feature; the others are there for comparison."""
    if name in _PHRASES:
        return _PHRASES[name](values)
    value = values[name]
    return f"{name.replace('_', ' ')} {'unknown' if math.isnan(value) else _number(value)}"


def _orders_count(values: Values) -> str:
    return f"{_counted(values['orders_count'], 'order')} so far"


def _orders_90d(values: Values) -> str:
    return f"{_counted(values['orders_90d'], 'order')} in the last 90 days"


def _revenue_total(values: Values) -> str:
    return f"{_money(values['revenue_total'])} spent so far"


def _revenue_90d(values: Values) -> str:
    if not values["revenue_90d"] > 0:
        return "nothing spent in the last 90 days"
    return f"{_money(values['revenue_90d'])} spent in the last 90 days"


def _refunds_total(values: Values) -> str:
    refunded = values["refunds_total"]
    return f"{_money(refunded)} refunded so far" if refunded > 0 else "never had a refund"


def _days_since_last_order(values: Values) -> str:
    days = values["days_since_last_order"]
    if math.isnan(days):
        return "no order yet"
    usual = values.get("mean_order_interval_days", math.nan)
    if math.isnan(usual):
        return f"last order {_ago(days)}"
    return f"last order {_ago(days)}, usually every {_every(usual)}"


def _days_since_first_order(values: Values) -> str:
    days = values["days_since_first_order"]
    return "no order yet" if math.isnan(days) else f"first order {_ago(days)}"


def _mean_order_interval_days(values: Values) -> str:
    days = values["mean_order_interval_days"]
    if math.isnan(days):
        return "has ordered on one day only"
    return "usually orders every day" if round(days) <= 1 else f"usually orders every {_every(days)} days"


def _active_days_90d(values: Values) -> str:
    return f"active on {_counted(values['active_days_90d'], 'day')} of the last 90"


def _tickets_90d(values: Values) -> str:
    return f"{_counted(values['tickets_90d'], 'ticket')} opened in the last 90 days"


_PHRASES: Final[Mapping[str, Callable[[Values], str]]] = MappingProxyType(
    {
        "orders_count": _orders_count,
        "orders_90d": _orders_90d,
        "revenue_total": _revenue_total,
        "revenue_90d": _revenue_90d,
        "refunds_total": _refunds_total,
        "days_since_last_order": _days_since_last_order,
        "days_since_first_order": _days_since_first_order,
        "mean_order_interval_days": _mean_order_interval_days,
        "active_days_90d": _active_days_90d,
        "tickets_90d": _tickets_90d,
    }
)


def _counted(value: float, noun: str) -> str:
    count = 0 if math.isnan(value) else round(value)
    if count == 0:
        return f"no {noun}"
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _ago(days: float) -> str:
    whole = math.floor(days)
    if whole < 1:
        return "less than a day ago"
    return "1 day ago" if whole == 1 else f"{whole:,} days ago"


def _every(days: float) -> str:
    return f"{max(1, round(days)):,}"


def _money(value: float) -> str:
    return f"{value:,.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
