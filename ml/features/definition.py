"""What a definition may say, what it answers with, and its digest."""

import hashlib
import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

from rapport.features.v1 import features_pb2 as pb

from chassis.errors import InvalidArgument


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
}

# Which arms of `Value` an aggregation reads; the others read none.
_SOURCES: Final = {
    pb.AGGREGATION_COUNT_DISTINCT: ("number", "text"),
    pb.AGGREGATION_SUM: ("number",),
    pb.AGGREGATION_MEAN: ("number",),
    pb.AGGREGATION_MIN: ("number",),
    pb.AGGREGATION_MAX: ("number",),
    pb.AGGREGATION_LAST: ("text",),
}

# Columns of every answer.
RESERVED: Final = frozenset({"profile_id", "as_of", "newest_event"})
MAX_WINDOW_DAYS: Final = 36_500

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# What neither engine's quoting can carry through a JSON path.
_UNQUOTABLE: Final = re.compile(r'["\\\x00-\x1f]')


def check(features: Sequence[pb.Feature]) -> None:
    """Raises InvalidArgument where a definition cannot be compiled; the message names the feature and the field."""
    if not features:
        raise InvalidArgument("There is no feature to compile.", field="features")
    names = [feature.name for feature in features]
    for feature in features:
        _check_one(feature)
        if names.count(feature.name) > 1:
            raise InvalidArgument(f"Two features are called {feature.name}.", field="features.name")


def _check_one(feature: pb.Feature) -> None:
    name = feature.name
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InvalidArgument(f"A feature cannot be called {name!r}.", field="features.name")
    if feature.aggregation not in KINDS:
        raise InvalidArgument(f"Feature {name} names no known aggregation.", field="features.aggregation")
    if not 0 <= feature.window_days <= MAX_WINDOW_DAYS:
        raise InvalidArgument(f"The window of {name} is not within 0 and {MAX_WINDOW_DAYS} days.", field="features.window_days")
    if any(alternative.any_of for alternative in feature.events.any_of):
        raise InvalidArgument(f"The event filter of {name} is nested too deep.", field="features.events.any_of")
    wanted = _SOURCES.get(feature.aggregation, ())
    source = feature.value.WhichOneof("source")
    if wanted and source not in wanted:
        raise InvalidArgument(f"Feature {name} needs a value: {' or '.join(wanted)}.", field="features.value")
    if _UNQUOTABLE.search(property_of(feature)):
        raise InvalidArgument(f"The property that {name} reads has a control sign or a quote.", field="features.value")


def property_of(feature: pb.Feature) -> str:
    """The property that a definition reads, or "" where it reads none."""
    if feature.aggregation not in _SOURCES:
        return ""
    return feature.value.number if feature.value.WhichOneof("source") == "number" else feature.value.text


def columns_of(features: Sequence[pb.Feature]) -> dict[tuple[str, str], str]:
    """(arm of `Value`, property) -> the column of `scoped` that holds it, for all properties that are read."""
    columns: dict[tuple[str, str], str] = {}
    for feature in features:
        if name := property_of(feature):
            source = str(feature.value.WhichOneof("source"))
            columns.setdefault((source, name), f"{source}_{len(columns)}")
    return columns


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
