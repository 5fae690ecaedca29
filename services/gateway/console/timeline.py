"""Events as lines of a timeline: what happened, in words, and what else was said about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.gateway.console.figures import Figures
from services.gateway.console.words import Words

MOST_PROPERTIES: Final = 40
PRODUCTS_NAMED: Final = 3
_MOST_CHARACTERS: Final = 160

# Kinds of events by what they mean to a reader; the style sheet colours them.
_KINDS: Final[Mapping[str, str]] = {
    "Order Completed": "order",
    "Order Refunded": "refund",
    "Ticket Opened": "refund",
    "Case Opened": "refund",
    "Survey Answered": "answer",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `properties` are (name, value), flat."""

    title: str
    summary: str
    kind: str
    timestamp: datetime | None
    source: str
    properties: Sequence[tuple[str, str]]


def entry(event: Mapping[str, Any], words: Words) -> Entry:
    """From an event's fields."""
    name, kind = event["name"], event["type"]
    properties: Mapping[str, Any] = event["properties"]
    title = words.name("event", name) if name and kind == "track" else words.name("call", kind)
    source = event["source"]
    return Entry(
        title=title,
        summary=_summary(name if kind == "track" else kind, event, words),
        kind=_KINDS.get(name, "fact" if source.startswith("rapport.") else "visit"),
        timestamp=event["timestamp"],
        source=source,
        properties=[(key, _text(value)) for key, value in _flat(properties)][:MOST_PROPERTIES],
    )


def _summary(name: str, event: Mapping[str, Any], words: Words) -> str:
    properties: Mapping[str, Any] = event["properties"]
    figures = Figures(words)
    match name:
        case "Order Completed" | "Order Refunded":
            amount = properties.get("revenue", properties.get("total"))
            return _joined(_amount(amount, properties, figures), _products(properties))
        case "Product Viewed" | "Product Added":
            return _joined(_text(properties.get("name", "")), _amount(properties.get("price"), properties, figures))
        case "Ticket Opened":
            return _text(properties.get("topic", ""))
        case "Churn Scored":
            probability = _number(properties.get("probability"))
            return _joined(figures.percent(probability), words("timeline.version", version=properties.get("version", "")))
        case "Segment Entered" | "Segment Exited":
            return words.name("segment", _text(properties.get("segment", "")))
        case "Survey Answered":
            return words("timeline.rating", rating=properties.get("rating", ""), survey=properties.get("surveyId", ""))
        case "Experiment Assigned" | "Experiment Viewed":
            return _joined(_text(properties.get("experiment_id", "")), _text(properties.get("variation_id", "")))
        case "page" | "screen":
            return _joined(event["name"], _text(properties.get("path", "")))
        case _:
            plain_ones = [f"{key} {_text(value)}" for key, value in properties.items() if not isinstance(value, list | dict)]
            return _joined(*plain_ones[:3])


def _amount(amount: Any, properties: Mapping[str, Any], figures: Figures) -> str:
    number = _number(amount)
    return "" if number is None else f"{figures.money(number)} {_text(properties.get('currency', ''))}".strip()


def _products(properties: Mapping[str, Any]) -> str:
    products = properties.get("products")
    if not isinstance(products, list):
        return ""
    named = [_product(each) for each in products if isinstance(each, dict)]
    rest = len(named) - PRODUCTS_NAMED
    return ", ".join(named[:PRODUCTS_NAMED]) + (f" +{rest}" if rest > 0 else "")


def _product(product: Mapping[str, Any]) -> str:
    quantity = _number(product.get("quantity"))
    times = f"{quantity:g} × " if quantity is not None and quantity != 1 else ""
    return times + _text(product.get("name") or product.get("product_id") or "")


def _flat(properties: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested objects by dotted names; lists as they are."""
    flat: list[tuple[str, Any]] = []
    for key, value in properties.items():
        if isinstance(value, dict) and value and before.count(".") < 3:
            flat += _flat(value, f"{before}{key}.")
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            flat += [
                (f"{before}{key}.{number}", ", ".join(f"{name} {_text(inner)}" for name, inner in each.items()))
                for number, each in enumerate(value, 1)
                if isinstance(each, dict)
            ]
        else:
            flat.append((before + key, value))
    return flat


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
