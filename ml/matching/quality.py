"""How good pairs and clusters are beside the truth. Pure."""

from collections import Counter
from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Quality:
    """Each between 0 and 1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def of_pairs(found: Set[Any], true: Set[Any]) -> Quality:
    """Found pairs against true ones. Nothing found is precise; nothing to find is all found."""
    right = len(found & true)
    return Quality(right / len(found) if found else 1.0, right / len(true) if true else 1.0)


def b_cubed(found: Mapping[Hashable, Any], true: Mapping[Hashable, Any]) -> Quality:
    """Per record: how much of its cluster belongs to its entity, and how much of its entity is in its cluster; the means
    (Bagga and Baldwin, 1998). Both map the same records to labels."""
    both = Counter((found[record], true[record]) for record in true)
    clusters, entities = Counter(found[record] for record in true), Counter(true.values())
    precision = sum(count * count / clusters[cluster] for (cluster, _), count in both.items())
    recall = sum(count * count / entities[entity] for (_, entity), count in both.items())
    return Quality(precision / len(true), recall / len(true))
