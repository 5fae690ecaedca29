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
expression (`build`). The SQL for the catalogue is committed beside this module, under the definitions' digest, and read
from there: Ibis and sqlglot would cost profiles 55 MB and a second at each start. `python -m ml.features.compile` writes
it anew and a test compares it with what Ibis compiles. Definitions that are not committed are compiled when asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from rapport.features.v1 import features_pb2 as pb

from ml.features import catalogue
from ml.features.definition import KINDS, Kind, check, columns_of, digest

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
    sql = committed.read_text() if committed.exists() else online_sql(features)
    return Compiled(features=tuple(features), digest=key, sql=sql)


def compile_offline(features: Sequence[pb.Feature]) -> Compiled:
    """For DuckDB, over the relations spine (profile_id, as_of), events and identities of the Parquet archive.

    Every instant of `spine` is answered in one pass. Raises InvalidArgument where a definition cannot be compiled.
    """
    check(features)
    return Compiled(features=tuple(features), digest=digest(features), sql=offline_sql(features))


def online_sql(features: Sequence[pb.Feature]) -> str:
    """What `compile_online` answers with where nothing is committed."""
    from ml.features.build import statement  # Imports Ibis.

    columns = _property_columns(features, _postgres_number, _postgres_text)
    return _POSTGRES % {"columns": columns} + statement(features, "postgres") + "\n"


def offline_sql(features: Sequence[pb.Feature]) -> str:
    """The SQL of `compile_offline`."""
    from ml.features.build import statement  # Imports Ibis.

    columns = _property_columns(features, _duckdb_number, _duckdb_text)
    return _DUCKDB % {"columns": columns} + statement(features, "duckdb") + "\n"


# The nodes of a profile at an instant are those whose newest link by then leads to it. A double holds the microseconds of
# 130 years exactly, at a third of numeric's cost.
_POSTGRES: Final = """\
WITH asked AS (
  SELECT DISTINCT profile_id FROM unnest($2::uuid[]) AS ids (profile_id)
), nodes AS (
  SELECT link.profile_id, link.node_id
  FROM profiles.node_profiles AS link
  WHERE link.tenant_id = $1 AND link.profile_id = ANY($2::uuid[]) AND link.since <= $3::timestamptz
    AND NOT EXISTS (
      SELECT FROM profiles.node_profiles AS later
      WHERE later.tenant_id = $1 AND later.node_id = link.node_id
        AND later.since > link.since AND later.since <= $3::timestamptz
    )
), scoped AS (
  SELECT
    asked.profile_id,
    $3::timestamptz AS as_of,
    event.ts,
    (date_part('epoch', $3::timestamptz - event.ts) * 1000000)::bigint AS age_us,
    (event.ts AT TIME ZONE 'UTC')::date - DATE '1970-01-01' AS day,
    event.type,
    event.name%(columns)s
  FROM asked
  LEFT JOIN (
    nodes
    JOIN profiles.timeline AS event
      ON event.tenant_id = $1 AND event.node_id = nodes.node_id
      AND event.ts < $3::timestamptz AND event.known_at <= $3::timestamptz
  ) ON nodes.profile_id = asked.profile_id
)
"""

_DUCKDB: Final = """\
WITH asked AS (
  SELECT DISTINCT profile_id, as_of FROM spine
), links AS (
  SELECT node_id, profile_id, since, lead(since) OVER (PARTITION BY node_id ORDER BY since) AS until FROM identities
), nodes AS (
  SELECT asked.profile_id, asked.as_of, links.node_id
  FROM asked
  JOIN links ON links.profile_id = asked.profile_id
    AND links.since <= asked.as_of AND (links.until IS NULL OR links.until > asked.as_of)
), scoped AS (
  SELECT
    asked.profile_id,
    asked.as_of,
    event.ts,
    epoch_us(asked.as_of) - epoch_us(event.ts) AS age_us,
    epoch_us(event.ts) // 86400000000 AS day,
    event.type,
    event.name%(columns)s
  FROM asked
  LEFT JOIN (
    nodes
    JOIN events AS event ON event.node_id = nodes.node_id AND event.ts < nodes.as_of AND event.known_at <= nodes.as_of
  ) ON nodes.profile_id = asked.profile_id AND nodes.as_of = asked.as_of
)
"""


class _Column(Protocol):
    def __call__(self, name: str, /) -> str: ...


def _property_columns(features: Sequence[pb.Feature], number: _Column, text: _Column) -> str:
    written = {"number": number, "text": text}
    return "".join(f",\n    {written[source](name)} AS {column}" for (source, name), column in columns_of(features).items())


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _postgres_number(name: str) -> str:
    # The projection keeps only what fits, so the cast never fails.
    return f"(event.numbers ->> {_literal(name)})::numeric(38, 9)"


def _postgres_text(name: str) -> str:
    key = _literal(name)
    return f"""coalesce(event.texts ->> {key}, event.numbers ->> {key}) COLLATE "C\""""


def _duckdb_number(name: str) -> str:
    return f"CAST({_duckdb_json('numbers', name)} AS DECIMAL(38, 9))"


def _duckdb_text(name: str) -> str:
    return f"coalesce({_duckdb_json('texts', name)}, {_duckdb_json('numbers', name)})"


def _duckdb_json(column: str, name: str) -> str:
    # A quoted path: a bare key that begins with $ or / would be read as a path.
    path = f'$."{name}"'
    return f"json_extract_string(event.{column}, {_literal(path)})"


def _committed(key: str) -> Path:
    return COMPILED / f"{key}.sql"


def main() -> None:
    """Writes the catalogue's SQL for PostgreSQL, and removes that of definitions that are no more."""
    COMPILED.mkdir(exist_ok=True)
    for stale in COMPILED.glob("*.sql"):
        stale.unlink()
    path = _committed(digest(catalogue.FEATURES))
    path.write_text(online_sql(catalogue.FEATURES))


if __name__ == "__main__":
    main()
