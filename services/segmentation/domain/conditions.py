"""Conditions over a profile's features and traits, and what they say of one profile."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, Union

from chassis.errors import InvalidArgument, Reason

MAX_DEPTH: Final = 16
MAX_NODES: Final = 500
MAX_TEXTS: Final = 1_000
MAX_NAME: Final = 256


class Opaque(Enum):
    """A trait that is there, but is not one number or text: it is present, and equals nothing."""

    VALUE = "a list or an object"


# Booleans are the numbers 1 and 0, as in the timeline that features read.
Value: TypeAlias = float | str | Opaque


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a profile at one instant. A name that is not there has no value."""

    features: Mapping[str, Value]
    traits: Mapping[str, Value]


class Operator(Enum):
    """The value is the sign that findings show."""

    EQUAL = "="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    # [low, high): two bands that share a border never overlap.
    BAND = "in"
    ONE_OF = "is one of"
    PRESENT = "is present"


class Subject(Enum):
    """Where a comparison looks."""

    FEATURE = "feature"
    TRAIT = "trait"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One leaf: a feature or trait against constants. What has no value fulfils no comparison."""

    subject: Subject
    name: str
    operator: Operator
    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InSegment:
    """True for members of another segment."""

    key: str


@dataclass(frozen=True, slots=True)
class Not:
    """True where `condition` is not; also where it compares something that has no value."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """True where each is."""

    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True where at least one is."""

    conditions: "tuple[Condition, ...]"


Condition: TypeAlias = Union["Comparison", "InSegment", "Not", "AllOf", "AnyOf"]

_ORDER: Final[Mapping[Operator, Callable[[float, float], bool]]] = {
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


def matches(condition: Condition, facts: Facts, *, memberships: Set[str]) -> bool:
    """Whether a profile fulfils a condition. `memberships` are the keys of the other segments that it is in."""
    match condition:
        case AllOf(conditions):
            return all(matches(each, facts, memberships=memberships) for each in conditions)
        case AnyOf(conditions):
            return any(matches(each, facts, memberships=memberships) for each in conditions)
        case Not(inner):
            return not matches(inner, facts, memberships=memberships)
        case InSegment(key):
            return key in memberships
        case Comparison():
            return _holds(condition, _value_of(condition, facts))


def _value_of(comparison: Comparison, facts: Facts) -> Value | None:
    known = facts.features if comparison.subject is Subject.FEATURE else facts.traits
    return known.get(comparison.name)


def _holds(comparison: Comparison, value: Value | None) -> bool:
    if value is None:
        return False
    match comparison.operator:
        case Operator.PRESENT:
            return True
        case Operator.ONE_OF:
            return value in comparison.texts
        case Operator.EQUAL:
            return value in comparison.texts or value in comparison.numbers
        case Operator.BAND:
            low, high = comparison.numbers
            return isinstance(value, int | float) and low <= value < high
        case _:
            return isinstance(value, int | float) and _ORDER[comparison.operator](value, comparison.numbers[0])


# What a condition speaks of


def _nodes(condition: Condition) -> Iterator[Condition]:
    yield condition
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            for each in conditions:
                yield from _nodes(each)
        case Not(inner):
            yield from _nodes(inner)
        case _:
            pass


def _names(condition: Condition, subject: Subject) -> frozenset[str]:
    return frozenset(node.name for node in _nodes(condition) if isinstance(node, Comparison) and node.subject is subject)


def features_of(condition: Condition) -> frozenset[str]:
    """Names of the features that it reads."""
    return _names(condition, Subject.FEATURE)


def traits_of(condition: Condition) -> frozenset[str]:
    """Names of the traits that it reads."""
    return _names(condition, Subject.TRAIT)


def references_of(condition: Condition) -> frozenset[str]:
    """Keys of the segments that it names itself."""
    return frozenset(node.key for node in _nodes(condition) if isinstance(node, InSegment))


# Why


@dataclass(frozen=True, slots=True)
class Finding:
    """One node of a condition and what it saw. `depth` is 0 for the root; a branch has no value of its own."""

    condition: str
    value: str
    held: bool
    depth: int


def findings(condition: Condition, facts: Facts, *, memberships: Set[str], depth: int = 0) -> Iterator[Finding]:
    """Every node of the tree, the root first, each branch before what it holds."""
    held = matches(condition, facts, memberships=memberships)
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            yield Finding("all of" if isinstance(condition, AllOf) else "any of", "", held, depth)
            for each in conditions:
                yield from findings(each, facts, memberships=memberships, depth=depth + 1)
        case Not(inner):
            yield Finding("not", "", held, depth)
            yield from findings(inner, facts, memberships=memberships, depth=depth + 1)
        case InSegment(key):
            yield Finding(f'in segment "{key}"', "member" if held else "not a member", held, depth)
        case Comparison():
            yield Finding(_sentence(condition), _shown(_value_of(condition, facts)), held, depth)


def _sentence(comparison: Comparison) -> str:
    name = comparison.name if comparison.subject is Subject.FEATURE else f"trait {comparison.name}"
    constants = [_number(number) for number in comparison.numbers] + [f'"{text}"' for text in comparison.texts]
    match comparison.operator:
        case Operator.PRESENT:
            return f"{name} is present"
        case Operator.BAND:
            return f"{constants[0]} <= {name} < {constants[1]}"
        case _:
            return f"{name} {comparison.operator.value} {', '.join(constants)}"


def _shown(value: Value | None) -> str:
    match value:
        case None:
            return "no value"
        case Opaque():
            return value.value
        case str():
            return f'"{value}"'
        case _:
            return _number(value)


def _number(value: float) -> str:
    return f"{value:.12g}"


# What is well formed


def check(condition: Condition, *, features: Set[str], segments: Set[str]) -> None:
    """Raises InvalidArgument, with the path of the node, where a condition could never be evaluated.

    `features` and `segments` are the names that exist.
    """
    if sum(1 for _ in _nodes(condition)) > MAX_NODES:
        raise InvalidArgument(f"a condition has at most {MAX_NODES} parts", field="condition")
    _check(condition, "condition", 1, features, segments)


def _check(condition: Condition, path: str, depth: int, features: Set[str], segments: Set[str]) -> None:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"a condition is at most {MAX_DEPTH} deep", field=path)
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            name = "allOf" if isinstance(condition, AllOf) else "anyOf"
            if not conditions:
                raise InvalidArgument(f"{name} needs at least one condition", field=f"{path}.{name}")
            for index, each in enumerate(conditions):
                _check(each, f"{path}.{name}[{index}]", depth + 1, features, segments)
        case Not(inner):
            _check(inner, f"{path}.not", depth + 1, features, segments)
        case InSegment(key):
            if key not in segments:
                raise InvalidArgument(f'there is no segment "{key[:MAX_NAME]}"', field=f"{path}.inSegment")
        case Comparison():
            _check_comparison(condition, path, features)


