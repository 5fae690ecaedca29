"""What an event must be. Each check raises InvalidArgument with a reason, the field and a sentence, never with the value."""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Why: what is inside decoded JSON has no type.

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.classify import CONTAINERS, ECOMMERCE_EVENTS, is_public_text

Json: TypeAlias = Any

TYPES: Final = frozenset({"identify", "track", "page", "screen", "group", "alias"})
BODY_TYPES: Final = frozenset({"batch", "import"})

MAX_BODY_BYTES: Final = 500 * 1024
MAX_EVENT_BYTES: Final = 32 * 1024
MAX_BATCH: Final = 2_500
MAX_MEMBERS: Final = 2_000
MAX_DEPTH: Final = 20
MAX_ID_LENGTH: Final = 255
MAX_NAME_LENGTH: Final = 256

# What services record in the log; a client that sends them would be believed.
FACT_NAMES: Final = frozenset(
    {
        "Profile Merged", "Profile Unmerged", "Identities Linked", "Identities Parted", "Profile Erased", "Segment Entered",
        "Segment Exited", "Churn Scored", "Survey Answered", "Case Opened", "Experiment Assigned", "Model Promoted",
    }
)  # fmt: skip
# Everything that a service records has a source that begins so, and nothing else has.
FACT_SOURCE: Final = "rapport."

# Where features and models read money or counts.
_AMOUNTS: Final = ("price", "quantity", "total", "subtotal", "revenue")
_IDS: Final = ("order_id", "product_id", "sku", "category", "currency", "ticket_id")
_NUMBERS: Final = frozenset({int, float})
_NO_TEXTS: Final = frozenset({dict, list, bool})


def identifier(value: str | int | None, field: str) -> str:
    """The identifier as text; "" where there is none. Whole numbers are taken for their digits."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_ID_LENGTH:
        raise InvalidArgument(f"{field} is longer than {MAX_ID_LENGTH} characters", field=field)
    return "" if text.isspace() else text


def check_identity(type_: str, *, user_id: str, anonymous_id: str, previous_id: str, group_id: str) -> None:
    """Somebody did it; an alias names both ids, a group call the group."""
    if type_ == "alias":
        if not previous_id:
            raise InvalidArgument("an alias needs a previousId", reason=Reason.MISSING_FIELD, field="previousId")
        if not user_id:
            raise InvalidArgument("an alias needs a userId", reason=Reason.MISSING_FIELD, field="userId")
    if not user_id and not anonymous_id:
        raise InvalidArgument("an event needs a userId or an anonymousId", reason=Reason.MISSING_IDENTITY, field="userId")
    if type_ == "group" and not group_id:
        raise InvalidArgument("a group call needs a groupId", reason=Reason.MISSING_FIELD, field="groupId")


def check_name(type_: str, name: str) -> None:
    """A track call names its event, and none that only the platform may record."""
    field = "event" if type_ == "track" else "name"
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"{field} is longer than {MAX_NAME_LENGTH} characters", field=field)
    if type_ != "track":
        return
    if not name.strip():
        raise InvalidArgument("a track call needs an event", reason=Reason.MISSING_FIELD, field=field)
    if name in FACT_NAMES:
        raise InvalidArgument("an event of this name is recorded by the platform only", field=field)


def check_shape(parts: Mapping[str, Json]) -> None:
    """At most MAX_MEMBERS properties in all, at most MAX_DEPTH deep. Elements of lists are not counted, what they hold is."""
    found = sum(_count(part, 1) for part in parts.values() if isinstance(part, CONTAINERS))
    if found > MAX_MEMBERS:
        raise InvalidArgument(f"an event has over {MAX_MEMBERS} properties", reason=Reason.TOO_MANY_PROPERTIES)


def _count(value: Json, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"properties are nested over {MAX_DEPTH} deep", reason=Reason.TOO_MANY_PROPERTIES)
    items, found = (value.values(), len(value)) if isinstance(value, dict) else (value, 0)
    for item in items:
        if isinstance(item, CONTAINERS):
            found += _count(item, depth + 1)
    return found


def check_texts(parts: Mapping[str, Json]) -> None:
    """No text and no name of a field holds NUL, which a database cannot store."""
    if (path := _path_of_nul(parts)) is not None:
        raise InvalidArgument("a text holds a NUL character", reason=Reason.MALFORMED_TEXT, field=path)


def _path_of_nul(value: Json) -> str | None:
    if isinstance(value, str):
        return "" if "\x00" in value else None
    if isinstance(value, dict):
        items: Sequence[tuple[Json, Json]] = list(value.items())
    elif isinstance(value, list):
        items = [(f"[{index}]", item) for index, item in enumerate(value)]
    else:
        return None
    for key, item in items:
        if "\x00" in key:
            return ""
        if (below := _path_of_nul(item)) is not None:
            return _joined(_shown(key), below)
    return None


def _joined(key: str, below: str) -> str:
    return f"{key}{below}" if not below or below.startswith("[") else f"{key}.{below}"


def _shown(key: str) -> str:
    """A field's name as it may stand in an answer and in the list of rejections."""
    return key if is_public_text(key) else "..."


def check_commerce(name: str, properties: Mapping[str, Json]) -> None:
    """In Segment's ecommerce events amounts are numbers and not negative, ids are texts, products a list of objects."""
    if name not in ECOMMERCE_EVENTS:
        return
    _check_amounts(properties, "properties")
    products = properties.get("products")
    if products is None:
        return
    if not isinstance(products, list):
        raise InvalidArgument("properties.products must be a list", field="properties.products")
    for index, product in enumerate(products):
        if not isinstance(product, dict):
            field = f"properties.products[{index}]"
            raise InvalidArgument(f"{field} must be an object", field=field)
        _check_amounts(product, "properties.products", index)


def _check_amounts(item: Mapping[str, Json], path: str, index: int | None = None) -> None:
    for key in _AMOUNTS:
        value = item.get(key)
        if value is None:
            continue
        is_number = type(value) in _NUMBERS  # and not a truth value
        if not is_number or value < 0:
            raise _bad_amount(is_number, key, path, index)
    for key in _IDS:
        if type(item.get(key)) in _NO_TEXTS:
            field = _field(path, index, key)
            raise InvalidArgument(f"{field} must be a text", field=field)


def _bad_amount(is_number: bool, key: str, path: str, index: int | None) -> InvalidArgument:
    field = _field(path, index, key)
    if not is_number:
        return InvalidArgument(f"{field} must be a number", field=field)
    return InvalidArgument(
        f"{field} is negative; a refund is an event of its own, Order Refunded, with positive amounts",
        reason=Reason.NEGATIVE_PRICE,
        field=field,
    )


def _field(path: str, index: int | None, key: str) -> str:
    return f"{path}.{key}" if index is None else f"{path}[{index}].{key}"
