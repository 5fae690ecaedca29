"""What a definition may say, what it answers with, and its digest."""

import hashlib
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from rapport.features.v1 import features_pb2 as pb

from ml.features.refusals import check_one, refuse


class Kind(Enum):
    """The type of a feature's answer: the arm of `FeatureValue.value` that it fills."""

    NUMBER = "number"
    DECIMAL = "decimal"
    TEXT = "text"


KINDS: Final = {
    pb.AGGREGATION_COUNT: Kind.NUMBER,
    pb.AGGREGATION_COUNT_DISTINCT: Kind.NUMBER,
    pb.AGGREGATION_SUM: Kind.DECIMAL,
    pb.AGGREGATION_MEAN: Kind.NUMBER,
    pb.AGGREGATION_MIN: Kind.DECIMAL,
    pb.AGGREGATION_MAX: Kind.DECIMAL,
    pb.AGGREGATION_DAYS_SINCE_LAST: Kind.NUMBER,
    pb.AGGREGATION_DAYS_SINCE_FIRST: Kind.NUMBER,
    pb.AGGREGATION_MEAN_INTERVAL_DAYS: Kind.NUMBER,
    pb.AGGREGATION_LAST: Kind.TEXT,
    pb.AGGREGATION_ACTIVE_DAYS: Kind.NUMBER,
    pb.AGGREGATION_FIRST: Kind.TEXT,
    pb.AGGREGATION_MOST_FREQUENT: Kind.TEXT,
    pb.AGGREGATION_MEDIAN: Kind.NUMBER,
    pb.AGGREGATION_MEDIAN_INTERVAL_DAYS: Kind.NUMBER,
    pb.AGGREGATION_STD_INTERVAL_DAYS: Kind.NUMBER,
    pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS: Kind.NUMBER,
    pb.AGGREGATION_SESSIONS: Kind.NUMBER,
    pb.AGGREGATION_RATIO: Kind.NUMBER,
    pb.AGGREGATION_DIFFERENCE: Kind.NUMBER,
}


class Read(NamedTuple):
    """A property that a definition reads: as a "number" or a "text", of the elements of `array`, or of the event ("")."""

    source: str
    property: str
    array: str


def check(features: Sequence[pb.Feature]) -> None:
    """Raises InvalidArgument where a definition cannot be compiled; the message names the feature and the field."""
    if not features:
        raise refuse("There is no feature to compile.", "")
    names = [feature.name for feature in features]
    for feature in features:
        check_one(feature)
        if names.count(feature.name) > 1:
            raise refuse(f"Two features are called {feature.name}.", "name")


def leaves(feature: pb.Feature) -> Sequence[pb.Feature]:
    """What is aggregated: the parts, or the definition itself."""
    return feature.parts or (feature,)


def value_read(leaf: pb.Feature) -> Read | None:
    """The property that is aggregated, None where there is none."""
    source = leaf.value.WhichOneof("source")
    if source not in ("number", "text"):
        return None
    return Read(source, leaf.value.number if source == "number" else leaf.value.text, leaf.elements.property)


def filter_read(condition: pb.PropertyFilter, array: str) -> Read:
    """The property that a filter looks at."""
    return Read("text" if condition.texts else "number", condition.property, array)


def reads_of(leaf: pb.Feature) -> Iterator[Read]:
    """Every property that it reads, the aggregated one first."""
    array = leaf.elements.property
    if (value := value_read(leaf)) is not None:
        yield value
    if leaf.value.times:
        yield Read("number", leaf.value.times, array)
    for events in (leaf.events, *leaf.events.any_of):
        for condition in events.where:
            yield filter_read(condition, "")
    for condition in leaf.elements.where:
        yield filter_read(condition, array)


def columns_of(features: Sequence[pb.Feature]) -> dict[Read, str]:
    """The column that holds each property that is read: in `scoped`, or in the relation of its array."""
    columns: dict[Read, str] = {}
    for feature in features:
        for leaf in leaves(feature):
            for read in reads_of(leaf):
                columns.setdefault(read, f"{read.source}_{len(columns)}")
    return columns


def arrays_of(features: Sequence[pb.Feature]) -> list[str]:
    """The array properties whose elements are counted, each once."""
    arrays = (leaf.elements.property for feature in features for leaf in leaves(feature))
    return list(dict.fromkeys(array for array in arrays if array))


def fields_of(features: Sequence[pb.Feature]) -> list[str]:
    """Columns of `scoped` that not every set of definitions needs, in their order."""
    found: set[str] = set()
    for leaf in (leaf for feature in features for leaf in leaves(feature)):
        if leaf.value.field == pb.EVENT_FIELD_CHANNEL or any(e.channels for e in (leaf.events, *leaf.events.any_of)):
            found.add("channel")
        if leaf.value.field == pb.EVENT_FIELD_NAME:
            found.add("event_name")
        if leaf.HasField("since") or leaf.HasField("until"):
            found.add("ts_us")
        if leaf.elements.property:
            found.add("rest")
    return sorted(found)


def digest(features: Sequence[pb.Feature]) -> str:
    """SHA-256, hex, of what the definitions mean, in their order; descriptions are not part of it."""
    sha = hashlib.sha256()
    for feature in features:
        meaning = pb.Feature()
        meaning.CopyFrom(feature)
        meaning.ClearField("description")
        serialized = meaning.SerializeToString(deterministic=True)
        sha.update(len(serialized).to_bytes(4, "big") + serialized)
    return sha.hexdigest()
