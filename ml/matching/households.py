"""What a household shares: surname, phone and address agree together far more often than each by itself would say.

It is measured among pairs that are two persons by all that is a person's own (another given name and another birth date). Where
such pairs share more than independence expects, two records that share it have that much less to say for being one person.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log2
from typing import Final

from ml.matching.blocking import Rule, equal
from ml.matching.columns import Role

# Fewer pairs than this are no household.
_LEAST: Final = 5
# Bits from which a comparison counts as shared.
SHARED_BITS: Final = 3.0
_OWN: Final = (Role.GIVEN_NAME, Role.BIRTH_DATE)
TWO_PERSONS: Final = (
    "jaro_winkler_similarity(l.given_name, r.given_name) < 0.8 AND damerau_levenshtein(l.birth_date, r.birth_date) > 2"
)

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """Pairs in all; how many of them are the same; and of these the share at the last level of each own comparison and at the
    first level of each shared one."""

    total: int
    same: float
    different: Mapping[str, float]
    agreeing: Mapping[str, float]


def shared_columns(columns: Mapping[str, Role]) -> dict[str, tuple[str, ...]]:
    """Comparison -> the columns in which it agrees."""
    wanted = {
        "surname": (Role.SURNAME,),
        "phone": (Role.PHONE,),
        "address": (Role.STREET, Role.STREET_NUMBER if Role.STREET_NUMBER.value in columns else Role.POSTCODE),
    }
    return {
        name: tuple(role.value for role in roles)
        for name, roles in wanted.items()
        if all(role.value in columns for role in roles)
    }


def is_measurable(columns: Mapping[str, Role]) -> bool:
    """Whether two persons can be told apart by what is their own, and whether there is something to share."""
    return all(role.value in columns for role in _OWN) and len(shared_columns(columns)) > 1


def discounts(
    columns: Mapping[str, Role],
    expected: Expected,
    count: Callable[[Rule], int],
    count_two_persons: Callable[[Rule], int],
) -> dict[Names, float]:
    """Bits to take off a pair by what agrees in it. `count`: pairs of a rule; the other: those of two persons."""
    shared = shared_columns(columns)
    alone = {name: count(equal(*keys)) / expected.total for name, keys in shared.items()}
    own = 1.0
    for role in _OWN:
        own *= expected.different[role.value]
    found: dict[Names, float] = {}
    for size in range(2, len(shared) + 1):
        for names in combinations(shared, size):
            same, by_chance = expected.same * own, float(expected.total)
            for name in names:
                same *= expected.agreeing[name]
                by_chance *= alone[name]
            together = count_two_persons(equal(*(key for name in names for key in shared[name]))) - same
            found[frozenset(names)] = log2(together / by_chance) if together >= max(_LEAST, by_chance) else 0.0
    return found


def discount(found: Mapping[Names, float], weights: Sequence[tuple[str, float]]) -> float:
    """What a pair with these weights loses: never more than leaves the heaviest of what is shared."""
    agreeing = {name: weight for name, weight in weights if weight > SHARED_BITS}
    subsets = [bits for names, bits in found.items() if names <= agreeing.keys()]
    together = sum(weight for name, weight in agreeing.items() if any(name in names for names in found))
    heaviest = max((weight for name, weight in agreeing.items() if any(name in names for names in found)), default=0.0)
    return min(max(subsets, default=0.0), together - heaviest)
