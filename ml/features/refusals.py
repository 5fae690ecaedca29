"""What is wrong with a definition, by field: what was wrong and what would be right."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from rapport.features.v1 import features_pb2 as pb

from chassis.errors import InvalidArgument

# Columns of every answer.
RESERVED: Final = frozenset({"profile_id", "as_of", "newest_event"})
MAX_WINDOW_DAYS: Final = 36_500
MAX_NAMES: Final = 50
MAX_TEXTS: Final = 100
MAX_CONDITIONS: Final = 8
MAX_LENGTH: Final = 256

# Which arms of `Value` an aggregation reads; the others read none.
_SOURCES: Final[Mapping[int, Sequence[str]]] = {
    pb.AGGREGATION_COUNT_DISTINCT: ("number", "text", "field"),
    pb.AGGREGATION_SUM: ("number",),
    pb.AGGREGATION_MEAN: ("number",),
    pb.AGGREGATION_MIN: ("number",),
    pb.AGGREGATION_MAX: ("number",),
    pb.AGGREGATION_MEDIAN: ("number",),
    pb.AGGREGATION_LAST: ("text", "field"),
    pb.AGGREGATION_FIRST: ("text", "field"),
    pb.AGGREGATION_MOST_FREQUENT: ("text", "field"),
}
COMPOSED: Final = frozenset({pb.AGGREGATION_RATIO, pb.AGGREGATION_DIFFERENCE})
TEXTUAL: Final = frozenset({pb.AGGREGATION_LAST, pb.AGGREGATION_FIRST, pb.AGGREGATION_MOST_FREQUENT})
# Over the times between events: elements of one event have none between them.
BETWEEN_EVENTS: Final = frozenset(
    {
        pb.AGGREGATION_MEAN_INTERVAL_DAYS,
        pb.AGGREGATION_MEDIAN_INTERVAL_DAYS,
        pb.AGGREGATION_STD_INTERVAL_DAYS,
        pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS,
        pb.AGGREGATION_SESSIONS,
    }
)
_KNOWN: Final = frozenset(pb.Aggregation.values()) - {pb.AGGREGATION_UNSPECIFIED}

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# What no engine's quoting can carry through a JSON path.
_UNQUOTABLE: Final = re.compile(r'["\\\x00-\x1f]')
_CONTROL: Final = re.compile(r"[\x00-\x1f\\]")
_DECIMAL: Final = re.compile(r"-?\d{1,28}(\.\d{1,9})?")


def refuse(message: str, field: str) -> InvalidArgument:
    """`field` is below the definition; "" for all of them."""
    return InvalidArgument(message, field=f"features.{field}" if field else "features")


def check_one(feature: pb.Feature) -> None:
    """Raises InvalidArgument."""
    name = feature.name
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise refuse(f"A feature cannot be called {name!r}: small letters, digits and _, a letter first, at most 63.", "name")
    if feature.aggregation not in _KNOWN:
        raise refuse(f"Feature {name} names no known aggregation.", "aggregation")
    if feature.aggregation in COMPOSED:
        _check_composed(feature)
        return
    if feature.parts:
        raise refuse(f"Feature {name} has parts, which only RATIO and DIFFERENCE have.", "parts")
    _check_leaf(feature, name, "")


def _check_composed(feature: pb.Feature) -> None:
    name = feature.name
    if len(feature.parts) != 2:
        raise refuse(f"Feature {name} needs two parts; it has {len(feature.parts)}.", "parts")
    for field in ("events", "value", "elements", "since", "until"):
        if feature.HasField(field):
            raise refuse(f"Feature {name} is made of its parts: {field} belongs into them.", field)
    for field in ("window_days", "offset_days"):
        if getattr(feature, field):
            raise refuse(f"Feature {name} is made of its parts: {field} belongs into them.", field)
    for index, part in enumerate(feature.parts):
        where = f"parts[{index}]."
        if part.name or part.parts or part.aggregation in COMPOSED:
            raise refuse(f"A part of {name} has no name and no parts of its own.", f"{where}{'name' if part.name else 'parts'}")
        if part.aggregation in TEXTUAL or part.aggregation not in _KNOWN:
            raise refuse(f"A part of {name} has to aggregate to a number.", f"{where}aggregation")
        _check_leaf(part, name, where)


def _check_leaf(leaf: pb.Feature, name: str, where: str) -> None:
    for field in ("window_days", "offset_days"):
        if not 0 <= getattr(leaf, field) <= MAX_WINDOW_DAYS:
            raise refuse(f"{field} of {name} is not within 0 and {MAX_WINDOW_DAYS} days.", where + field)
    for field in ("since", "until"):
        # The years 1 to 9999, as the engines have them.
        if leaf.HasField(field) and not -62_135_596_800 <= getattr(leaf, field).seconds < 253_402_300_800:
            raise refuse(f"{field} of {name} is outside the years 1 to 9999.", where + field)
    if leaf.HasField("since") and leaf.HasField("until") and leaf.since.ToNanoseconds() >= leaf.until.ToNanoseconds():
        raise refuse(f"The window of {name} ends before it begins.", where + "until")
    _check_events(leaf.events, name, where + "events")
    _check_value(leaf, name, where + "value")
    if leaf.HasField("elements"):
        if leaf.aggregation in BETWEEN_EVENTS:
            raise refuse(f"Feature {name} is about times between events, and elements have none.", where + "elements")
        _check_property(leaf.elements.property, name, where + "elements.property")
        _check_conditions(leaf.elements.where, name, where + "elements.where")


def _check_events(events: pb.EventFilter, name: str, where: str) -> None:
    if any(alternative.any_of for alternative in events.any_of):
        raise refuse(f"The event filter of {name} is nested too deep: alternatives have none of their own.", where + ".any_of")
    if events.any_of and (events.type or events.names or events.channels or events.where):
        raise refuse(f"The event filter of {name} has alternatives: everything else belongs into them.", where + ".any_of")
    _check_count(events.any_of, MAX_CONDITIONS, name, where + ".any_of")
    for one in (events, *events.any_of):
        _check_count(one.names, MAX_NAMES, name, where + ".names")
        _check_count(one.channels, MAX_NAMES, name, where + ".channels")
        _check_texts([one.type], name, where + ".type")
        _check_texts(one.names, name, where + ".names")
        _check_texts(one.channels, name, where + ".channels")
        _check_conditions(one.where, name, where + ".where")


def _check_value(leaf: pb.Feature, name: str, where: str) -> None:
    wanted = _SOURCES.get(leaf.aggregation, ())
    source = leaf.value.WhichOneof("source")
    if not wanted:
        return
    if source not in wanted:
        raise refuse(f"Feature {name} needs a value: {' or '.join(wanted)}.", where)
    if source == "field":
        if leaf.value.field not in pb.EventField.values() or not leaf.value.field:
            raise refuse(f"Feature {name} names no known field of an event.", where + ".field")
    else:
        _check_property(leaf.value.number if source == "number" else leaf.value.text, name, where)
    if leaf.value.times:
        if source != "number" or leaf.aggregation == pb.AGGREGATION_COUNT_DISTINCT:
            raise refuse(f"Feature {name} multiplies what is not a number to add up.", where + ".times")
        _check_property(leaf.value.times, name, where + ".times")


def _check_conditions(conditions: Sequence[pb.PropertyFilter], name: str, where: str) -> None:
    _check_count(conditions, MAX_CONDITIONS, name, where)
    for condition in conditions:
        _check_property(condition.property, name, where + ".property")
        bounds = [bound for bound in (condition.at_least, condition.below) if bound]
        if bool(condition.texts) == bool(bounds):
            raise refuse(f"A filter of {name} has either texts, or at_least or below, or both of these.", where)
        _check_count(condition.texts, MAX_TEXTS, name, where + ".texts")
        _check_texts(condition.texts, name, where + ".texts")
        if not all(_is_decimal(bound) for bound in bounds):
            raise refuse(f"A bound of {name} is no decimal like 12.50, with at most 9 decimals.", where)


def _is_decimal(text: str) -> bool:
    try:
        return bool(_DECIMAL.fullmatch(text)) and Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _check_property(property_: str, name: str, where: str) -> None:
    if not property_ or len(property_) > MAX_LENGTH:
        raise refuse(f"Feature {name} needs the name of a property here, of at most {MAX_LENGTH} characters.", where)
    if _UNQUOTABLE.search(property_):
        raise refuse(f"A property that {name} reads has a control sign, a backslash or a quote in its name.", where)


def _check_count(items: Sequence[object], most: int, name: str, where: str) -> None:
    if len(items) > most:
        raise refuse(f"Feature {name} has {len(items)} here; {most} at most.", where)


def _check_texts(texts: Iterable[str], name: str, where: str) -> None:
    if any(len(text) > MAX_LENGTH or _CONTROL.search(text) for text in texts):
        raise refuse(f"A text of {name} is over {MAX_LENGTH} characters, or has a control sign or a backslash.", where)
