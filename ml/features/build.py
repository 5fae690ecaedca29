"""The one expression behind every engine, in Ibis.

It reads relations that `compile` writes in the engine's own SQL. `scoped` has one row per (profile, instant, event before
it), or a single row of nulls where there is no event. Its columns are

    profile_id, as_of who and when
    ts                the event's time
    age_us            microseconds from the event to `as_of`, above 0
    day               the event's UTC day, as a number
    type, name        the event's
    channel           the event's, null where it is empty   \
    event_name        its name, null where it is empty       > where a definition asks for them
    ts_us             its time in microseconds since 1970   /
    number_<i>        a numeric property, numeric(38, 9)
    text_<i>          a text property, compared by bytes

`elements_<i>` has the same columns, for each element of an array property, and beside them the element's own properties.
So all arithmetic over time is over whole numbers, and the same in every engine, whatever the session's time zone.
Ibis is imported here only: it costs 50 MB of memory and a second.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# Why: Ibis comes without types, and its expressions are built by operators.

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_
from typing import Any, Final, TypeAlias

import ibis
from ibis.config import Config
from rapport.features.v1 import features_pb2 as pb

from ml.features.definition import (
    KINDS,
    Kind,
    Read,
    arrays_of,
    columns_of,
    fields_of,
    filter_read,
    leaves,
    value_read,
)
from ml.features.refusals import COMPOSED

DAY_US: Final = 86_400_000_000
SECOND_US: Final = 1_000_000
# From so many aggregations on, looking at an event's name anew for each costs more than a column that says it.
SHARED_FROM: Final = 60
SESSION_GAP_US: Final = 30 * 60 * SECOND_US
# What is multiplied: exact in every engine, where the widest decimals would overflow.
_FACTOR: Final = "decimal(18, 4)"
_FACTOR_BELOW: Final = "10000000000000"
_WIDE: Final = "decimal(38, 9)"
_WHOLE: Final = "decimal(38, 0)"
_FIELDS: Final = {"channel": "string", "event_name": "string", "ts_us": "int64"}
_KEYS: Final = ("profile_id", "as_of")
_ZERO_WHERE_NOTHING: Final = frozenset(
    {pb.AGGREGATION_COUNT, pb.AGGREGATION_COUNT_DISTINCT, pb.AGGREGATION_SUM, pb.AGGREGATION_ACTIVE_DAYS}
)

# An Ibis expression; see above.
Expression: TypeAlias = Any


class _SparkOptions(Config):
    """What Ibis' compiler for Spark reads; its own come with a backend that brings pandas and more."""

    treat_nan_as_null: bool = False


ibis.options.pyspark = _SparkOptions()


def statement(features: Sequence[pb.Feature], dialect: str) -> tuple[str, str]:
    """(a relation of its own to put before it or "", the SELECT), for "postgres", "duckdb" or "pyspark".

    The SELECT gives one row for each (profile_id, as_of).
    """
    columns = columns_of(features)
    plain = not any(feature.parts or feature.HasField("elements") for feature in features)
    events = _Source(_relation("scoped", features, columns, ""), columns, dialect)
    sources = {"": events}
    for index, array in enumerate(arrays_of(features)):
        sources[array] = _Source(_relation(f"elements_{index}", features, columns, array), columns, dialect)
    for number, feature in enumerate(features):
        for part, leaf in enumerate(leaves(feature)):
            sources[leaf.elements.property].leaves[feature.name if plain else f"leaf_{number}_{part}"] = leaf
    before = events.share() if len(events.leaves) >= SHARED_FROM else ""
    answer = sources.pop("").answer(newest_event=True)
    answer = answer if plain else _put_together(features, answer, list(sources.values()))
    return before, str(ibis.to_sql(answer, dialect=dialect))


