"""Who bought what, as arrays."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_US: Final = 86_400_000_000
HORIZON_DAYS: Final = 90

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """One row for each customer and item bought before `at_us`; rows of a customer stand together.

    The last `horizon_us` before `at_us` are held apart, so that a rule can be tried on what came before them:
    `early_*` is what was known then, `again` whether the pair was bought in them.
    Times are microseconds since the Unix epoch.
    """

    at_us: int
    horizon_us: int
    item_numbers: Int64  # [items] ascending; a row's item is a position in it
    customer: Int32  # [rows] 0 .. customer_count - 1, ascending
    item: Int32  # [rows]
    orders: Int32  # [rows] different orders
    last_us: Int64  # [rows] newest purchase
    early_orders: Int32  # [rows] 0 where the pair was first bought inside the horizon
    early_last_us: Int64  # [rows]
    again: Bool  # [rows]

    @property
    def item_count(self) -> int:
        return len(self.item_numbers)

    @property
    def customer_count(self) -> int:
        return int(self.customer[-1]) + 1 if len(self.customer) else 0


def horizon_us(first_us: int, at_us: int) -> int:
    """90 days, or a third of a history that is shorter than 270 days."""
    return max(1, min(HORIZON_DAYS * DAY_US, (at_us - first_us) // 3))


def top(scores: Float64, limit: int) -> Int64:
    """Positions of the highest scores, best first, ties by position."""
    if len(scores) > limit:
        near = np.sort(np.argpartition(-scores, limit - 1)[:limit])
    else:
        near = np.arange(len(scores))
    return near[np.argsort(-scores[near], kind="stable")]
