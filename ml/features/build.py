"""The one expression behind every engine, in Ibis.

It reads a relation `scoped` (written by `compile`, in the engine's own SQL): one row per (profile, instant, event before
it), or a single row of nulls where there is no event. Its columns are

    profile_id, as_of who and when
    ts                the event's time
    age_us            microseconds from the event to `as_of`, above 0
    day               the event's UTC day, as a number
    type, name        the event's
    number_<i>        a numeric property, numeric(38, 9)
    text_<i>          a text property, compared by bytes

so all arithmetic over time is over whole numbers, and the same in every engine, whatever the session's time zone.
Ibis is imported here only: it costs 50 MB of memory and a second.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# Why: Ibis comes without types, and its expressions are built by operators.

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_
from typing import Any, Final, TypeAlias

import ibis
from rapport.features.v1 import features_pb2 as pb

from ml.features.definition import columns_of, property_of

DAY_US: Final = 86_400_000_000

# An Ibis expression; see above.
Expression: TypeAlias = Any


def statement(features: Sequence[pb.Feature], dialect: str) -> str:
    """The SELECT over `scoped`, for "postgres" or "duckdb": one pass, one row per (profile_id, as_of)."""
    scoped = _scoped(features)
    columns = columns_of(features)
    metrics: dict[str, Expression] = {}
    for feature in features:
        column = columns.get((str(feature.value.WhichOneof("source")), property_of(feature)))
        metrics[feature.name] = _aggregate(feature, scoped[column] if column else None, scoped)
    answer = scoped.group_by("profile_id", "as_of").agg(**metrics, newest_event=scoped.ts.max())
    return str(ibis.to_sql(answer, dialect=dialect))


def _scoped(features: Sequence[pb.Feature]) -> Expression:
    columns = {
        # Not computed with, so the type matters to nobody: uuid in PostgreSQL, text in Parquet.
        "profile_id": "string",
        "as_of": "timestamp('UTC')",
        "ts": "timestamp('UTC')",
        "age_us": "int64",
        "day": "int64",
        "type": "string",
        "name": "string",
    }
    for (source, _), column in columns_of(features).items():
        columns[column] = "decimal(38, 9)" if source == "number" else "string"
    return ibis.table(columns, name="scoped")


def _aggregate(feature: pb.Feature, value: Expression, scoped: Expression) -> Expression:
    """`value` is the column that the feature reads, None where it reads none."""
    passes = _passes(feature, scoped)
    age_us, day = scoped.age_us, scoped.day
    match feature.aggregation:
        case pb.AGGREGATION_COUNT:
            return scoped.ts.count(where=passes)
        case pb.AGGREGATION_COUNT_DISTINCT:
            return value.nunique(where=passes)
        case pb.AGGREGATION_SUM:
            return value.sum(where=passes).fill_null(0)
        case pb.AGGREGATION_MEAN:
            return value.mean(where=passes).cast("float64")
        case pb.AGGREGATION_MIN:
            return value.min(where=passes)
        case pb.AGGREGATION_MAX:
            return value.max(where=passes)
        case pb.AGGREGATION_DAYS_SINCE_LAST:
            return age_us.min(where=passes) / DAY_US
        case pb.AGGREGATION_DAYS_SINCE_FIRST:
            return age_us.max(where=passes) / DAY_US
        case pb.AGGREGATION_MEAN_INTERVAL_DAYS:
            span_us = age_us.max(where=passes) - age_us.min(where=passes)
            return span_us / DAY_US / (day.nunique(where=passes) - 1).nullif(0)
        case pb.AGGREGATION_LAST:
            return value.collect(where=passes, order_by=[scoped.ts.desc(), value.desc()])[0]
        case pb.AGGREGATION_ACTIVE_DAYS:
            return day.nunique(where=passes)
        case _:
            raise AssertionError(f"checked by definition.check: {feature.aggregation}")


def _passes(feature: pb.Feature, scoped: Expression) -> Expression | None:
    """The condition on events; None where every event passes. Null for the row of nulls, which nothing counts then."""
    conditions = _conditions(feature.events, scoped)
    if feature.window_days:
        # ts >= as_of - window is age <= window: the window is closed where it begins.
        conditions.append(scoped.age_us <= feature.window_days * DAY_US)
    return reduce(and_, conditions) if conditions else None


def _conditions(events: pb.EventFilter, scoped: Expression) -> list[Expression]:
    if events.any_of:
        alternatives = [_conditions(alternative, scoped) for alternative in events.any_of]
        return [reduce(or_, [reduce(and_, conditions) for conditions in alternatives])] if all(alternatives) else []
    conditions: list[Expression] = []
    if events.type:
        conditions.append(scoped.type == events.type)
    if events.names:
        conditions.append(scoped.name.isin(list(events.names)))
    return conditions
