"""Compiles feature definitions, once, to the SQL of each engine.

    compiled = compile_online(catalogue.FEATURES)                              # PostgreSQL
    rows = await connection.fetch(compiled.sql, tenant, profile_ids, at)       # text, UUIDs or their text, aware datetime
    answers = {row.profile_id: row for row in map(compiled.decode, rows)}      # rapport.features.v1.FeatureRow

The pool that asks is best connected with `server_settings=SESSION`: planned once, a profile costs half (0.6 ms).
One row comes back for each different profile id that was asked for, in no order; one that is unknown at `at` has no
events, so its counts and sums are 0 and its other values null. It is for the caller to know that, to lead old profile
ids to the winner, and to fill `FeatureRow.ref`.

An event counts at `at` where `ts < at`, `known_at <= at`, and its node belonged to the profile by then.

The rows that a profile has are gathered in each engine's own SQL (`scoped`); what is computed from them is one Ibis
expression (`build`). The SQL of each set of the catalogue is committed beside this module, under the definitions' digest,
and read from there: Ibis and sqlglot would cost profiles 55 MB and a second at each start. `python -m ml.features.compile`
writes it anew and a test compares it with what Ibis compiles. Definitions that are not committed are compiled when asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from rapport.features.v1 import features_pb2 as pb

from ml.features import catalogue
from ml.features.definition import KINDS, Kind, check, digest
from ml.features.engines import DUCKDB, POSTGRES, SPARK, Engine

# One generic plan serves one profile and a thousand alike: planning anew takes longer than the query.
SESSION: Final[Mapping[str, str]] = {"plan_cache_mode": "force_generic_plan", "jit": "off"}

COMPILED: Final = Path(__file__).with_name("compiled")


class Record(Protocol):
    """A row by column name: asyncpg's Record, or a dict."""

    def __getitem__(self, key: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL whose columns are profile_id, as_of, one for each feature in order, and newest_event."""

    features: tuple[pb.Feature, ...]
    digest: str
    sql: str

    def decode(self, row: Record) -> pb.FeatureRow:
        """One row of the answer, from either engine; `ref` is left empty."""
        answer = pb.FeatureRow(
            profile_id=str(row["profile_id"]),
            values=[encode(row[feature.name], KINDS[feature.aggregation]) for feature in self.features],
        )
        newest: datetime | None = row["newest_event"]
        if newest is not None:
            answer.newest_event.FromDatetime(newest.astimezone(UTC))
        return answer


def encode(value: Any, kind: Kind) -> pb.FeatureValue:
    """A value as an engine answered it: int, float, Decimal, str or None."""
    if value is None:
        return pb.FeatureValue(status=pb.FEATURE_STATUS_NULL_VALUE)
    match kind:
        case Kind.NUMBER:
            return pb.FeatureValue(status=pb.FEATURE_STATUS_PRESENT, number=float(value))
        case Kind.DECIMAL:
            return pb.FeatureValue(status=pb.FEATURE_STATUS_PRESENT, decimal=decimal_text(Decimal(value)))
        case Kind.TEXT:
            return pb.FeatureValue(status=pb.FEATURE_STATUS_PRESENT, text=str(value))


def decimal_text(value: Decimal) -> str:
    """Exact, without exponent, with two decimals or as many more as it needs: "12.50", "0.00", "1.125"."""
    whole, _, decimals = f"{value:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def as_number(value: pb.FeatureValue) -> float:
    """A value as a model reads it: NaN where there is none, or where it is a text."""
    match value.WhichOneof("value"):
        case "number":
            return value.number
        case "decimal":
            return float(value.decimal)
        case _:
            return float("nan")


def compile_online(features: Sequence[pb.Feature]) -> Compiled:
    """For PostgreSQL: $1 tenant (text), $2 profile ids (uuid[]), $3 at (timestamptz).

    Raises InvalidArgument where a definition cannot be compiled.
    """
    check(features)
    key = digest(features)
    committed = _committed(key)
    sql = committed.read_text() if committed.exists() else engine_sql(features, POSTGRES)
    return Compiled(features=tuple(features), digest=key, sql=sql)


def compile_offline(features: Sequence[pb.Feature]) -> Compiled:
    """For DuckDB, over the relations spine (profile_id, as_of), events and identities of the Parquet archive.

    Every instant of `spine` is answered in one pass. Raises InvalidArgument where a definition cannot be compiled.
    """
    check(features)
    return Compiled(features=tuple(features), digest=digest(features), sql=engine_sql(features, DUCKDB))


def compile_distributed(features: Sequence[pb.Feature]) -> Compiled:
    """For Spark, over the same relations as `compile_offline`. Raises InvalidArgument as it does."""
    check(features)
    return Compiled(features=tuple(features), digest=digest(features), sql=engine_sql(features, SPARK))


def engine_sql(features: Sequence[pb.Feature], engine: Engine) -> str:
    """The relations that `build` reads in the engine's own SQL, and its SELECT over them."""
    from ml.features.build import statement  # Imports Ibis.

    before, selected = statement(features, engine.dialect)
    relations = engine.relations(features) + (f", passed AS (\n{before}{engine.barrier}\n)\n" if before else "")
    # Where Ibis names parts of its own, they follow ours.
    first = ", " if (rest := selected.removeprefix("WITH ")) != selected else ""
    return relations + first + rest + "\n"


def _committed(key: str) -> Path:
    return COMPILED / f"{key}.sql"


def main() -> None:
    """Writes the SQL of every set for PostgreSQL, and removes that of definitions that are no more."""
    COMPILED.mkdir(exist_ok=True)
    for stale in COMPILED.glob("*.sql"):
        stale.unlink()
    for features in catalogue.SETS.values():
        _committed(digest(features)).write_text(engine_sql(features, POSTGRES))


if __name__ == "__main__":
    main()
