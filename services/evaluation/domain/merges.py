"""Which profile a profile went into, when several merges come at once."""

from collections.abc import Iterable, Mapping
from uuid import UUID


def final_profiles(merges: Iterable[tuple[UUID, UUID]]) -> Mapping[UUID, UUID]:
    """(from, into) in the order in which they happened -> from: the last into, with chains followed to their end."""
    into_of: dict[UUID, UUID] = {}
    for gone, kept in merges:
        end = into_of.get(kept, kept)
        if end == gone:
            continue  # it says that a profile went into what had gone into it: nothing to follow
        for earlier, target in into_of.items():
            if target == gone:
                into_of[earlier] = end
        into_of[gone] = end
    return into_of
