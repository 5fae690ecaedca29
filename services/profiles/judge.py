"""Tracking plans at work: schemas compiled once a version, events judged, violations told."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from itertools import islice
from typing import Any, Final, TypeAlias

import jsonschema_rs

from chassis.errors import InvalidArgument
from services.profiles.domain.classify import UNDECLARED, Classes, is_public_text
from services.profiles.domain.plan import MAX_SCHEMA_BYTES, Plan, Rule, children
from services.profiles.domain.validate import MAX_NAME_LENGTH
from services.profiles.domain.violations import (
    MAX_GROUPS,
    OTHERS_RULE,
    Broken,
    Verdict,
    Violation,
    unplanned,
    violation_of,
)
from services.profiles.jsontext import dumps
from services.profiles.segment import Call

Group: TypeAlias = tuple[str, str, str, str]

# Of one event no more are told or counted.
MAX_VIOLATIONS: Final = 10
# The compiled form of one regular expression. They are matched in linear time: no backtracking, so no lookaround.
MAX_PATTERN_BYTES: Final = 64 * 1024
_LINEAR: Final = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=1024 * 1024)


class Judge:
    """A plan in one of its versions. Schemas are compiled when an event first asks for them."""

    def __init__(self, plan: Plan, version: int, groups: Set[Group] = frozenset()) -> None:
        self.plan = plan
        self.version = version
        self._compiled: dict[str, _Compiled] = {}
        # Under what violations are counted: names of unplanned events may be anything, so their number is bounded.
        self._groups = set(groups)

    def judge(self, type_: str, call: Call) -> Verdict | None:
        """None where the event may pass. `type_` is the call's."""
        if type_ == "track":
            return self.judge_fields(type_, call.event or "", call.properties or {})
        return self.judge_fields(type_, "", call.traits or {}) if type_ in self.plan.calls else None

    def judge_fields(self, type_: str, name: str, fields: Mapping[str, Any]) -> Verdict | None:
        """None where the event may pass. `name` is a track call's; `fields` are its properties, or the traits."""
        rule = self._rule(type_, name)
        if rule is None:
            if type_ != "track" or self.plan.unplanned is None:
                return None
            return Verdict(self.plan.unplanned, self.version, [unplanned(name)])
        if not rule.schema:
            return None
        compiled = self._compiled.get(name or type_)
        if compiled is None:
            compiled = self._compiled[name or type_] = _Compiled(rule)
        if compiled.validator.is_valid(fields):
            return None
        shown = name if is_public_text(name, MAX_NAME_LENGTH) else "..."
        return Verdict(rule.mode, self.version, list(compiled.violations(type_, shown, fields)))

    def classes(self, type_: str, name: str) -> Classes:
        """What is declared of an event's properties, or of the traits."""
        rule = self._rule(type_, name)
        return rule.classes if rule else UNDECLARED

    def _rule(self, type_: str, name: str) -> Rule | None:
        return self.plan.events.get(name) if type_ == "track" else self.plan.calls.get(type_)

    def counted(self, violation: Violation) -> Violation:
        """As it is counted: by itself, or with all others once there are MAX_GROUPS."""
        if violation.group not in self._groups:
            if len(self._groups) >= MAX_GROUPS:
                return replace(violation, type="", event="", rule=OTHERS_RULE, path="", value=None)
            self._groups.add(violation.group)
        return violation


class _Compiled:
    def __init__(self, rule: Rule) -> None:
        self.validator = compiled(rule.schema)
        self.declared = frozenset(_declared(rule.schema))
        self.classes = rule.classes

    def violations(self, type_: str, name: str, fields: Mapping[str, Any]) -> Iterator[Violation]:
        for error in islice(self.validator.iter_errors(fields), MAX_VIOLATIONS):
            broken = Broken(error.kind.name, error.kind.as_dict(), error.instance_path, error.schema_path)
            yield violation_of(broken, type_, name, fields, self.declared, self.classes)


def compiled(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """`format` is checked. Raises jsonschema_rs.ValidationError where it is no schema; nothing is ever fetched."""
    return jsonschema_rs.Draft202012Validator(dict(schema), validate_formats=True, pattern_options=_LINEAR, offline=True)


def check(plan: Plan) -> None:
    """Raises InvalidArgument where a schema cannot be compiled, or is too large."""
    for place, schema in plan.schemas():
        if len(dumps(schema)) > MAX_SCHEMA_BYTES:
            raise InvalidArgument(f"{place} is over {MAX_SCHEMA_BYTES // 1024} KB", field=place)
        try:
            compiled(schema)
        except jsonschema_rs.ValidationError as error:
            field = place + "".join(f"/{part}" for part in error.instance_path)
            raise InvalidArgument(f"{field}: {_complaint(error)}", field=field) from None
        except jsonschema_rs.ReferencingError as error:
            raise InvalidArgument(f"{place}: {error.message}", field=place) from None


def _complaint(error: jsonschema_rs.ValidationError) -> str:
    """What is wrong with a schema."""
    if (error.instance_path and error.instance_path[-1] in ("pattern", "patternProperties")) or error.kind.name == "format":
        kilobytes = MAX_PATTERN_BYTES // 1024
        return (
            "is no regular expression that is matched in linear time: without lookaround and references back, "
            f"at most {kilobytes} KB compiled"
        )
    if error.instance_path and error.instance_path[-1] == "type":
        return "is none of null, boolean, integer, number, string, array, object, nor a list of them"
    return error.message[:300]


def _declared(schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of properties that a schema itself has, at any depth."""
    for key in ("properties", "dependentRequired"):
        if isinstance(named := schema.get(key), dict):
            yield from named
    if isinstance(required := schema.get("required"), list):
        yield from (name for name in required if isinstance(name, str))
    for _, child in children(schema):
        yield from _declared(child)
