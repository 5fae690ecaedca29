"""Who the simulated customers are: what they tell of themselves, and what is hidden."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from demo.simulator.catalogue import Catalogue, cumulative

# Shares of customers who only look: with an account, and without one.
LOOKERS: Final = 0.09
STRANGERS: Final = 0.05
CHINESE: Final = 0.18
# Of those who come, so many are there within the first days; the others spread over the rest.
EARLY: Final = 0.45
EARLY_DAYS: Final = 75.0
LATEST_DAYS: Final = 15.0  # before the decision
# Days between orders are 1 / gamma(RATE_SHAPE), with the mean rate of an order in MEAN_INTERVAL_DAYS.
RATE_SHAPE: Final = 1.6
MEAN_INTERVAL_DAYS: Final = 48.0
INTERVAL_BOUNDS: Final = (12.0, 240.0)
# Days from first order to dropout: exponential; one standard deviation of satisfaction moves its mean by exp(LOYALTY).
LIFETIME_DAYS: Final = 600.0
LOYALTY: Final = 0.65
MEAN_DAYS_BETWEEN_VISITS: Final = 12.0
FAVOURITES: Final = 4

_COUNTRIES: Final = ("Germany", "France", "Netherlands", "United Kingdom", "Ireland", "Sweden")
_CITIES: Final = ("Hamburg", "Lyon", "Utrecht", "Leeds", "Cork", "Malmo")
_CHINESE_CITIES: Final = ("Shanghai", "Hangzhou", "Chengdu", "Shenzhen")
_FIRST: Final = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Karin", "Leo")
_LAST: Final = ("Adams", "Becker", "Clark", "Dubois", "Evans", "Fischer", "Green", "Hansen", "Jansen", "Keller", "Moore")
_CHINESE_FIRST: Final = ("伟", "芳", "娜", "敏", "静", "磊", "洋", "艳", "勇", "婷")
_CHINESE_LAST: Final = ("王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴")
_STREETS: Final = ("Mill Lane", "Station Road", "Church Street", "Park Avenue", "Harbour View")
_CHANNELS: Final = ("search", "social", "newsletter", "friend", "advertisement")


class Kind(Enum):
    """What becomes of a visitor."""

    BUYER = "buyer"
    LOOKER = "looker"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Nature:
    """What is hidden of a customer. Days count from the shop's first day.

    `dropout` is when a customer stops buying for good where nobody acts, `strength` (0 to 1) how strongly the customer
    answers to a retention action, `satisfaction` standard normal, `rating` what the customer would give (0 to 10).
    """

    kind: Kind
    arrival: float
    identified: float
    first_order: float
    dropout: float
    interval_days: float
    regularity: float
    visits_per_day: float
    satisfaction: float
    strength: float
    rating: int
    shelves: tuple[int, ...]
    shelf_chances: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """`anonymous_ids` are those of two devices; the second may never be used."""

    user_id: str
    anonymous_ids: tuple[str, str]
    chinese: bool
    traits: dict[str, Any]
    nature: Nature


def draw_person(index: int, rng: np.random.Generator, catalogue: Catalogue, decision_day: float) -> Person:
    """Person `index` (from 0) of a shop."""
    nature = _nature(rng, catalogue, decision_day)
    chinese = bool(rng.random() < CHINESE)
    token = rng.bytes(8).hex()
    return Person(
        user_id=f"customer-{index + 1:05d}",
        anonymous_ids=(f"visitor-{token}-1", f"visitor-{token}-2"),
        chinese=chinese,
        traits=_traits(index, rng, chinese, nature, catalogue),
        nature=nature,
    )


def _nature(rng: np.random.Generator, catalogue: Catalogue, decision_day: float) -> Nature:
    chances = rng.random(4).tolist()
    kind = _kind(chances[0])
    early = min(EARLY_DAYS, decision_day / 2)
    last = max(decision_day - LATEST_DAYS, early)
    arrival = early * chances[2] if chances[1] < EARLY else early + (last - early) * chances[2]
    satisfaction, luck = rng.standard_normal(2).tolist()
    hesitation, lifetime = rng.standard_exponential(2).tolist()
    first_order = arrival + 1.0 + 9.0 * hesitation
    rate = float(rng.gamma(RATE_SHAPE)) / (RATE_SHAPE * MEAN_INTERVAL_DAYS)
    # Somebody who never buys loses interest instead of dropping out.
    known, mean = (first_order, LIFETIME_DAYS) if kind is Kind.BUYER else (arrival, LIFETIME_DAYS / 2)
    shelves = rng.choice(
        catalogue.range_count,
        FAVOURITES,
        replace=False,
        p=np.asarray(catalogue.tastes[int(chances[3] * len(catalogue.tastes))]),
    )
    return Nature(
        kind=kind,
        arrival=arrival,
        identified=arrival + (first_order - arrival) * float(rng.choice((0.4, 0.7, 1.0))),
        first_order=first_order,
        dropout=known + mean * float(np.exp(LOYALTY * satisfaction)) * lifetime,
        interval_days=float(np.clip(1.0 / rate, *INTERVAL_BOUNDS)),
        regularity=1.0 + 6.0 * float(rng.beta(1.2, 1.4)),
        visits_per_day=float(rng.gamma(2.0)) / 2.0 / MEAN_DAYS_BETWEEN_VISITS,
        satisfaction=satisfaction,
        strength=float(rng.beta(2.0, 2.0)),
        rating=int(np.clip(np.rint(7.9 + 1.7 * satisfaction + 0.7 * luck), 0, 10)),
        shelves=tuple(shelves.tolist()),
        shelf_chances=cumulative(rng.dirichlet((4.0, 2.0, 1.0, 1.0)).tolist()),
    )


def _kind(chance: float) -> Kind:
    if chance < STRANGERS:
        return Kind.STRANGER
    return Kind.LOOKER if chance < STRANGERS + LOOKERS else Kind.BUYER


def _traits(index: int, rng: np.random.Generator, chinese: bool, nature: Nature, catalogue: Catalogue) -> dict[str, Any]:
    """Segment's reserved traits are personal, the last five are public."""
    picks = rng.integers(0, 2**31, 6).tolist()
    place = picks[0] % len(_CITIES)
    first, last = (_CHINESE_FIRST, _CHINESE_LAST) if chinese else (_FIRST, _LAST)
    country = "China" if chinese else _COUNTRIES[place]
    city = _CHINESE_CITIES[place % len(_CHINESE_CITIES)] if chinese else _CITIES[place]
    street = f"{1 + picks[1] % 180} {_STREETS[picks[1] % len(_STREETS)]}"
    interests = dict.fromkeys(catalogue.category_of(shelf) for shelf in nature.shelves)
    return {
        "email": f"customer{index + 1}@example.com",
        "firstName": first[picks[2] % len(first)],
        "lastName": last[picks[3] % len(last)],
        "phone": f"+999{picks[4] % 10**8:08d}",
        "address": {"street": street, "city": city, "country": country},
        "country": country,
        "language": "zh" if chinese else "en",
        "plan": "plus" if nature.interval_days < 25 and picks[5] % 2 else "basic",
        "acquisitionChannel": _CHANNELS[picks[5] % len(_CHANNELS)],
        "interests": list(interests)[:2],
    }
