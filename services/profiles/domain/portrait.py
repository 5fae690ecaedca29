"""A portrait in five blocks: basic, consumption, behaviour, psychology, social. A block that knows nothing says so."""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Why: what is inside decoded JSON has no type.

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, TypeAlias

from services.profiles.domain.classify import UNDECLARED, Classes, is_sensitive

Json: TypeAlias = Any

TRAIT: Final = "trait"
FEATURE: Final = "feature"
_CENT: Final = Decimal("0.01")
# Traits of these names, or below them ("preference.colour"), belong to a block of their own.
_PSYCHOLOGY: Final = ("preference", "preferences", "interest", "interests", "hobby", "hobbies", "lifestyle", "motive", "values")
_SOCIAL: Final = ("social", "referral", "referrals", "community")
_SOCIAL_EVENTS: Final = ("Product Shared", "Cart Shared", "Product Reviewed", "Invite Sent", "Referral")
_CART: Final = "Product Added"


@dataclass(frozen=True, slots=True)
class Activity:
    """How often a call was made, from where, and when first and last. `is_fact`: a service recorded it."""

    type: str
    name: str
    channel: str
    is_fact: bool
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Favourite:
    """What was bought, and how much of it."""

    label: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class SurveyAnswer:
    """The last answer to one survey."""

    kind: str
    rating: Decimal | None
    answered: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a block. `origin`: where it comes from: a trait, a feature, or an event's name.

    What is sensitive is personal too.
    """

    name: str
    value: str
    unit: str = ""
    origin: str = TRAIT
    personal: bool = False
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What a portrait is made of. `features` are the values as text; what has none is missing.

    `classes`: what the tenant declares of traits.
    """

    public: Mapping[str, Json]
    personal: Mapping[str, Json]
    features: Mapping[str, tuple[str, str]]
    activities: Sequence[Activity]
    visit_days: int
    categories: Sequence[Favourite]
    products: Sequence[Favourite]
    answers: Sequence[SurveyAnswer]
    classes: Classes = field(default_factory=lambda: UNDECLARED)


def blocks(known: Known) -> dict[str, list[Entry]]:
    """The five blocks in their order; an empty list is an empty block."""
    return {
        "basic": _basic(known),
        "consumption": _consumption(known),
        "behaviour": _behaviour(known),
        "psychology": _psychology(known),
        "social": _social(known),
    }


def _basic(known: Known) -> list[Entry]:
    entries = [
        Entry(key, text(value), personal=True, sensitive=is_sensitive(key, value, known.classes))
        for key, value in sorted(known.personal.items())
        if _block(key) is None
    ]
    entries += [Entry(key, text(value)) for key, value in sorted(known.public.items()) if _block(key) is None]
    if own := [activity for activity in known.activities if not activity.is_fact]:
        first = min(activity.first for activity in own)
        entries.append(Entry("first_seen", _day(first), "date", origin="event"))
    return entries


def _consumption(known: Known) -> list[Entry]:
    orders = known.features.get("orders_count", ("0", ""))[0]
    entries: list[Entry] = []
    if float(orders) > 0:
        entries = _features(
            known,
            "orders_count",
            "revenue_total",
            "orders_90d",
            "revenue_90d",
            "refunds_total",
            "days_since_last_order",
            "days_since_first_order",
        )
        if "revenue_total" in known.features:
            value = (Decimal(known.features["revenue_total"][0]) / Decimal(orders)).quantize(_CENT, ROUND_HALF_EVEN)
            entries.append(Entry("average_order_value", str(value), "currency", FEATURE))
    for name, favourites in (("favourite_category", known.categories), ("favourite_product", known.products)):
        entries += [Entry(name, each.label, f"{_plain(each.quantity)} bought", "Order Completed") for each in favourites]
    return entries


def _behaviour(known: Known) -> list[Entry]:
    own = [activity for activity in known.activities if not activity.is_fact]
    if not own:
        return []
    entries = [Entry("last_seen", _day(max(activity.last for activity in own)), "date", origin="event")]
    if known.visit_days:
        entries.append(Entry("visit_days", str(known.visit_days), "days", "page"))
    if carts := sum(activity.count for activity in own if activity.name == _CART):
        entries.append(Entry("added_to_cart", str(carts), "times", _CART))
    entries += _features(known, "mean_order_interval_days", "active_days_90d", "tickets_90d")
    channels = Counter[str]()
    for activity in own:
        channels[activity.channel] += activity.count
    entries += [
        Entry("channel", channel, f"{count} events", "event")
        for channel, count in sorted(channels.items(), key=lambda item: (-item[1], item[0]))
        if channel
    ]
    return entries


def _psychology(known: Known) -> list[Entry]:
    entries = _traits_of(known, _PSYCHOLOGY)
    for answer in sorted(known.answers, key=lambda each: each.answered, reverse=True):
        if answer.rating is not None:
            name = f"{answer.kind.lower() or 'survey'}_rating"
            entries.append(Entry(name, _plain(answer.rating), f"on {_day(answer.answered)}", "Survey Answered"))
    return entries


def _social(known: Known) -> list[Entry]:
    entries = _traits_of(known, _SOCIAL)
    counts = Counter[str]()
    for activity in known.activities:
        if not activity.is_fact and activity.name.startswith(_SOCIAL_EVENTS):
            counts[activity.name] += activity.count
    return entries + [Entry(name, str(count), "times", name) for name, count in sorted(counts.items())]


def _block(key: str) -> str | None:
    """The block of a trait that is not basic."""
    root = key.split(".", 1)[0].lower()
    if root in _PSYCHOLOGY:
        return "psychology"
    return "social" if root in _SOCIAL else None


def _traits_of(known: Known, roots: tuple[str, ...]) -> list[Entry]:
    wanted = "psychology" if roots is _PSYCHOLOGY else "social"
    entries: list[Entry] = []
    for traits, personal in ((known.personal, True), (known.public, False)):
        for key, value in sorted(traits.items()):
            if _block(key) != wanted:
                continue
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for name, part in parts:
                whole = f"{key}.{name}" if name else key
                own, inner = is_sensitive(key, None, known.classes), is_sensitive(name or key, part, known.classes)
                entries.append(Entry(whole, text(part), personal=personal, sensitive=personal and (own or inner)))
    return entries


def _features(known: Known, *names: str) -> list[Entry]:
    return [Entry(name, *known.features[name], FEATURE) for name in names if name in known.features]


def text(value: Json) -> str:
    """A trait's value for people: a text as itself, a list of texts joined, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