@dataclass(slots=True)
class _Source:
    """What is aggregated of one relation."""

    relation: Expression
    columns: dict[Read, str]
    dialect: str
    leaves: dict[str, pb.Feature] = field(default_factory=dict)
    # Columns that need a window, by name; the name of each by what it holds.
    windowed: dict[str, Expression] = field(default_factory=dict)
    known: dict[tuple[object, ...], str] = field(default_factory=dict)
    # Columns that say whether an event passes, by the filter.
    shared: dict[bytes, str] = field(default_factory=dict)

    def share(self) -> str:
        """The relation with a column for each different filter of events, so that none is looked at twice. Its SQL."""
        made: dict[str, Expression] = {}
        for leaf in self.leaves.values():
            key = leaf.events.SerializeToString(deterministic=True)
            conditions = _Row(self.relation, self.columns, leaf).of_events(leaf.events)
            if conditions and key not in self.shared:
                self.shared[key] = f"passes_{len(made)}"
                made[self.shared[key]] = reduce(and_, conditions)
        passed = self.relation.mutate(**made)
        self.relation = ibis.table(passed.schema(), name="passed")
        return str(ibis.to_sql(passed, dialect=self.dialect))

    def answer(self, *, newest_event: bool) -> Expression:
        """The relation, grouped."""
        windows = {name: self._window(leaf) for name, leaf in self.leaves.items()}
        relation = self.relation.mutate(**self.windowed) if self.windowed else self.relation
        metrics = {
            name: _aggregate(leaf, _Row(relation, self.columns, leaf, windows[name], self.shared), self.dialect)
            for name, leaf in self.leaves.items()
        }
        if newest_event:
            metrics["newest_event"] = relation.ts.max()
        return relation.group_by(*_KEYS).agg(**metrics)

    def _window(self, leaf: pb.Feature) -> str:
        """The column over other rows that an aggregation needs; "" where it needs none. The same column serves many."""
        row = _Row(self.relation, self.columns, leaf, "", self.shared)
        if leaf.aggregation in _OF_GAPS:
            key: tuple[object, ...] = ("gap", *_meaning_of_filter(leaf))
            make = _gap_us
        elif leaf.aggregation == pb.AGGREGATION_MOST_FREQUENT:
            key = ("often", *_meaning_of_filter(leaf), leaf.value.SerializeToString(deterministic=True))
            make = _often
        else:
            return ""
        if key not in self.known:
            self.known[key] = f"{key[0]}_{len(self.known)}"
            self.windowed[self.known[key]] = make(row)
        return self.known[key]


def _meaning_of_filter(leaf: pb.Feature) -> tuple[object, ...]:
    parts = (leaf.events, leaf.elements, leaf.since, leaf.until)
    texts = tuple(part.SerializeToString(deterministic=True) for part in parts)
    return (*texts, leaf.window_days, leaf.offset_days, leaf.HasField("since"), leaf.HasField("until"))


_OF_GAPS: Final = frozenset({pb.AGGREGATION_MEDIAN_INTERVAL_DAYS, pb.AGGREGATION_STD_INTERVAL_DAYS, pb.AGGREGATION_SESSIONS})


def _gap_us(row: "_Row") -> Expression:
    """Microseconds since the event before it that passes too; null for the first, and for those that do not pass."""
    table, passes = row.relation, row.passes_or_all()
    order = ibis.window(group_by=[table.profile_id, table.as_of, passes], order_by=table.age_us.desc())
    return ibis.ifelse(passes, table.age_us.lag().over(order) - table.age_us, ibis.null("int64"))


def _often(row: "_Row") -> Expression:
    """How many rows that pass have the same value."""
    table, passes, value = row.relation, row.passes_or_all(), row.value()
    return value.count().over(ibis.window(group_by=[table.profile_id, table.as_of, passes, value]))


def _relation(name: str, features: Sequence[pb.Feature], columns: dict[Read, str], array: str) -> Expression:
    schema = {
        # Not computed with, so the type matters to nobody: uuid in PostgreSQL, text in Parquet.
        "profile_id": "string",
        "as_of": "timestamp('UTC')",
        "ts": "timestamp('UTC')",
        "age_us": "int64",
        "day": "int64",
        "type": "string",
        "name": "string",
    }
    schema |= {field_: _FIELDS[field_] for field_ in fields_of(features) if field_ in _FIELDS}
    for read, column in columns.items():
        if read.array in ("", array):
            schema[column] = _WIDE if read.source == "number" else "string"
    return ibis.table(schema, name=name)


def _put_together(features: Sequence[pb.Feature], base: Expression, others: list["_Source"]) -> Expression:
    """The answers of all relations side by side, and what is composed of them."""
    joined = base
    for other in others:
        joined = joined.left_join(other.answer(newest_event=False), list(_KEYS)).drop("profile_id_right", "as_of_right")
    chosen: dict[str, Expression] = {}
    for number, feature in enumerate(features):
        values = [_or_zero(joined[f"leaf_{number}_{part}"], leaf) for part, leaf in enumerate(leaves(feature))]
        chosen[feature.name] = _compose(feature, values) if feature.aggregation in COMPOSED else values[0]
    return joined.select(*_KEYS, **chosen, newest_event=joined.newest_event)


