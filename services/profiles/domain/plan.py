"""A tracking plan: which events there are, what their properties look like, and what happens to those that are not so.

A property's schema may say that it is personal or sensitive, with the keyword FIELD_CLASS; whatever the plan's mode is,
it is sealed then.

A plan is JSON, as its authors write it; schemas are JSON Schema 2020-12. What a schema costs to check is bounded here: it
refers to nothing outside itself, never to itself again, and to no more than MAX_NODES rules in all, references followed.
"""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Why: what is inside decoded JSON has no type.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.classify import UNDECLARED, Classes, FieldClass, is_public_text
from services.profiles.domain.validate import FACT_NAMES, MAX_NAME_LENGTH

Json: TypeAlias = Any

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_PLAN_BYTES: Final = 400 * 1024
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_EVENTS: Final = 1_000
MAX_NODES: Final = 2_000
MAX_SCHEMA_DEPTH: Final = 40
MAX_PATTERNS: Final = 500
MAX_DESCRIPTION: Final = 1_000

# JSON Schema leaves keywords that it does not know to those who do.
FIELD_CLASS: Final = "x-field-class"
UNPLANNED_RULE: Final = "unplanned"

_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA: Final = frozenset({"enum", "const", "default", "examples"})
_REFUSED: Final = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})


class Mode(StrEnum):
    """What happens to an event that is not as the plan has it. The later ones are the stricter."""

    OBSERVE = "observe"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of event must look like. `mode` is the plan's unless the rule has its own."""

    schema: Mapping[str, Json]
    mode: Mode
    classes: Classes = field(default_factory=lambda: UNDECLARED)


@dataclass(frozen=True, slots=True)
class Plan:
    """`events` are track calls by name; `calls` are identify and group. `unplanned` None: names that are not here may come."""

    events: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    calls: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    unplanned: Mode | None = None

    @property
    def asks_nothing(self) -> bool:
        """Whether every event passes."""
        return self.unplanned is None and not any(rule.schema for rule in (*self.events.values(), *self.calls.values()))

    @property
    def may_hold(self) -> bool:
        """Whether an event may be put into quarantine."""
        rules = (*self.events.values(), *self.calls.values())
        return self.unplanned is Mode.QUARANTINE or any(rule.mode is Mode.QUARANTINE for rule in rules)

    def declared(self) -> Mapping[tuple[str, str], Classes]:
        """By (type, name) of the calls of which anything is declared; the name of a track call, "" of others."""
        rules = [(("track", name), rule) for name, rule in self.events.items()]
        rules += [((call, ""), rule) for call, rule in self.calls.items()]
        return {key: rule.classes for key, rule in rules if rule.classes}

    def schemas(self) -> Iterator[tuple[str, Mapping[str, Json]]]:
        """(where it stands in the document, as a JSON pointer; the schema)."""
        for name, rule in self.events.items():
            yield f"/events/{_escaped(name)}/schema", rule.schema
        for call, rule in self.calls.items():
            yield f"/{call}/schema", rule.schema


def plan_of(document: Json) -> Plan:
    """Raises InvalidArgument with a JSON pointer as its field."""
    _check_keys(document, {"mode", "unplanned", "events", "identify", "group"}, "")
    mode = _mode(document.get("mode", "observe"), "/mode")
    events = document.get("events", {})
    if not isinstance(events, dict):
        raise InvalidArgument("events is an object: a rule for each name of a track call", field="/events")
    if len(events) > MAX_EVENTS:
        raise InvalidArgument(f"a plan has at most {MAX_EVENTS:,} events", field="/events")
    for name in events:
        _check_name(name)
    unplanned = document.get("unplanned", "allow")
    plan = Plan(
        events={name: _rule(rule, mode, f"/events/{_escaped(name)}") for name, rule in events.items()},
        calls={call: _rule(document[call], mode, f"/{call}") for call in ("identify", "group") if call in document},
        unplanned=None if unplanned == "allow" else _mode(unplanned, "/unplanned", "allow, "),
    )
    _check_patterns(plan)
    return plan


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_LENGTH or "\x00" in name or not is_public_text(name, MAX_NAME_LENGTH):
        message = f"an event's name has 1 to {MAX_NAME_LENGTH} characters, and looks like no address of a person or page"
        raise InvalidArgument(message, field=f"/events/{_escaped(name[:MAX_NAME_LENGTH])}")
    if name in FACT_NAMES:
        raise InvalidArgument("an event of this name is recorded by the platform only", field=f"/events/{_escaped(name)}")


def _mode(value: Json, where: str, more: str = "") -> Mode:
    if value not in list(Mode):
        raise InvalidArgument(f"{where} is one of {more}{', '.join(Mode)}", field=where)
    return Mode(value)


def _rule(value: Json, mode: Mode, where: str) -> Rule:
    _check_keys(value, {"schema", "mode", "description"}, where)
    description = value.get("description", "")
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION:
        raise InvalidArgument(
            f"a description is a text of at most {MAX_DESCRIPTION:,} characters", field=f"{where}/description"
        )
    schema = value.get("schema", {})
    if not isinstance(schema, dict):
        raise InvalidArgument("a schema is a JSON object, as JSON Schema 2020-12 has it", field=f"{where}/schema")
    check_schema(schema, f"{where}/schema")
    own = _mode(value["mode"], f"{where}/mode") if value.get("mode") is not None else mode
    return Rule(schema, own, classes_of(schema, f"{where}/schema"))


