"""The conditions of segments: a tree of all-of, any-of, not, comparisons and other segments."""

import math
import re
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError
from rapport.segmentation.v1 import segmentation_pb2

from chassis.errors import InvalidArgument
from services.gateway.wire import Asked, Name, Slug, enum_name, enum_number

_OPERATOR: Final = segmentation_pb2.DESCRIPTOR.enum_types_by_name["Operator"]
OPERATORS: Final = tuple(value.name.removeprefix("OPERATOR_").lower() for value in _OPERATOR.values[1:])

DEEPEST: Final = 20
MOST_VALUES: Final = 100
_MALFORMED: Final = re.compile("[\0\ud800-\udfff]")
LONGEST_TEXT: Final = 1000
_KINDS: Final = ("allOf", "anyOf", "not", "inSegment", "feature", "trait")
_COMPARED: Final = ("feature", "trait")
_EXAMPLE: Final[dict[str, Any]] = {
    "allOf": [
        {"feature": "orders_count", "operator": "greater_or_equal", "value": 3},
        {"not": {"feature": "days_since_last_order", "operator": "greater", "value": 90}},
    ]
}
_SHOWN: Final[dict[str, Any]] = {"examples": [_EXAMPLE]}


def _comparable(value: Any) -> Any:
    """A number, a text, or a list of one of them."""
    several = value if isinstance(value, list) else [value]
    if all(isinstance(each, str) for each in several):
        if any(len(each) > LONGEST_TEXT for each in several):
            raise ValueError(f"a text has at most {LONGEST_TEXT:,} characters")
        if any(_MALFORMED.search(each) for each in several):
            raise PydanticCustomError("malformed_text", "a text may not hold a NUL or half of a surrogate pair")
    elif not all(isinstance(each, int | float) and not isinstance(each, bool) for each in several):
        raise ValueError("should be a number, a text, or a list of one of them")
    if len(several) > MOST_VALUES:
        raise ValueError(f"a list has at most {MOST_VALUES} values")
    return value if several and isinstance(several[0], str) else _floats(value)


def _floats(value: Any) -> Any:
    return [_float(each) for each in value] if isinstance(value, list) else _float(value)


def _float(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("should be a finite number")
    return number


_Numbers = Annotated[list[float], Field(max_length=MOST_VALUES)]
_Texts = Annotated[list[str], Field(max_length=MOST_VALUES)]
_Comparable = float | str | _Numbers | _Texts
Value = Annotated[Any, BeforeValidator(_comparable, json_schema_input_type=_Comparable)]


def _exactly(schema: dict[str, Any]) -> None:
    """Says what the validator says: one kind, never null, compared where there is something to compare."""
    for name, field in schema["properties"].items():
        kinds = [each for each in field["anyOf"] if each != {"type": "null"}]
        schema["properties"][name] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    needed = [[kind, "operator"] if kind in _COMPARED else [kind] for kind in _KINDS]
    schema["oneOf"] = [{"required": names} for names in needed]
    schema["properties"]["operator"]["enum"] = list(OPERATORS)
    schema["examples"] = [_EXAMPLE]


class Condition(Asked):
    """Exactly one of `allOf`, `anyOf`, `not`, `inSegment`, `feature` and `trait`.

    The last two are compared: `operator` says how, `value` with what. `band` takes two numbers, from and below;
    `one_of` takes texts; `present` takes none.
    """

    model_config = ConfigDict(json_schema_extra=_exactly)

    all_of: list["Condition"] | None = Field(None, min_length=1, max_length=100)
    any_of: list["Condition"] | None = Field(None, min_length=1, max_length=100)
    not_: "Condition | None" = Field(None, alias="not")
    in_segment: Slug | None = None
    feature: Slug | None = None
    trait: Name | None = None
    operator: str | None = None
    value: Value | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        kinds = [self.all_of, self.any_of, self.not_, self.in_segment, self.feature, self.trait]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"exactly one of {', '.join(_KINDS)} is needed")
        if self.feature is None and self.trait is None:
            if self.operator is not None or self.value is not None:
                raise ValueError("operator and value go with a feature or a trait")
        elif self.operator not in OPERATORS:
            raise ValueError(f"operator is one of {', '.join(OPERATORS)}")
        return self


class ShownCondition(RootModel[dict[str, Any]]):
    """A condition as it was given."""

    model_config = ConfigDict(json_schema_extra=_SHOWN)


def condition_message(condition: Condition, depth: int = 1) -> segmentation_pb2.Condition:
    """The condition as the contract has it. Raises InvalidArgument where it is nested too deep."""
    if depth > DEEPEST:
        raise InvalidArgument(f"a condition is nested at most {DEEPEST} deep", field="condition")
    if condition.all_of is not None:
        return segmentation_pb2.Condition(all_of=segmentation_pb2.AllOf(conditions=_each(condition.all_of, depth)))
    if condition.any_of is not None:
        return segmentation_pb2.Condition(any_of=segmentation_pb2.AnyOf(conditions=_each(condition.any_of, depth)))
    if condition.not_ is not None:
        inner = condition_message(condition.not_, depth + 1)
        return segmentation_pb2.Condition(**{"not": segmentation_pb2.Not(condition=inner)})  # pyright: ignore[reportArgumentType]
    if condition.in_segment is not None:
        return segmentation_pb2.Condition(in_segment=condition.in_segment)
    return segmentation_pb2.Condition(comparison=_comparison(condition))


def _each(conditions: list[Condition], depth: int) -> list[segmentation_pb2.Condition]:
    return [condition_message(each, depth + 1) for each in conditions]


def _comparison(condition: Condition) -> segmentation_pb2.Comparison:
    comparison = segmentation_pb2.Comparison()
    if condition.feature is not None:
        comparison.feature = condition.feature
    else:
        comparison.trait = condition.trait or ""
    comparison.operator = enum_number(_OPERATOR, condition.operator or "")
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    comparison.numbers.extend(each for each in values if isinstance(each, float))
    comparison.texts.extend(each for each in values if isinstance(each, str))
    return comparison


def shown(message: segmentation_pb2.Condition) -> dict[str, Any]:
    """The JSON that `condition_message` would read it from."""
    match message.WhichOneof("kind"):
        case "all_of":
            return {"allOf": [shown(each) for each in message.all_of.conditions]}
        case "any_of":
            return {"anyOf": [shown(each) for each in message.any_of.conditions]}
        case "not":
            return {"not": shown(getattr(message, "not").condition)}
        case "in_segment":
            return {"inSegment": message.in_segment}
        case _:
            return _shown_comparison(message.comparison)


def _shown_comparison(comparison: segmentation_pb2.Comparison) -> dict[str, Any]:
    subject = comparison.WhichOneof("subject") or "feature"
    operator = enum_name(_OPERATOR, comparison.operator) or ""
    fields: dict[str, Any] = {subject: getattr(comparison, subject), "operator": operator.lower()}
    values = [*comparison.numbers, *comparison.texts]
    if values:
        several = len(values) > 1 or comparison.operator == segmentation_pb2.OPERATOR_ONE_OF
        fields["value"] = values if several else values[0]
    return fields