def _check_comparison(comparison: Comparison, path: str, features: Set[str]) -> None:
    kind = comparison.subject.value
    if not 1 <= len(comparison.name) <= MAX_NAME:
        raise InvalidArgument(f"the name of a {kind} has 1 to {MAX_NAME} characters", field=f"{path}.{kind}")
    if comparison.subject is Subject.FEATURE and comparison.name not in features:
        known = ", ".join(sorted(features))
        raise InvalidArgument(
            f'there is no feature "{comparison.name}"; there are {known}',
            reason=Reason.UNKNOWN_FEATURE,
            field=f"{path}.feature",
        )
    for text in (comparison.name, *comparison.texts):
        if not is_storable(text):
            raise InvalidArgument(
                "a text may hold no NUL and no half of a surrogate pair", reason=Reason.MALFORMED_TEXT, field=f"{path}.value"
            )
    if wrong := _wrong_constants(comparison):
        raise InvalidArgument(wrong, field=f"{path}.value")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _wrong_constants(comparison: Comparison) -> str:
    """What is wrong with a comparison's constants, in words; empty where nothing is."""
    numbers, texts = comparison.numbers, comparison.texts
    name = comparison.operator.name.lower()
    if not all(math.isfinite(number) for number in numbers):
        return "a number must be finite"
    if any(len(text) > MAX_NAME for text in texts):
        return f"a text has at most {MAX_NAME} characters"
    match comparison.operator:
        case Operator.PRESENT:
            return f"{name} takes no value" if numbers or texts else ""
        case Operator.BAND:
            is_band = len(numbers) == 2 and not texts and numbers[0] < numbers[1]
            return "" if is_band else f"{name} takes two numbers, the lower first"
        case Operator.ONE_OF:
            fits = 1 <= len(texts) <= MAX_TEXTS and not numbers
            return "" if fits else f"{name} takes 1 to {MAX_TEXTS} texts"
        case Operator.EQUAL:
            return "" if len(numbers) + len(texts) == 1 else f"{name} takes one number or one text"
        case _:
            return "" if len(numbers) == 1 and not texts else f"{name} takes one number"
