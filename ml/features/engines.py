"""The relations that a definition is computed from, in the SQL of each engine: see `build` for their columns.

PostgreSQL reads profiles.timeline and profiles.node_profiles for some profiles at one instant; DuckDB and Spark read
`spine`, `events` and `identities` of the archive, for many of both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rapport.features.v1 import features_pb2 as pb

from ml.features.definition import Read, arrays_of, columns_of, fields_of

# A number of an element is a JSON number, or a text that reads as one. Both are looked at as text, which all engines can.
_NUMERIC: Final = "^-?[0-9]{1,28}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$"


@dataclass(frozen=True, slots=True)
class Engine:
    """`fields`: columns that not every set needs. `number`, `text`: a property of the event as a column.

    `element_number`, `element_text`: the same of an element. `elements` joins the elements of an array to `scoped`.
    """

    dialect: str
    scoped: str
    fields: Mapping[str, str]
    number: Callable[[str], str]
    text: Callable[[str], str]
    elements: Callable[[str], str]
    element_number: Callable[[str], str]
    element_text: Callable[[str], str]
    # Ends a relation whose columns are to be computed once, and not again wherever they are read.
    barrier: str = ""

    def relations(self, features: Sequence[pb.Feature]) -> str:
        """The common table expressions, without a comma behind the last."""
        columns = columns_of(features)
        fields = "".join(f",\n    {self.fields[field]} AS {field}" for field in fields_of(features))
        own = _written(columns, "", self.number, self.text)
        sql = self.scoped % {"columns": fields + own}
        for index, array in enumerate(arrays_of(features)):
            read = _written(columns, array, self.element_number, self.element_text)
            sql += f", elements_{index} AS (\n  SELECT scoped.*{read}\n  FROM scoped\n{self.elements(array)}\n)\n"
        return sql


def _written(columns: Mapping[Read, str], array: str, number: Callable[[str], str], text: Callable[[str], str]) -> str:
    written = {"number": number, "text": text}
    return "".join(
        f",\n    {written[read.source](read.property)} AS {column}" for read, column in columns.items() if read.array == array
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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

# The properties are read as a map once for each event: a JSON path of Spark cannot hold every name. Spark compares texts
# by their bytes, and keeps the text of a number as it was written.
_SPARK: Final = """\
WITH asked AS (
  SELECT DISTINCT profile_id, as_of FROM spine
), links AS (
  SELECT node_id, profile_id, since, lead(since) OVER (PARTITION BY node_id ORDER BY since) AS until FROM identities
), nodes AS (
  SELECT asked.profile_id, asked.as_of, links.node_id
  FROM asked
  JOIN links ON links.profile_id = asked.profile_id
    AND links.since <= asked.as_of AND (links.until IS NULL OR links.until > asked.as_of)
), known AS (
  SELECT nodes.profile_id, nodes.as_of, event.ts, event.type, event.name, event.channel, event.rest,
    from_json(event.numbers, 'map<string,string>') AS numbers, from_json(event.texts, 'map<string,string>') AS texts
  FROM nodes
  JOIN events AS event ON event.node_id = nodes.node_id AND event.ts < nodes.as_of AND event.known_at <= nodes.as_of
), scoped AS (
  SELECT
    asked.profile_id,
    asked.as_of,
    event.ts,
    unix_micros(asked.as_of) - unix_micros(event.ts) AS age_us,
    unix_micros(event.ts) div 86400000000 AS day,
    event.type,
    event.name%(columns)s
  FROM asked
  LEFT JOIN known AS event ON event.profile_id = asked.profile_id AND event.as_of = asked.as_of
)
"""


def _scalar(text: str) -> str:
    """Not an array or object, which the engines write differently."""
    return f"CASE WHEN left({text}, 1) NOT IN ('{{', '[') THEN {text} END"


def _postgres_element_number(name: str) -> str:
    text = f"element.value ->> {_literal(name)}"
    fits = f"CASE WHEN abs(({text})::numeric) < 1e28 THEN ({text})::numeric(38, 9) END"
    return f"CASE WHEN {text} ~ '{_NUMERIC}' THEN {fits} END"


def _postgres_elements(array: str) -> str:
    name = _literal(array)
    found = f"CASE WHEN jsonb_typeof(scoped.rest -> {name}) = 'array' THEN scoped.rest -> {name} END"
    return f"  CROSS JOIN LATERAL jsonb_array_elements({found}) AS element (value)"


POSTGRES: Final = Engine(
    dialect="postgres",
    barrier="\nOFFSET 0",
    scoped=_POSTGRES,
    fields={
        "channel": """nullif(event.channel, '') COLLATE "C\"""",
        "event_name": """nullif(event.name, '') COLLATE "C\"""",
        "rest": "event.rest",
        "ts_us": "(date_part('epoch', event.ts) * 1000000)::bigint",
    },
    # The projection keeps only what fits, so the cast never fails.
    number=lambda name: f"(event.numbers ->> {_literal(name)})::numeric(38, 9)",
    text=lambda name: f"""coalesce(event.texts ->> {_literal(name)}, event.numbers ->> {_literal(name)}) COLLATE "C\"""",
    elements=_postgres_elements,
    element_number=_postgres_element_number,
    element_text=lambda name: f"""({_scalar(f"(element.value ->> {_literal(name)})")}) COLLATE "C\"""",
)


