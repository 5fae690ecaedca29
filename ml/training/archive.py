"""The Parquet archive that profiles exports, read by DuckDB: features of any profiles at any instants.

<folder>/events/day=YYYY-MM-DD/*.parquet    the timeline
<folder>/identities/*.parquet               node_id, profile_id, since
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from rapport.features.v1 import features_pb2 as pb

from chassis.errors import InvalidArgument
from ml.features.compile import compile_offline

MEMORY_LIMIT: Final = "1GB"
THREADS: Final = 2
MOMENT: Final = pa.timestamp("us", tz="UTC")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_VIEWS: Final = """
CREATE VIEW events AS
  SELECT node_id, ts, known_at, type, name, source, channel, numbers, texts, rest
  FROM read_parquet('{folder}/events/*/*.parquet', hive_partitioning = false);
CREATE VIEW identities AS
  SELECT node_id, profile_id, since
  FROM read_parquet('{folder}/identities/*.parquet', hive_partitioning = false);
"""


@contextmanager
def open_archive(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views events and identities. Raises InvalidArgument where the folder holds no archive."""
    for part in ("events/*/*.parquet", "identities/*.parquet"):
        if not any(folder.glob(part)):
            raise InvalidArgument(f"There is no archive in {folder}: {part} finds no file. Export the log first.")
    with duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_VIEWS.format(folder=str(folder).replace("'", "''")))
        yield connection


def set_spine(connection: duckdb.DuckDBPyConnection, rows: Iterable[tuple[str, datetime]]) -> None:
    """Makes `spine` of (profile id, instant)."""
    ids, instants = [], []
    for profile_id, as_of in rows:
        ids.append(profile_id)
        instants.append(as_of)
    asked = pa.table({"profile_id": pa.array(ids, pa.string()), "as_of": pa.array(instants, MOMENT)})
    connection.register("asked_rows", asked)
    connection.execute("CREATE OR REPLACE TEMP TABLE spine AS SELECT * FROM asked_rows")
    connection.unregister("asked_rows")


def feature_table(connection: duckdb.DuckDBPyConnection, features: Sequence[pb.Feature]) -> pa.Table:
    """profile_id, as_of, a column for each feature, newest_event; one row for each of `spine`, in their order."""
    compiled = compile_offline(features)
    return connection.sql(f"SELECT * FROM ({compiled.sql}) ORDER BY as_of, profile_id").to_arrow_table()


def feature_rows(
    folder: Path, features: Sequence[pb.Feature], spine: Iterable[tuple[str, datetime]]
) -> dict[tuple[str, datetime], pb.FeatureRow]:
    """What the archive says the features are of each (profile id, instant), as the online engine would answer."""
    compiled = compile_offline(features)
    with open_archive(folder) as connection:
        set_spine(connection, spine)
        rows = feature_table(connection, features).to_pylist()
    return {(row["profile_id"], row["as_of"].astimezone(UTC)): compiled.decode(row) for row in rows}


def data_range(connection: duckdb.DuckDBPyConnection) -> tuple[datetime, datetime]:
    """Times of the oldest and the newest event of customers; what services record of them does not count."""
    [(oldest_us, newest_us)] = connection.sql(
        "SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM events WHERE source NOT LIKE 'rapport.%'"
    ).fetchall()
    if oldest_us is None:
        raise InvalidArgument("The archive holds no event of a customer.")
    return EPOCH + timedelta(microseconds=oldest_us), EPOCH + timedelta(microseconds=newest_us)
