"""The matcher: Splink (Fellegi and Sunter's model, learnt without labels) on a DuckDB that lives in memory only.

u, how often two that are not the same agree, comes from random pairs; m, how often two that are the same agree, from
expectation maximisation over several blocks, held by a few pseudo-pairs to the shares that `comparisons` states; the share of
pairs that are the same from rules that are hardly ever wrong, and their stated recall. Nothing is set for a data set.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa
from splink import DuckDBAPI, Linker, SettingsCreator
from splink.blocking_rule_library import CustomRule
from splink.internals.blocking_rule_creator import BlockingRuleCreator
from splink.internals.exceptions import EMTrainingException

from ml.matching import blocking, households
from ml.matching.blocking import CERTAIN_RECALL, Rule
from ml.matching.clusters import one_to_one
from ml.matching.columns import LISTS, Role, rarest, words, written
from ml.matching.comparisons import Comparison, comparisons
from ml.matching.translation import dictionary, translated

# A pair at or above this probability is taken for the same.
THRESHOLD: Final = 0.9
# Pairs below this one are not even told of.
FLOOR: Final = 0.01
# Fewer records than this teach nothing.
MIN_RECORDS: Final = 100
_MIN_COMPARISONS: Final = 2
_SEED: Final = 1
_RANDOM_PAIRS: Final = 1_000_000
_LESSON_PAIRS: Final = 1_000_000
_MIN_LESSON_PAIRS: Final = 30
# What the stated shares of levels weigh beside the pairs that were seen.
_PSEUDO_PAIRS: Final = 20
# A rule that gives more pairs than this for each record is left out: it would not end.
_PAIRS_A_RECORD: Final = 400


class NotEnoughData(Exception):
    """Too little to learn from; the message says of what."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one comparison says of a pair: the level, and its weight in bits; zero where nothing is known."""

    comparison: str
    level: str
    weight: float


@dataclass(frozen=True, slots=True)
class Pair:
    """`weight`: bits for (above zero) or against being the same, the base rate included."""

    left: Any
    right: Any
    weight: float
    probability: float
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """Pairs by falling weight. `base_rate`: the share of all pairs that are the same; `certain_pairs`: how many pairs agreed in
    all that hardly ever lies; `left_out`: blocking rules that would have given too many pairs."""

    pairs: Sequence[Pair]
    base_rate: float
    certain_pairs: int
    left_out: Sequence[str]

    def above(self, threshold: float = THRESHOLD) -> list[Pair]:
        """Those that are taken for the same."""
        return [pair for pair in self.pairs if pair.probability >= threshold]


@dataclass(frozen=True, slots=True)
class Source:
    """Records by their column, all of one length, and the id of each."""

    ids: Sequence[Any]
    columns: Mapping[str, Sequence[Any]]


def deduplicate(source: Source, roles: Mapping[str, Role], *, floor: float = FLOOR) -> Matched:
    """Likely the same within one source. `roles`: the columns that are compared. Raises NotEnoughData."""
    return _Run([source], roles).matched(floor)


def link(left: Source, right: Source, roles: Mapping[str, Role], *, floor: float = FLOOR) -> Matched:
    """Likely the same across two sources; pairs have their left record from `left`. Raises NotEnoughData."""
    if categories := [column for column, role in roles.items() if role is Role.CATEGORY]:
        right = _in_the_words_of(left, right, roles, categories)
    return _Run([left, right], roles).matched(floor)


def _in_the_words_of(left: Source, right: Source, roles: Mapping[str, Role], categories: Sequence[str]) -> Source:
    """The right source with categories named as the left one names them, as far as pairs that are certain without them tell."""
    first = _Run([left, right], {column: role for column, role in roles.items() if column not in categories}).matched(THRESHOLD)
    best = one_to_one([(pair.left, pair.right) for pair in first.pairs], [pair.weight for pair in first.pairs])
    at_left, at_right = ({record: index for index, record in enumerate(side.ids)} for side in (left, right))
    columns = dict(right.columns)
    for column in categories:
        theirs = [written(value, Role.CATEGORY) for value in right.columns[column]]
        ours = [written(value, Role.CATEGORY) for value in left.columns[column]]
        names = dictionary((ours[at_left[one]], theirs[at_right[other]]) for one, other in best)
        columns[column] = translated(theirs, names)
    return Source(right.ids, columns)