def _duckdb_json(column: str, name: str, more: str = "") -> str:
    # A quoted path: a bare key that begins with $ or / would be read as a path.
    path = f'$."{name}"{more}'
    return f"json_extract{'' if more else '_string'}({column}, {_literal(path)})"


def _duckdb_element_number(name: str) -> str:
    text = _duckdb_json("element.value", name)
    number = f"TRY_CAST({text} AS DECIMAL(38, 9))"
    return f"CASE WHEN regexp_full_match({text}, '{_NUMERIC[1:-1]}') AND abs({number}) < 1e28::DECIMAL(38, 9) THEN {number} END"


DUCKDB: Final = Engine(
    dialect="duckdb",
    scoped=_DUCKDB,
    fields={
        "channel": "nullif(event.channel, '')",
        "event_name": "nullif(event.name, '')",
        "rest": "event.rest",
        "ts_us": "epoch_us(event.ts)",
    },
    number=lambda name: f"CAST({_duckdb_json('event.numbers', name)} AS DECIMAL(38, 9))",
    text=lambda name: f"coalesce({_duckdb_json('event.texts', name)}, {_duckdb_json('event.numbers', name)})",
    elements=lambda array: f"  CROSS JOIN unnest({_duckdb_json('scoped.rest', array, '[*]')}) AS element (value)",
    element_number=_duckdb_element_number,
    element_text=lambda name: _scalar(_duckdb_json("element.value", name)),
)


def _spark_literal(text: str) -> str:
    # Two quotes would be two literals side by side. A name has no backslash of its own.
    return "'" + text.replace("'", "\\'") + "'"


def _spark_element(name: str) -> str:
    return f"try_element_at(element.value, {_spark_literal(name)})"


def _spark_element_number(name: str) -> str:
    text = _spark_element(name)
    number = f"try_cast({text} AS DECIMAL(38, 9))"
    return f"CASE WHEN {text} RLIKE '{_NUMERIC}' AND abs({number}) < CAST('1e28' AS DECIMAL(38, 9)) THEN {number} END"


def _spark_elements(array: str) -> str:
    found = f"try_element_at(from_json(scoped.rest, 'map<string,string>'), {_spark_literal(array)})"
    each = f"transform(from_json({found}, 'array<string>'), one -> from_json(one, 'map<string,string>'))"
    return f"  LATERAL VIEW explode({each}) element AS value"


SPARK: Final = Engine(
    dialect="pyspark",
    scoped=_SPARK,
    fields={
        "channel": "nullif(event.channel, '')",
        "event_name": "nullif(event.name, '')",
        "rest": "event.rest",
        "ts_us": "unix_micros(event.ts)",
    },
    number=lambda name: f"CAST(try_element_at(event.numbers, {_spark_literal(name)}) AS DECIMAL(38, 9))",
    text=lambda name: (
        f"coalesce(try_element_at(event.texts, {_spark_literal(name)}), try_element_at(event.numbers, {_spark_literal(name)}))"
    ),
    elements=_spark_elements,
    element_number=_spark_element_number,
    element_text=lambda name: _scalar(_spark_element(name)),
)
