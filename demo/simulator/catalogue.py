"""What the simulated shop sells, and which tastes buy what: 10 categories of 4 ranges of 5 items."""

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final

import numpy as np

RANGE_SIZE: Final = 5
RANGES_PER_CATEGORY: Final = 4
TASTES: Final = 6
# How sharply a taste keeps to few ranges: a Dirichlet's concentration; smaller is sharper.
SHARPNESS: Final = 0.12

# Category -> names of its ranges, then its kinds of items with a usual price in whole euros.
_SHELVES: Final = MappingProxyType(
    {
        "Kitchen": (
            ("Copper", "Enamel", "Oak", "Stoneware"),
            (("Mixing Bowl", 14), ("Cake Tin", 11), ("Rolling Pin", 9), ("Spice Rack", 24), ("Kitchen Scales", 32)),
        ),
        "Tea and Coffee": (
            ("Assam", "Jasmine", "Espresso", "Breakfast"),
            (("Blend", 7), ("Gift Tin", 12), ("Cup and Saucer", 13), ("Pot", 28), ("Sampler", 16)),
        ),
        "Garden": (
            ("Cottage", "Balcony", "Terracotta", "Herb"),
            (("Planter", 18), ("Seed Box", 6), ("Trowel", 10), ("Watering Can", 21), ("Lantern", 15)),
        ),
        "Bath": (
            ("Lavender", "Sea Salt", "Cedar", "Cotton"),
            (("Soap", 5), ("Hand Towel", 12), ("Bath Mat", 19), ("Body Lotion", 11), ("Wash Bag", 17)),
        ),
        "Stationery": (
            ("Marbled", "Botanical", "Plain", "Star Map"),
            (("Notebook", 8), ("Wrapping Paper", 4), ("Card Set", 7), ("Desk Planner", 16), ("Pencil Case", 9)),
        ),
        "Lighting": (
            ("Brass", "Paper", "Nordic", "Festoon"),
            (("Table Lamp", 39), ("Candle Holder", 12), ("Pendant Shade", 34), ("Light String", 18), ("Candle", 9)),
        ),
        "Children": (
            ("Safari", "Railway", "Circus", "Ocean"),
            (("Puzzle", 12), ("Lunch Box", 10), ("Wall Chart", 8), ("Soft Toy", 17), ("Night Light", 21)),
        ),
        "Textiles": (
            ("Linen", "Wool", "Block Print", "Striped"),
            (("Cushion", 22), ("Throw", 45), ("Table Runner", 19), ("Napkins", 14), ("Apron", 18)),
        ),
        "Travel": (
            ("Canvas", "Waxed", "City", "Weekend"),
            (("Tote", 16), ("Backpack", 48), ("Luggage Tag", 6), ("Flask", 20), ("Umbrella", 24)),
        ),
        "Festive": (
            ("Silver", "Felt", "Glass", "Gingham"),
            (("Bauble Set", 13), ("Garland", 11), ("Stocking", 15), ("Wreath", 27), ("Table Crackers", 17)),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Item:
    """`price_cents` in euro cents."""

    product_id: str
    name: str
    category: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items by place; range r holds the places RANGE_SIZE * r to RANGE_SIZE * (r + 1) - 1.

    `popularity` and `within` are cumulative chances, of all items and inside each range; `tastes[t]` is taste t's chance
    of each range.
    """

    items: tuple[Item, ...]
    popularity: tuple[float, ...]
    within: tuple[tuple[float, ...], ...]
    tastes: tuple[tuple[float, ...], ...]

    @property
    def range_count(self) -> int:
        return len(self.within)

    def any_item(self, chance: float) -> int:
        """A place by overall popularity, for a chance in [0, 1)."""
        return bisect(self.popularity, chance)

    def item_of(self, shelf: int, chance: float) -> int:
        """A place in range `shelf` by popularity there."""
        return RANGE_SIZE * shelf + bisect(self.within[shelf], chance)

    def category_of(self, shelf: int) -> str:
        """The category of a range."""
        return self.items[RANGE_SIZE * shelf].category


def stock(rng: np.random.Generator) -> Catalogue:
    """The items are the same for every seed; their prices, popularity and who likes them are not."""
    items = _items(rng)
    ranges = len(items) // RANGE_SIZE
    weights = rng.gamma(1.5, 1.0, (ranges, RANGE_SIZE)) + 0.15
    tastes = 0.95 * rng.dirichlet(np.full(ranges, SHARPNESS), TASTES) + 0.05 / ranges
    return Catalogue(
        items=items,
        popularity=cumulative((weights * tastes.mean(axis=0)[:, None]).ravel().tolist()),
        within=tuple(cumulative(row) for row in weights.tolist()),
        tastes=tuple(tuple(row) for row in tastes.tolist()),
    )


def _items(rng: np.random.Generator) -> tuple[Item, ...]:
    items: list[Item] = []
    for category, (ranges, kinds) in _SHELVES.items():
        for name, factor in zip(ranges, rng.uniform(0.8, 1.3, RANGES_PER_CATEGORY).tolist(), strict=True):
            for kind, euros in kinds:
                cents = int(euros * factor * 10) * 10 + 9  # 12.49, 7.89
                items.append(Item(f"P{len(items) + 1:03d}", f"{name} {kind}", category, cents))
    return tuple(items)


def cumulative(weights: list[float]) -> tuple[float, ...]:
    """Cumulative chances for `bisect`; the last is above 1, so that rounding leaves no gap."""
    total = sum(weights)
    steps = [step / total for step in accumulate(weights)]
    return (*steps[:-1], 2.0)