def prepared(sources: Sequence[Source], columns: Mapping[str, str], roles: Mapping[str, Role]) -> list[dict[str, list[Any]]]:
    """The values of each source as they are compared. `columns`: the caller's name of each of ours."""
    tables: list[dict[str, list[Any]]] = [{} for _ in sources]
    for name, column in columns.items():
        role = roles[name]
        write = words if role in LISTS else written
        for table, source in zip(tables, sources, strict=True):
            table[name] = [write(value, role) for value in source.columns[column]]
        if role in LISTS:
            keys = rarest([value for table in tables for value in table[name]])
            for table in tables:
                table[f"{name}_keys"], keys = keys[: len(table[name])], keys[len(table[name]) :]
    return tables


def _named(roles: Mapping[str, Role]) -> dict[str, str]:
    """Our name of each column, which is its role's, beside the caller's."""
    names: dict[str, str] = {}
    for column, role in roles.items():
        name = role.value
        while name in names:
            name += "_more"
        names[name] = column
    return names


class _Run:
    """One set of records, and the model that is learnt from it."""

    def __init__(self, sources: Sequence[Source], roles: Mapping[str, Role]) -> None:
        names = _named(roles)
        self._roles = {name: roles[column] for name, column in names.items()}
        tables = prepared(sources, names, self._roles)
        self._drop_empty(tables)
        self._comparisons = list(comparisons(self._roles))
        self._refuse_little([len(source.ids) for source in sources])
        self._ids: list[list[Any]] = []
        self._connection = _in_memory()
        api = DuckDBAPI(connection=self._connection)
        frames = []
        for number, (table, source) in enumerate(zip(tables, sources, strict=True)):
            order = _order(table)
            self._ids.append([source.ids[index] for index in order])
            frames.append(api.register(_arrow(table, order), dataset_display_name=f"source_{number}"))
        self._frames = frames[0] if len(frames) == 1 else frames
        sizes = [len(ids) for ids in self._ids]
        self._total = sizes[0] * (sizes[0] - 1) // 2 if len(sizes) == 1 else sizes[0] * sizes[1]
        # It tells of every level that it has not seen; those are held to their stated shares.
        logging.getLogger("splink").setLevel(logging.ERROR)
        self._link_type: Literal["dedupe_only", "link_only"] = "dedupe_only" if len(frames) == 1 else "link_only"

    def _drop_empty(self, tables: Sequence[dict[str, list[Any]]]) -> None:
        """A column in which nobody, or only one source, has anything says nothing."""
        for name in list(self._roles):
            if not all(any(value is not None for value in table[name]) for table in tables):
                del self._roles[name]
                for table in tables:
                    table.pop(name)
                    table.pop(f"{name}_keys", None)

    def _refuse_little(self, counts: Sequence[int]) -> None:
        if min(counts) < MIN_RECORDS:
            raise NotEnoughData(f"there are {min(counts)} records, and fewer than {MIN_RECORDS} teach nothing")
        if len(self._comparisons) < _MIN_COMPARISONS:
            raise NotEnoughData(f"{len(self._comparisons)} comparable columns have values; at least {_MIN_COMPARISONS} must")

    def matched(self, floor: float) -> Matched:
        """Learns, then weighs every pair that a rule finds."""
        rules, left_out = self._affordable()
        if not rules:
            raise NotEnoughData("no two records have anything in common to be looked up by")
        linker = self._linker(rules)
        certain, base_rate = self._base_rate(linker)
        linker = self._linker(rules, base_rate)
        linker.training.estimate_u_using_random_sampling(max_pairs=_RANDOM_PAIRS, seed=_SEED)
        for rule in blocking.lessons(self._roles):
            if self._pairs_of(rule) >= _MIN_LESSON_PAIRS:
                self._learn(linker, rule)
        model = self._steadied(linker.misc.save_model_to_json(), certain)
        linker = Linker(self._frames, model, log_level=None)
        predicted = linker.inference.predict(threshold_match_probability=floor, warning_mode="never")
        pairs = self._weighed(self._pairs(predicted.as_duckdbpyrelation()), self._shared(model, base_rate), floor)
        self._connection.close()
        return Matched(pairs, base_rate, certain, left_out)

    def _learn(self, linker: Linker, rule: Rule) -> None:
        try:
            linker.training.estimate_parameters_using_expectation_maximisation(CustomRule(rule.sql), max_pairs=_LESSON_PAIRS)
        except EMTrainingException:
            return

    def _linker(self, rules: Sequence[Rule], base_rate: float = 0.0001) -> Linker:
        settings = SettingsCreator(
            link_type=self._link_type,
            comparisons=[each.splink() for each in self._comparisons],
            blocking_rules_to_generate_predictions=[
                CustomRule(rule.sql, arrays_to_explode=list(rule.exploded) or None) for rule in rules
            ],
            probability_two_random_records_match=base_rate,
            retain_intermediate_calculation_columns=True,
        )
        return Linker(self._frames, settings, log_level=None)

    def _base_rate(self, linker: Linker) -> tuple[int, float]:
        """(pairs that are certainly the same, share of all pairs that are the same); never none at all."""
        rules: list[str | BlockingRuleCreator] = [CustomRule(rule.sql) for rule in blocking.certain(self._roles)]
        rate = 0.0
        if rules:
            linker.training.estimate_probability_two_random_records_match(rules, recall=CERTAIN_RECALL)
            rate = linker.misc.save_model_to_json()["probability_two_random_records_match"]
        certain = round(rate * CERTAIN_RECALL * self._total)
        return certain, max(rate, 1 / self._total)

    def _affordable(self) -> tuple[list[Rule], list[str]]:
        most = _PAIRS_A_RECORD * sum(map(len, self._ids))
        rules: list[Rule] = []
        left_out: list[str] = []
        for rule in blocking.candidates(self._roles):
            count = self._pairs_of(rule)
            if count > most:
                left_out.append(rule.sql)
            elif count > 0:
                rules.append(rule)
        return rules, left_out

    def _shared(self, model: dict[str, Any], base_rate: float) -> dict[frozenset[str], float]:
        if not households.is_measurable(self._roles):
            return {}
        shares = {each["output_column_name"]: _shares(each) for each in model["comparisons"]}
        expected = households.Expected(
            self._total,
            base_rate * self._total,
            {name: levels[-1] for name, levels in shares.items()},
            {name: levels[0] for name, levels in shares.items()},
        )
        return households.discounts(self._roles, expected, self._pairs_of, self._two_persons)

    def _two_persons(self, rule: Rule) -> int:
        """How many pairs of a rule are two persons by given name, birth date and whatever else is a person's own."""
        own = [
            f"(l.{name} IS NULL OR r.{name} IS NULL OR l.{name} <> r.{name})"
            for name, role in self._roles.items()
            if role in (Role.EMAIL, Role.NATIONAL_ID)
        ]
        apart = " AND ".join(
            [rule.sql, households.TWO_PERSONS, *own, *(["l.unique_id < r.unique_id"] if len(self._ids) == 1 else [])]
        )
        tables = f"source_0 AS l, source_{len(self._ids) - 1} AS r"
        return int(self._connection.sql(f"SELECT count(*) FROM {tables} WHERE {apart}").fetchall()[0][0])

    def _weighed(self, pairs: Iterable[Pair], shared: dict[frozenset[str], float], floor: float) -> list[Pair]:
        """By falling weight, less what a household shares."""
        weighed: list[Pair] = []
        for pair in pairs:
            bits = households.discount(shared, [(each.comparison, each.weight) for each in pair.agreements])
            if bits > 0:
                weight = pair.weight - bits
                said = (*pair.agreements, Agreement("household", "shared by households too", -bits))
                pair = replace(pair, weight=weight, probability=1 / (1 + 2.0**-weight), agreements=said)
            if pair.probability >= floor:
                weighed.append(pair)
        return sorted(weighed, key=lambda each: -each.weight)

    def _pairs_of(self, rule: Rule) -> int:
        """How many pairs a rule gives, at most."""
        sides = []
        for side, table in ((0, "source_0"), (1, f"source_{len(self._ids) - 1}")):
            keys = ", ".join(
                f"unnest({pair[side]}) AS key_{at}" if pair[side] in rule.exploded else f"{pair[side]} AS key_{at}"
                for at, pair in enumerate(rule.keys)
            )
            sides.append(f"(SELECT count(*) AS n, COLUMNS('key_.*') FROM (SELECT {keys} FROM {table}) GROUP BY ALL)")
        using = ", ".join(f"key_{at}" for at in range(len(rule.keys)))
        itself = "a.n" if len(self._ids) == 1 and all(mine == other for mine, other in rule.keys) else "0"
        joined = f"{sides[0]} AS a JOIN {sides[1]} AS b USING ({using})"
        pairs = int(self._connection.sql(f"SELECT coalesce(sum(a.n * b.n - {itself}), 0) FROM {joined}").fetchall()[0][0])
        return pairs if len(self._ids) == 2 else pairs // 2

    def _steadied(self, model: dict[str, Any], certain: int) -> dict[str, Any]:
        """The model with each m held to its stated share, and no u smaller than what the random pairs can tell."""
        least = 0.5 / min(self._total, _RANDOM_PAIRS)
        for learnt, stated in zip(model["comparisons"], self._comparisons, strict=True):
            levels = [level for level in learnt["comparison_levels"] if not level.get("is_null_level")]
            for level, said in zip(levels, stated.levels, strict=True):
                seen = _number(level.get("m_probability"), said.share)
                level["m_probability"] = (seen * certain + said.share * _PSEUDO_PAIRS) / (certain + _PSEUDO_PAIRS)
                level["u_probability"] = max(_number(level.get("u_probability"), 0.0), least)
        return model

    def _pairs(self, found: duckdb.DuckDBPyRelation) -> Iterator[Pair]:
        names = [comparison.name for comparison in self._comparisons]
        columns = found.columns
        wanted = ["match_weight", "match_probability", "unique_id_l", "unique_id_r"]
        for name in names:
            wanted += [f"gamma_{name}", f"mw_{name}", f"mw_tf_adj_{name}" if f"mw_tf_adj_{name}" in columns else "0::DOUBLE"]
        rows = found.select(", ".join(wanted)).order("match_weight DESC, unique_id_l, unique_id_r").fetchall()
        right = self._ids[-1]
        for weight, probability, one, other, *rest in rows:
            agreements = tuple(
                Agreement(each.name, _level(each, gamma), log_weight + rarity)
                for each, gamma, log_weight, rarity in zip(self._comparisons, rest[::3], rest[1::3], rest[2::3], strict=True)
            )
            yield Pair(self._ids[0][one], right[other], weight, probability, agreements)


def _level(comparison: Comparison, gamma: int) -> str:
    return "unknown" if gamma < 0 else comparison.levels[len(comparison.levels) - 1 - gamma].name


def _shares(comparison: dict[str, Any]) -> list[float]:
    return [level["m_probability"] for level in comparison["comparison_levels"] if not level.get("is_null_level")]


def _number(value: Any, otherwise: float) -> float:
    """Splink writes a sentence where a level was never seen."""
    return value if isinstance(value, float) else otherwise


def _in_memory() -> duckdb.DuckDBPyConnection:
    """A DuckDB that writes to no disk, whatever it is asked to hold."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET temp_directory = ''")
    return connection


def _order(table: Mapping[str, Sequence[Any]]) -> list[int]:
    """The records by what they say, so that neither their order nor their ids change the outcome."""
    rows = list(zip(*table.values(), strict=True))
    return sorted(range(len(rows)), key=lambda index: [("" if value is None else str(value)) for value in rows[index]])


def _arrow(table: Mapping[str, Sequence[Any]], order: Sequence[int]) -> pa.Table:
    columns = {name: pa.array([values[index] for index in order]) for name, values in table.items()}
    return pa.table({"unique_id": pa.array(range(len(order)), pa.int64()), **columns})
