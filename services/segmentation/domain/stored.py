"""Conditions as JSON objects, as the table of versions keeps them."""

from collections.abc import Mapping
from typing import Any

from services.segmentation.domain.conditions import AllOf, AnyOf, Comparison, Condition, InSegment, Not, Operator, Subject


def condition_to_json(condition: Condition) -> dict[str, Any]:
    """The same names as on HTTP where there is one."""
    match condition:
        case AllOf(conditions):
            return {"allOf": [condition_to_json(each) for each in conditions]}
        case AnyOf(conditions):
            return {"anyOf": [condition_to_json(each) for each in conditions]}
        case Not(inner):
            return {"not": condition_to_json(inner)}
        case InSegment(key):
            return {"inSegment": key}
        case Comparison():
            return {
                condition.subject.value: condition.name,
                "operator": condition.operator.name.lower(),
                "numbers": list(condition.numbers),
                "texts": list(condition.texts),
            }


def condition_from_json(stored: Mapping[str, Any]) -> Condition:
    """The inverse of `condition_to_json`."""
    match stored:
        case {"allOf": conditions}:
            return AllOf(tuple(condition_from_json(each) for each in conditions))
        case {"anyOf": conditions}:
            return AnyOf(tuple(condition_from_json(each) for each in conditions))
        case {"not": inner}:
            return Not(condition_from_json(inner))
        case {"inSegment": key}:
            return InSegment(key)
        case _:
            subject = Subject.FEATURE if Subject.FEATURE.value in stored else Subject.TRAIT
            return Comparison(
                subject,
                stored[subject.value],
                Operator[stored["operator"].upper()],
                tuple(float(number) for number in stored["numbers"]),
                tuple(stored["texts"]),
            )