def classes_of(schema: Mapping[str, Json], where: str = "") -> Classes:
    """What a schema declares of properties, by their names. Where one name has two classes, the stricter holds.

    Raises InvalidArgument where what it declares is no class, or stands at no property.
    """
    found: dict[str, FieldClass] = {}
    for pointer, name, value in _declarations(schema, "", ""):
        place = where + pointer
        if not name:
            raise InvalidArgument(f"{place}: {FIELD_CLASS} stands in the schema of a property, right below it", field=place)
        if value not in list(FieldClass):
            raise InvalidArgument(f"{place} is one of {', '.join(FieldClass)}", field=place)
        if found.get(name) is not FieldClass.SENSITIVE:
            found[name] = FieldClass(value)
    return found


def _declarations(schema: Json, pointer: str, name: str) -> Iterator[tuple[str, str, Json]]:
    """(JSON pointer, the property that the schema is of, what it is declared to be)."""
    if FIELD_CLASS in schema:
        yield f"{pointer}/{FIELD_CLASS}", name, schema[FIELD_CLASS]
    named = schema.get("properties")
    names = {f"/properties/{_escaped(each)}": each for each in named} if isinstance(named, dict) else {}
    for below, child in children(schema):
        yield from _declarations(child, pointer + below, names.get(below, ""))


def _check_keys(value: Json, known: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where or 'a plan'} is a JSON object", field=where)
    for key in value.keys() - known:
        allowed = ", ".join(sorted(known))
        place = f"{where}/{_escaped(str(key)[:MAX_NAME_LENGTH])}"
        raise InvalidArgument(f"{place} is not known; there are {allowed}", reason=Reason.UNKNOWN_FIELD, field=place)


def _check_patterns(plan: Plan) -> None:
    found = sum(_patterns(schema) for _, schema in plan.schemas())
    if found > MAX_PATTERNS:
        raise InvalidArgument(f"a plan has at most {MAX_PATTERNS} regular expressions, this one has {found}", field="/events")


def _patterns(schema: Json) -> int:
    own = 0
    if isinstance(schema, dict):
        own = ("pattern" in schema) + len(schema.get("patternProperties", ()))
    return own + sum(_patterns(child) for _, child in children(schema))


def children(schema: Json) -> Iterator[tuple[str, Json]]:
    """(JSON pointer from the schema, subschema), for those right below it."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in _DATA:
            continue
        if isinstance(value, list):
            yield from ((f"/{_escaped(key)}/{index}", item) for index, item in enumerate(value) if isinstance(item, dict))
        elif isinstance(value, dict) and key in _MAPS:
            yield from ((f"/{_escaped(key)}/{_escaped(name)}", item) for name, item in value.items() if isinstance(item, dict))
        elif isinstance(value, dict):
            yield f"/{_escaped(key)}", value


def check_schema(schema: Mapping[str, Json], where: str) -> None:
    """References stay inside, end, and unfold to a bounded size. Raises InvalidArgument."""
    if schema.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        raise InvalidArgument(f"schemas are of {DIALECT}", field=f"{where}/$schema")
    _Walk(schema, where).cost(schema, "", ())


class _Walk:
    """Counts what a schema unfolds to."""

    def __init__(self, root: Mapping[str, Json], where: str) -> None:
        self._root = root
        self._where = where
        self._known: dict[str, int] = {}

    def cost(self, schema: Json, pointer: str, following: tuple[str, ...]) -> int:
        """Rules that are checked for it, references followed; `following` are those that led here."""
        if (known := self._known.get(pointer)) is not None:
            return known
        if pointer.count("/") > 2 * MAX_SCHEMA_DEPTH:
            raise self._error(pointer, f"a schema is nested at most {MAX_SCHEMA_DEPTH} deep")
        total = 1
        for key in schema.keys() & _REFUSED:
            raise self._error(f"{pointer}/{key}", f"{key} is not taken; $ref with a pointer into the same schema is")
        if "$ref" in schema:
            total += self._cost_of_target(schema["$ref"], f"{pointer}/$ref", following)
        for below, child in children(schema):
            spent = self.cost(child, pointer + below, following)
            total += 0 if below.startswith(("/$defs/", "/definitions/")) else spent
        if total > MAX_NODES:
            raise self._error(pointer, f"a schema unfolds to at most {MAX_NODES:,} rules, its references followed")
        self._known[pointer] = total
        return total

    def _cost_of_target(self, reference: Json, pointer: str, following: tuple[str, ...]) -> int:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._error(pointer, "a $ref is a pointer into the same schema, #/$defs/...; nothing is fetched")
        target = reference[1:]
        if target in following:
            raise self._error(pointer, "a $ref may not lead to itself again")
        if len(following) >= MAX_SCHEMA_DEPTH:
            raise self._error(pointer, f"references lead on at most {MAX_SCHEMA_DEPTH} times")
        found = self._find(target, pointer)
        return self.cost(found, target, (*following, target)) if isinstance(found, dict) else 1

    def _find(self, target: str, pointer: str) -> Json:
        found: Json = self._root
        for part in target.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and len(key) < 9 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise self._error(pointer, "a $ref points to nothing")
        return found

    def _error(self, pointer: str, message: str) -> InvalidArgument:
        place = self._where + pointer
        return InvalidArgument(f"{place}: {message}", field=place)


def _escaped(key: str) -> str:
    """As a token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
