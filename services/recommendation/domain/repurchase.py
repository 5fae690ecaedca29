"""How likely somebody buys an item again, by the tenant's own history.

Tried on the past: of the pairs known before the last 90 days, which share was bought again in them? By number of orders
and time since the last one; then by item, as observed over expected with ten purchases' worth of doubt.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.recommendation.domain.pairs import Bool, Float64, Int32, Int64, Pairs

ORDER_EDGES: Final = (2, 3, 5)
# In horizons.
AGE_EDGES: Final = (1 / 3, 1.0, 2.0)
_CELLS: Final = (len(ORDER_EDGES) + 1) * (len(AGE_EDGES) + 1)
# Pairs that a cell borrows at the overall rate, purchases that an item borrows at the expected one.
CELL_DOUBT: Final = 20.0
ITEM_DOUBT: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class RepurchaseRates:
    """The chance that a pair is bought again within the horizon."""

    horizon_us: int
    cells: Float64  # [cells]
    factors: Float64  # [items]

    def of(self, items: Int32, orders: Int32, ages_us: Int64) -> Float64:
        """In [0, 1], for each item of a customer."""
        chance = self.cells[_cells(orders, ages_us, self.horizon_us)] * self.factors[items]
        return np.minimum(chance, 1.0)


def repurchase_rates(pairs: Pairs) -> RepurchaseRates:
    """Only customers who bought anything in the horizon count: who has left buys nothing again."""
    here = active_rows(pairs) & (pairs.early_orders > 0)
    ages = pairs.at_us - pairs.horizon_us - pairs.early_last_us[here]
    cell, item, again = _cells(pairs.early_orders[here], ages, pairs.horizon_us), pairs.item[here], pairs.again[here]
    overall = (float(again.sum()) + 1.0) / (len(again) + 2.0)
    seen = np.bincount(cell, minlength=_CELLS)
    cells = (np.bincount(cell, again, minlength=_CELLS) + CELL_DOUBT * overall) / (seen + CELL_DOUBT)
    observed = np.bincount(item, again, minlength=pairs.item_count)
    expected = np.bincount(item, cells[cell], minlength=pairs.item_count)
    return RepurchaseRates(pairs.horizon_us, cells, (observed + ITEM_DOUBT) / (expected + ITEM_DOUBT))


def active_rows(pairs: Pairs) -> Bool:
    """Rows of customers who bought anything inside the horizon."""
    active = np.bincount(pairs.customer, pairs.again, minlength=pairs.customer_count) > 0
    return active[pairs.customer]


def _cells(orders: Int32, ages_us: Int64, horizon_us: int) -> Int64:
    by_age = np.searchsorted(np.array(AGE_EDGES) * horizon_us, ages_us, side="right")
    return np.searchsorted(ORDER_EDGES, orders, side="right") * (len(AGE_EDGES) + 1) + by_age
