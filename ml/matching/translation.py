"""Categories that two sources name differently ("VLDB", "Very Large Data Bases"), learnt from what is certain without them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

# A name is translated where this many pairs, and this share of the name's pairs, agree on how.
_LEAST_PAIRS: Final = 5
_LEAST_SHARE: Final = 0.5


def dictionary(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """(left value, right value) of pairs that are the same -> the left name of each right one that has a usual one."""
    seen = Counter((right, left) for left, right in pairs if left is not None and right is not None)
    totals: Counter[Any] = Counter()
    for (right, _), count in seen.items():
        totals[right] += count
    found: dict[Any, Any] = {}
    for (right, left), count in sorted(seen.items(), key=lambda each: (-each[1], str(each[0]))):
        if count >= _LEAST_PAIRS and count >= _LEAST_SHARE * totals[right]:
            found.setdefault(right, left)
    return found


def translated(values: Sequence[Any], names: Mapping[Any, Any]) -> list[Any]:
    """Each value by its left name; one that has none stays."""
    return [names.get(value, value) for value in values]