def _or_zero(value: Expression, leaf: pb.Feature) -> Expression:
    """Who has no element at all is not in the answer of their relation."""
    empty = leaf.HasField("elements") and leaf.aggregation in _ZERO_WHERE_NOTHING
    return value.fill_null(0) if empty else value


def _compose(feature: pb.Feature, values: Sequence[Expression]) -> Expression:
    left, right = (value.cast("float64") for value in values)
    return left / right.nullif(0) if feature.aggregation == pb.AGGREGATION_RATIO else left - right


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a relation as a leaf reads it. `window`: its column over other rows; `shared`: as in _Source."""

    relation: Expression
    columns: dict[Read, str]
    leaf: pb.Feature
    window: str = ""
    shared: dict[bytes, str] = field(default_factory=dict)

    def value(self) -> Expression:
        """What is aggregated."""
        field_ = self.leaf.value.field
        if field_:
            return self.relation.channel if field_ == pb.EVENT_FIELD_CHANNEL else self.relation.event_name
        read = value_read(self.leaf)
        if read is None:
            raise AssertionError("checked by refusals.check_one: there is a value")
        value = self.relation[self.columns[read]]
        if not self.leaf.value.times:
            return value
        times = self.relation[self.columns[Read("number", self.leaf.value.times, read.array)]]
        return (_factor(value) * ibis.ifelse(times.isnull(), _decimal("1").cast(_FACTOR), _factor(times))).cast(_WIDE)

    def passes(self) -> Expression | None:
        """The condition; None where everything passes. Null for the row of nulls, which nothing counts then."""
        leaf, table = self.leaf, self.relation
        shared = self.shared.get(leaf.events.SerializeToString(deterministic=True))
        conditions: list[Expression] = [table[shared]] if shared else self.of_events(leaf.events)
        conditions += [self._of_property(each, leaf.elements.property) for each in leaf.elements.where]
        if leaf.offset_days:
            conditions.append(table.age_us > leaf.offset_days * DAY_US)
        if leaf.window_days:
            # ts >= as_of - window is age <= window: the window is closed where it begins.
            conditions.append(table.age_us <= (leaf.offset_days + leaf.window_days) * DAY_US)
        if leaf.HasField("since"):
            conditions.append(table.ts_us >= leaf.since.ToMicroseconds())
        if leaf.HasField("until"):
            conditions.append(table.ts_us < leaf.until.ToMicroseconds())
        return reduce(and_, conditions) if conditions else None

    def passes_or_all(self) -> Expression:
        passes = self.passes()
        return self.relation.ts.notnull() if passes is None else passes

    def of_events(self, events: pb.EventFilter) -> list[Expression]:
        """All of which an event has to pass."""
        if events.any_of:
            alternatives = [self.of_events(alternative) for alternative in events.any_of]
            return [reduce(or_, [reduce(and_, each) for each in alternatives])] if all(alternatives) else []
        conditions: list[Expression] = []
        if events.type:
            conditions.append(self.relation.type == events.type)
        if events.names:
            conditions.append(self.relation.name.isin(list(events.names)))
        if events.channels:
            conditions.append(self.relation.channel.isin(list(events.channels)))
        return conditions + [self._of_property(each, "") for each in events.where]

    def _of_property(self, condition: pb.PropertyFilter, array: str) -> Expression:
        column = self.relation[self.columns[filter_read(condition, array)]]
        if condition.texts:
            return column.isin(list(condition.texts))
        bounds: list[Expression] = []
        if condition.at_least:
            bounds.append(column >= _decimal(condition.at_least))
        if condition.below:
            bounds.append(column < _decimal(condition.below))
        return reduce(and_, bounds)


def _decimal(text: str) -> Expression:
    literal: Expression = ibis.literal(text)
    return literal.cast(_WIDE)


def _factor(number: Expression) -> Expression:
    fits = (number > _decimal(f"-{_FACTOR_BELOW}")) & (number < _decimal(_FACTOR_BELOW))
    return ibis.ifelse(fits, number.cast(_FACTOR), ibis.null(_FACTOR))


def _aggregate(leaf: pb.Feature, row: _Row, dialect: str) -> Expression:
    passes = row.passes()
    if leaf.aggregation in _OF_TIME:
        return _over_time(leaf, row, passes)
    if leaf.aggregation == pb.AGGREGATION_COUNT:
        return row.relation.ts.count(where=passes)
    value = row.value()
    if KINDS[leaf.aggregation] is Kind.TEXT:
        return _picked(leaf, row, value, passes, dialect)
    match leaf.aggregation:
        case pb.AGGREGATION_COUNT_DISTINCT:
            return value.nunique(where=passes)
        case pb.AGGREGATION_SUM:
            return value.sum(where=passes).fill_null(0)
        case pb.AGGREGATION_MEAN:
            # Spark's own mean of decimals rounds to 13 decimals.
            return value.sum(where=passes).cast("float64") / value.count(where=passes).nullif(0)
        case pb.AGGREGATION_MIN:
            return value.min(where=passes)
        case pb.AGGREGATION_MAX:
            return value.max(where=passes)
        case pb.AGGREGATION_MEDIAN:
            return value.cast("float64").quantile(0.5, where=passes)
        case _:
            raise AssertionError(f"checked by refusals.check_one: {leaf.aggregation}")


_OF_TIME: Final = _OF_GAPS | {
    pb.AGGREGATION_DAYS_SINCE_LAST,
    pb.AGGREGATION_DAYS_SINCE_FIRST,
    pb.AGGREGATION_MEAN_INTERVAL_DAYS,
    pb.AGGREGATION_MEAN_EVENT_INTERVAL_DAYS,
    pb.AGGREGATION_ACTIVE_DAYS,
}


def _over_time(leaf: pb.Feature, row: _Row, passes: Expression | None) -> Expression:
    table = row.relation
    age_us, day = table.age_us, table.day
    if leaf.aggregation in _OF_GAPS:
        return _over_gaps(leaf, row)
    match leaf.aggregation:
        case pb.AGGREGATION_DAYS_SINCE_LAST:
            return age_us.min(where=passes) / DAY_US
        case pb.AGGREGATION_DAYS_SINCE_FIRST:
            return age_us.max(where=passes) / DAY_US
        case pb.AGGREGATION_ACTIVE_DAYS:
            return day.nunique(where=passes)
        case pb.AGGREGATION_MEAN_INTERVAL_DAYS:
            steps = day.nunique(where=passes) - 1
        case _:
            steps = table.ts.count(where=passes) - 1
    return (age_us.max(where=passes) - age_us.min(where=passes)) / DAY_US / steps.nullif(0)


def _over_gaps(leaf: pb.Feature, row: _Row) -> Expression:
    table, gap_us, passes = row.relation, row.relation[row.window], row.passes_or_all()
    match leaf.aggregation:
        case pb.AGGREGATION_SESSIONS:
            return gap_us.count(where=gap_us > SESSION_GAP_US) + table.ts.count(where=passes).clip(upper=1)
        case pb.AGGREGATION_MEDIAN_INTERVAL_DAYS:
            return gap_us.cast("float64").quantile(0.5) / DAY_US
        case _:
            # Over whole seconds, so that nothing is rounded before the root: equal gaps have a deviation of exactly 0.
            seconds = (gap_us // SECOND_US).cast(_WHOLE)
            count = gap_us.count()
            squares = (seconds * seconds).cast(_WHOLE).sum().cast(_WHOLE)
            spread = count.cast(_WHOLE) * squares - seconds.sum().cast(_WHOLE) * seconds.sum().cast(_WHOLE)
            steps = (count.cast("float64") * (count - 1).cast("float64")).nullif(0)
            return (spread.cast("float64") / steps).sqrt() / (DAY_US // SECOND_US)


def _picked(leaf: pb.Feature, row: _Row, value: Expression, passes: Expression | None, dialect: str) -> Expression:
    """One text of many: the first in an order that has no ties but between equal texts."""
    table = row.relation
    oldest = leaf.aggregation == pb.AGGREGATION_FIRST
    rank = table[row.window] if leaf.aggregation == pb.AGGREGATION_MOST_FREQUENT else table.ts
    if dialect != "pyspark":
        order = [rank.asc(), value.asc()] if oldest else [rank.desc(), value.desc()]
        return value.collect(where=passes, order_by=order)[0]
    there = value.notnull() if passes is None else value.notnull() & passes
    key = ibis.struct({"rank": rank, "value": value})
    return value.argmin(key, where=there) if oldest else value.argmax(key, where=there)
