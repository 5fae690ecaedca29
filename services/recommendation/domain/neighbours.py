"""Which items are bought by the same customers.

Cosine similarity of items over customers (Sarwar, Karypis, Konstan, Riedl: Item-based collaborative filtering, WWW 2001;
Linden, Smith, York: Amazon.com recommendations, IEEE Internet Computing 2003), with two corrections:

- Every customer's pairs count 1 / items of the customer: who bought half the catalogue says little about any two items of
  it (Karypis: Evaluation of item-based top-n recommendation algorithms, CIKM 2001: rows of unit length).
- A similarity that few customers stand behind is shrunk by n / (n + 10), n customers with both (Koren, Bell: Advances in
  collaborative filtering, 2011).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.recommendation.domain.pairs import Float32, Float64, Int32, Int64, Pairs, top

KEPT: Final = 20
SHRINKAGE: Final = 10.0
# One customer is no pattern.
LEAST_SHARED: Final = 2
# Of a customer with more, the newest count: pairs grow with the square.
MOST_ITEMS: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """For each item its KEPT most similar items, most similar first; similarity 0 where there are fewer."""

    items: Int32  # [items, KEPT]
    similarity: Float32  # [items, KEPT]
    shared: Int32  # [items, KEPT] customers who bought both


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """Both directions of the pairs, as concatenated lists with their bounds."""

    items_of: Int64  # 64 bits, since bincount would copy anything smaller
    customer_bounds: Int64
    customers_of: Int64
    item_bounds: Int64
    weight: Float64  # [customers]
    norm: Float64  # [items]


def neighbours_of(pairs: Pairs) -> Neighbours:
    """Takes time in the sum over customers of their items squared, memory in the largest item's share of it."""
    count = pairs.item_count
    found = Neighbours(
        np.zeros((count, KEPT), np.int32), np.zeros((count, KEPT), np.float32), np.zeros((count, KEPT), np.int32)
    )
    lists = _lists_of(pairs)
    for item in range(count):
        others, similarity, shared = _neighbours_of_one(item, lists, count)
        kept = len(others)
        found.items[item, :kept] = others
        found.similarity[item, :kept] = similarity
        found.shared[item, :kept] = shared
    return found


def _lists_of(pairs: Pairs) -> _Lists:
    kept = _newest(pairs)
    customer, item = pairs.customer[kept].astype(np.int64), pairs.item[kept].astype(np.int64)
    sizes = np.bincount(customer, minlength=pairs.customer_count)
    weight = 1.0 / np.maximum(sizes, 1)
    by_item = np.argsort(item, kind="stable")
    norm = np.bincount(item, weight[customer], minlength=pairs.item_count)
    return _Lists(
        items_of=item,
        customer_bounds=_bounds(sizes),
        customers_of=customer[by_item],
        item_bounds=_bounds(np.bincount(item, minlength=pairs.item_count)),
        weight=weight,
        norm=np.sqrt(norm),
    )


def _newest(pairs: Pairs) -> Int64:
    """Positions of the rows that count, in order: of each customer at most MOST_ITEMS."""
    order = np.lexsort((-pairs.last_us, pairs.customer))
    starts = np.searchsorted(pairs.customer, np.arange(pairs.customer_count))
    rank = np.arange(len(order)) - starts[pairs.customer[order]]
    return np.sort(order[rank < MOST_ITEMS])


def _bounds(sizes: Int64) -> Int64:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))


def _neighbours_of_one(item: int, lists: _Lists, item_count: int) -> tuple[Int64, Float64, Int64]:
    """(items, similarity, shared) of at most KEPT items, most similar first."""
    customers = lists.customers_of[lists.item_bounds[item] : lists.item_bounds[item + 1]]
    sizes = lists.customer_bounds[customers + 1] - lists.customer_bounds[customers]
    together = lists.items_of[_ranges(lists.customer_bounds[customers], sizes)]
    weights = np.repeat(lists.weight[customers], sizes)
    others, shared, weighted = _sums(together, weights, item_count)
    kept = (shared >= LEAST_SHARED) & (others != item)
    others, shared, weighted = others[kept], shared[kept], weighted[kept]
    similarity = weighted / (lists.norm[item] * lists.norm[others]) * (shared / (shared + SHRINKAGE))
    best = top(similarity, KEPT)
    return others[best], similarity[best], shared[best]


def _ranges(starts: Int64, sizes: Int64) -> Int64:
    """starts[0], starts[0] + 1, ... sizes[0] of them, then from starts[1], and so on."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)


def _sums(together: Int64, weights: Float64, item_count: int) -> tuple[Int64, Int64, Float64]:
    """(item, how often, sum of weights) of each item in `together`."""
    if len(together) * 4 > item_count:
        shared = np.bincount(together, minlength=item_count)
        others = np.flatnonzero(shared)
        weighted = np.asarray(np.bincount(together, weights, minlength=item_count), np.float64)
        return others, shared[others], weighted[others]
    others, place, shared = np.unique(together, return_inverse=True, return_counts=True)
    return others.astype(np.int64), shared, np.asarray(np.bincount(place, weights, minlength=len(others)), np.float64)
