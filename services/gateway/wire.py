"""Between protobuf messages and JSON: field types that all routes share, and one way to read a message."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Final, Generic, Self, TypeVar

import msgspec
from fastapi import Path, Query
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

# PostgreSQL's text holds no NUL.
NO_NUL: Final = r"^[^\x00]*$"
REF: Final = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(user_id|anonymous_id):[^\x00]{1,255})$"
UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
SLUG: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
# A name that is looked up elsewhere: models, versions, services.
WORD: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")

# Stands for an encoded slash inside a segment of a path until it was routed: a noncharacter, so nobody's id holds it.
SLASH: Final = "\ufdd0"

MOST_REFS: Final = 1000
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)

Item = TypeVar("Item")


class Asked(BaseModel):
    """What comes in. A field that is not known is refused, not ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class Answer(BaseModel):
    """What goes out. Fields of a message that are not declared here stay inside."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="ignore",
        hide_input_in_errors=True,  # what does not fit is logged, and may be personal
    )

    @classmethod
    def of(cls, message: Message, **more: Any) -> Self:
        """From a message with fields of the same names; `more` goes before them."""
        return cls.model_validate(plain(message) | more)


class Page(Answer, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    has_more: bool = Field(description="Whether there is another page.")
    next: str | None = Field(description="The cursor of the next page, for the parameter `next`; null at the end.")

    @classmethod
    def of_items(cls, items: Sequence[Item], next_token: str, **more: Any) -> Self:
        """A page as the services give it."""
        return cls.model_validate({"data": items, "has_more": bool(next_token), "next": next_token or None} | more)


class PeoplePage(Page[Item]):
    """One page of people, or of what is theirs."""

    withheld_count: int = Field(0, description="Rows of this page that are left out: their people do not allow the purpose.")


def plain(message: Message) -> dict[str, Any]:
    """The fields by their names in the contract: times as datetime, enums as names without prefix, JSON bytes decoded.

    What the contract can leave unset is None where it is.
    """
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            return dict(value)
        return [_single(each, field) for each in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(value, field)


def _single(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC)
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if isinstance(value, bytes):
        return msgspec.json.decode(value) if value else {}
    return value


def enum_name(kind: EnumDescriptor, number: int) -> str | None:
    """VERDICT_BETTER of the enum Verdict is "BETTER"; None for a number that this version does not know."""
    value = kind.values_by_number.get(number)
    return value.name.removeprefix(_prefix(kind)) if value else None


def enum_number(kind: EnumDescriptor, name: str) -> Any:
    """The other way, from either case. Typed Any, since each enum is a type of its own to the stubs."""
    return kind.values_by_name[_prefix(kind) + name.upper()].number


def _prefix(kind: EnumDescriptor) -> str:
    return kind.values[0].name.removesuffix("UNSPECIFIED")


def moment_of(message: Message, field: str) -> datetime | None:
    """A Timestamp field; None where it is unset."""
    return getattr(message, field).ToDatetime(UTC) if message.HasField(field) else None


def set_moment(message: Message, field: str, at: datetime | None) -> None:
    """Sets a Timestamp field where there is something to set."""
    if at is not None:
        getattr(message, field).FromDatetime(at)


def _is_text_of_time(value: Any) -> Any:
    """pydantic would read a number as seconds since 1970."""
    if not (isinstance(value, str) and value[4:5] == "-" and len(value) > len("2011-09-10T00:00")):
        raise ValueError("should be a time as ISO 8601 with its offset, 2011-09-10T00:00:00Z")
    return value


def _is_number(value: Any) -> Any:
    """pydantic would read "7" and true as numbers too."""
    if isinstance(value, str | bool):
        raise ValueError("should be a number")  # noqa: TRY004  (what pydantic listens to)
    return value


def _bounded(at: datetime) -> datetime:
    if not _EARLIEST <= at < _LATEST:
        raise ValueError("should be between 1970 and 2200")
    return at.astimezone(UTC)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _or_none(value: Any) -> Any:
    return value or None


def _can_be_handed_on(value: dict[str, Any]) -> dict[str, Any]:
    """Refuses what Python reads in a JSON text and no other text can hold."""
    waiting: list[Any] = [value]
    while waiting:
        match waiting.pop():
            case str(text) if _HALF_PAIR.search(text):
                raise PydanticCustomError("malformed_text", "a text may not hold half of a surrogate pair")
            case float(number) if not isfinite(number):
                raise PydanticCustomError("finite_number", "NaN, Infinity and what is beyond 1.8e308 are no numbers of JSON's")
            case dict(fields):
                waiting += [*fields.keys(), *fields.values()]
            case list(items):
                waiting += items
            case _:
                pass
    return value


def with_slashes(value: Any) -> Any:
    """A segment of a path as its sender meant it."""
    return value.replace(SLASH, "/") if isinstance(value, str) else value


# Field types of requests.
JsonObject = Annotated[dict[str, Any], AfterValidator(_can_be_handed_on)]
Text = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL)]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_is_text_of_time),
    AfterValidator(_bounded),
    Field(description="ISO 8601 with its offset, from 1970 to 2199.", examples=["2011-09-10T00:00:00Z"]),
]
Whole = Annotated[int, BeforeValidator(_is_number)]
Decimal = Annotated[float, BeforeValidator(_is_number)]
Ref = Annotated[
    str,
    Field(
        pattern=REF,
        max_length=300,
        description="A profile id, `user_id:<id>` or `anonymous_id:<id>`.",
        examples=["user_id:12347"],
    ),
]
Refs = Annotated[list[Ref], Field(min_length=1, max_length=MOST_REFS)]
Slug = Annotated[str, Field(pattern=SLUG, description="Lower-case letters, digits, - and _.")]
Word = Annotated[str, Field(pattern=WORD)]

# Field types of answers.
Lower = BeforeValidator(_lower)
OrNone = BeforeValidator(_or_none)

# Parameters. A ref in a path may hold an encoded slash.
PathRef = Annotated[
    Ref, BeforeValidator(with_slashes), Path(description="A profile id, `user_id:<id>` or `anonymous_id:<id>`, URL-encoded.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Cursor = Annotated[str, Query(alias="next", max_length=2048, description="The cursor that the page before gave as `next`.")]
At = Annotated[Moment | None, Query(description="Only what was known before this instant; the tenant's clock if absent.")]
