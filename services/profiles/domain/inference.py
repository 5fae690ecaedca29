"""A first tracking plan out of events that came: their names, the types of their properties, and what was always there.

A draft for people to correct: it knows what was sent, not what was meant. Values are told only as an `enum`, and only of
public properties with few different ones; of what is personal, only names and types. What the present plan declares personal
is declared again.
"""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Why: what is inside decoded JSON has no type.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from services.profiles.domain.classify import UNDECLARED, Classes, is_public_text
from services.profiles.domain.plan import DIALECT, FIELD_CLASS, MAX_EVENTS, classes_of
from services.profiles.domain.violations import type_name

Json: TypeAlias = Any

# Nested objects and lists below that depth are told by their type alone.
MAX_INFERRED_DEPTH: Final = 4
MAX_PROPERTIES: Final = 200
# From so few events nobody can tell what is always there.
MIN_SEEN: Final = 5
MIN_SEEN_FOR_ENUM: Final = 100
MAX_ENUM: Final = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """An event that came: `name` of a track call; `fields` are all properties or traits, `public` those that are public."""

    type: str
    name: str
    fields: Mapping[str, Json]
    public: Mapping[str, Json]


@dataclass(slots=True)
class _Shape:
    """What was seen in one place."""

    count: int = 0
    types: Counter[str] = field(default_factory=Counter[str])
    properties: "dict[str, _Shape]" = field(default_factory=dict[str, "_Shape"])
    items: "_Shape | None" = None
    # None: too many, or not all public.
    values: set[str] | None = field(default_factory=set[str])

    def add(self, value: Json, public: Json, depth: int) -> None:
        """One value; `public` is its public part, None where there is none."""
        self.count += 1
        self.types[type_name(value)] += 1
        self._add_value(value, public)
        if depth >= MAX_INFERRED_DEPTH:
            return
        if isinstance(value, dict):
            self._add_object(value, public, depth)
        elif isinstance(value, list):
            self.items = self.items or _Shape()
            for index, item in enumerate(value):
                shown = public[index] if isinstance(public, list) and len(public) == len(value) else None
                self.items.add(item, shown, depth + 1)

    def _add_value(self, value: Json, public: Json) -> None:
        if self.values is None:
            return
        if isinstance(value, str) and value == public:
            self.values.add(value)
        if not isinstance(value, str) or value != public or len(self.values) > MAX_ENUM:
            self.values = None

    def _add_object(self, value: Mapping[str, Json], public: Json, depth: int) -> None:
        for key, item in value.items():
            if not is_public_text(key) or "\x00" in key:
                continue
            shape = self.properties.get(key)
            if shape is None:
                if len(self.properties) >= MAX_PROPERTIES:
                    continue
                shape = self.properties[key] = _Shape()
            shape.add(item, public.get(key) if isinstance(public, dict) else None, depth + 1)

    def schema(self, declared: Classes) -> dict[str, Json]:
        """What would let all of it pass, and declares the same."""
        found: dict[str, Json] = {}
        if types := _types(self.types):
            found["type"] = types[0] if len(types) == 1 else types
        if self.values and self.count >= MIN_SEEN_FOR_ENUM:
            found["enum"] = sorted(self.values)
        if self.properties:
            found["properties"] = {key: shape.of_property(key, declared) for key, shape in sorted(self.properties.items())}
            objects = self.types["object"]
            always = [key for key, shape in sorted(self.properties.items()) if shape.count == objects]
            if always and objects >= MIN_SEEN:
                found["required"] = always
        if self.items is not None and self.items.count:
            found["items"] = self.items.schema(declared)
        return found

    def of_property(self, key: str, declared: Classes) -> dict[str, Json]:
        """Of what is declared, nothing but its type."""
        found = self.schema(declared)
        if key not in declared:
            return found
        return {name: value for name, value in found.items() if name == "type"} | {FIELD_CLASS: declared[key].value}


def _types(found: Counter[str]) -> list[str]:
    """JSON Schema's names; a whole number is a number where both were seen."""
    names = sorted(found)
    return [name for name in names if not (name == "integer" and "number" in names)]


def draft_of(events: Sequence[Seen], declared: Mapping[tuple[str, str], Classes] | None = None) -> dict[str, Json]:
    """A document as `plan_of` reads it, in mode observe; the MAX_EVENTS most frequent names.

    `declared`: what the present plan declares, as `Plan.declared` has it.
    """
    declared = declared or {}
    counts = Counter(event.name for event in events if event.type == "track" and event.name)
    names = {name for name, _ in counts.most_common(MAX_EVENTS - len(declared))}
    names |= {name for type_, name in declared if type_ == "track"}
    shapes = {key: _Shape() for key in declared}
    for event in events:
        if event.type in ("identify", "group") or (event.type == "track" and event.name in names):
            shapes.setdefault((event.type, event.name), _Shape()).add(event.fields, event.public, 0)
    document: dict[str, Json] = {"mode": "observe", "unplanned": "observe"}
    rules = {key: _rule(shape, declared.get(key, UNDECLARED)) for key, shape in sorted(shapes.items())}
    document["events"] = {name: rule for (type_, name), rule in rules.items() if type_ == "track"}
    return document | {type_: rule for (type_, _), rule in rules.items() if type_ != "track"}


def _rule(shape: _Shape, declared: Classes) -> dict[str, Json]:
    schema = shape.schema(declared)
    if unseen := {key: {FIELD_CLASS: declared[key].value} for key in sorted(declared.keys() - classes_of(schema).keys())}:
        schema["properties"] = schema.get("properties", {}) | unseen
    return {"description": f"Inferred from {shape.count:,} events.", "schema": {"$schema": DIALECT, **schema}}
