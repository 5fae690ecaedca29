"""What is told of an event that is not as the plan has it: where, what was expected, what kind of thing was found.

Never the value, unless it is public by its class; never the name of a property that looks like somebody's address.
"""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Why: what is inside decoded JSON has no type.

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from services.profiles.domain.classify import CONTAINERS, UNDECLARED, Classes, is_public_text, kind_of, split
from services.profiles.domain.plan import UNPLANNED_RULE, Mode

Json: TypeAlias = Any
Path: TypeAlias = Sequence[str | int]

MAX_TOLD: Final = 200
# Groups that are kept of a version; what comes beyond is counted together under this rule.
MAX_GROUPS: Final = 1_000
OTHERS_RULE: Final = "others"

_MISSING: Final = object()
_COMPARED: Final[Mapping[str, str]] = {
    "minimum": "at least {limit}", "maximum": "at most {limit}",
    "exclusiveMinimum": "over {limit}", "exclusiveMaximum": "under {limit}",
    "minLength": "a text of at least {limit} characters", "maxLength": "a text of at most {limit} characters",
    "minItems": "a list of at least {limit}", "maxItems": "a list of at most {limit}",
    "minProperties": "an object with at least {limit} properties", "maxProperties": "an object with at most {limit} properties",
    "multipleOf": "a multiple of {multiple_of}", "pattern": "a text that matches {pattern}", "format": "a {format}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that one event breaks. `field` is where it is in this event, `path` the same of all of its kind."""

    type: str
    # Empty for identify and group; "..." where the name is personal.
    event: str
    rule: str
    field: str
    path: str
    expected: str
    found: str
    # A public value, None where there is none to show.
    value: Json = None

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What it is counted under."""
        return self.type, self.event, self.rule, self.path

    @property
    def message(self) -> str:
        """What would be right."""
        return f"{self.field} must be {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a plan says of an event that is not as it should be. There is at least one violation."""

    mode: Mode
    version: int
    violations: Sequence[Violation]

    @property
    def lets_pass(self) -> bool:
        """Whether the event is appended all the same."""
        return self.mode is Mode.OBSERVE

    @property
    def message(self) -> str:
        """Of the first violation, with the version and the rule."""
        first = self.violations[0]
        return f"{first.message}: {first.rule} of the tracking plan's version {self.version}"


@dataclass(frozen=True, slots=True)
class Broken:
    """A keyword of a schema that does not hold. `instance` leads through the properties, `schema` through the schema."""

    keyword: str
    details: Mapping[str, Json]
    instance: Path
    schema: Path


def unplanned(name: str) -> Violation:
    """A track call whose name the plan does not have."""
    shown = name if is_public_text(name, 256) else "..."
    return Violation("track", shown, UNPLANNED_RULE, "event", "event", "the name of a planned event", "another name")


def violation_of(
    broken: Broken, type_: str, name: str, fields: Mapping[str, Json], declared: Set[str], classes: Classes = UNDECLARED
) -> Violation:
    """`declared` are the names of properties that the schema itself has; all others are counted as one."""
    root = "traits" if type_ in ("identify", "group") else "properties"
    path = _place(broken, fields)
    value = at(fields, path)
    return Violation(
        type=type_,
        event=name,
        rule="".join(f"/{part}" for part in broken.schema)[:MAX_TOLD],
        field=_told(root, path, frozenset(), all_of_its_kind=False),
        path=_told(root, path, declared, all_of_its_kind=True),
        expected=expected(broken)[:MAX_TOLD],
        found=type_name(value),
        value=public_value(fields, path, type_, name, classes),
    )


def _place(broken: Broken, fields: Mapping[str, Json]) -> Path:
    """Down to the property that is missing, or that should not be there."""
    if broken.keyword == "required":
        return [*broken.instance, str(broken.details.get("property", ""))]
    if unexpected := broken.details.get("unexpected"):
        return [*broken.instance, unexpected[0]]
    holder = at(fields, broken.instance)
    if broken.keyword == "falseSchema" and broken.schema[-1:] == ["additionalProperties"] and isinstance(holder, dict):
        return [*broken.instance, *list(holder)[:1]]
    return broken.instance


def at(fields: Json, path: Path) -> Json:
    """What stands there; `_MISSING` where nothing does."""
    found = fields
    for part in path:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return found


def public_value(fields: Mapping[str, Json], path: Path, type_: str, name: str, classes: Classes = UNDECLARED) -> Json:
    """A single value that is public by its class; None for all others."""
    found = at(split(fields, kind_of(type_, name), classes)[0], path)
    return None if found is _MISSING or isinstance(found, CONTAINERS) else found


def type_name(value: Json) -> str:
    """JSON Schema's name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "nothing"


def expected(broken: Broken) -> str:
    """What the rule asks for, in words."""
    details = broken.details
    match broken.keyword:
        case "type":
            return "of type " + " or ".join(str(each) for each in details.get("types", ()))
        case "required":
            return "there"
        case "enum":
            return "one of " + ", ".join(_shown(each) for each in details.get("options", ()))
        case "const":
            return _shown(details.get("expected_value"))
        case "additionalProperties" | "unevaluatedProperties" | "falseSchema" | "additionalItems" | "unevaluatedItems":
            return "absent"
        case "uniqueItems":
            return "a list without repeats"
        case keyword if keyword in _COMPARED:
            return _COMPARED[keyword].format(**details)
        case keyword:
            return f"as {keyword} has it"


def _shown(value: Json) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _told(root: str, path: Path, declared: Set[str], *, all_of_its_kind: bool) -> str:
    told = root
    for part in path:
        if isinstance(part, int):
            told += "[]" if all_of_its_kind else f"[{part}]"
        elif all_of_its_kind and part not in declared:
            told += ".*"
        else:
            told += f".{part}" if is_public_text(part) and "\x00" not in part else "...."
    return told[:MAX_TOLD]
