"""The training set of churn, correct at each instant: what was known then, and what happened in the 90 days after."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chassis.errors import Conflict, Reason
from ml.features import catalogue
from ml.training.archive import MOMENT, data_range, feature_table

HORIZON: Final = timedelta(days=90)
STEP: Final = timedelta(days=30)
# History that an as-of time needs behind it, so that features over 90 days are whole.
WARM_UP: Final = timedelta(days=90)

# More are not learnt from: the same share of the customers is taken at each instant, by hash.
MAX_ROWS: Final = 60_000

# Who had bought by each instant, under the identities of that instant. Profiles that are anonymous are left out: when such a
# customer returns from elsewhere, it is as somebody new, so nobody knows whether they churned. A profile is named by its
# first identifier, and the eighth-version UUID of one says in its fourteenth digit what it is: 1 is an anonymous id.
_SPINE: Final = """
CREATE OR REPLACE TEMP TABLE links AS
  SELECT node_id, profile_id, since, lead(since) OVER (PARTITION BY node_id ORDER BY since) AS until FROM identities;
CREATE OR REPLACE TEMP TABLE orders AS
  SELECT node_id, ts, known_at FROM events WHERE type = 'track' AND name = 'Order Completed';
CREATE OR REPLACE TEMP TABLE spine AS
  SELECT DISTINCT links.profile_id, instants.as_of
  FROM instants
  JOIN orders ON orders.ts < instants.as_of AND orders.known_at <= instants.as_of
  JOIN links ON links.node_id = orders.node_id
    AND links.since <= instants.as_of AND (links.until IS NULL OR links.until > instants.as_of)
  WHERE substr(links.profile_id, 15, 2) <> '81';
"""
_THIN: Final = """
CREATE OR REPLACE TEMP TABLE spine AS
  SELECT * FROM spine
  WHERE ('0x' || substr(md5(profile_id), 1, 8))::UBIGINT <= $rows / (SELECT count(*) FROM spine) * 4294967296;
"""

# The outcome belongs to the person: whoever the profile has become by the end of the horizon, under all their nodes.
_OUTCOMES: Final = """
WITH people AS (
  SELECT spine.profile_id, spine.as_of, spine.as_of + $horizon AS until, coalesce(links.profile_id, spine.profile_id) AS person
  FROM spine
  LEFT JOIN links ON links.node_id = spine.profile_id
    AND links.since <= spine.as_of + $horizon AND (links.until IS NULL OR links.until > spine.as_of + $horizon)
)
SELECT people.profile_id, people.as_of, count(orders.ts) = 0 AS churned
FROM people
LEFT JOIN links ON links.profile_id = people.person
  AND links.since <= people.until AND (links.until IS NULL OR links.until > people.until)
LEFT JOIN orders ON orders.node_id = links.node_id AND orders.ts >= people.as_of AND orders.ts < people.until
GROUP BY ALL
ORDER BY people.as_of, people.profile_id
"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows in order of (as-of, profile). `matrix` [rows, features], NaN where there is no value; labels 1 = churned."""

    profile_ids: list[str]
    as_of: NDArray[np.datetime64]
    matrix: NDArray[np.float64]
    labels: NDArray[np.int8]

    def at(self, as_of: datetime) -> "Dataset":
        """The rows of one instant."""
        return self.where(self.as_of == _instant(as_of))

    def where(self, rows: NDArray[np.bool_]) -> "Dataset":
        ids = [self.profile_ids[index] for index in np.flatnonzero(rows)]
        return Dataset(ids, self.as_of[rows], self.matrix[rows], self.labels[rows])

    def digest(self) -> str:
        """SHA-256, hex, of everything in it: the same events give the same."""
        sha = hashlib.sha256("\n".join(self.profile_ids).encode())
        for column in (self.as_of.astype(np.int64), self.matrix, self.labels):
            sha.update(np.ascontiguousarray(column).tobytes())
        return sha.hexdigest()


def judged_instant(connection: duckdb.DuckDBPyConnection) -> datetime:
    """The latest midnight (UTC) that leaves a whole horizon of data."""
    _, newest = data_range(connection)
    return (newest - HORIZON).replace(hour=0, minute=0, second=0, microsecond=0)


def training_instants(connection: duckdb.DuckDBPyConnection, judged: datetime) -> list[datetime]:
    """Oldest first: every STEP back from the newest whose horizon ends by `judged`.

    Raises Conflict where there is too little history for one.
    """
    oldest, _ = data_range(connection)
    instants: list[datetime] = []
    at = judged - HORIZON
    while at >= oldest + WARM_UP:
        instants.append(at)
        at -= STEP
    if not instants:
        needed = (WARM_UP + 2 * HORIZON).days
        raise Conflict(
            f"Training needs {needed} days of events, to learn from one quarter and be judged on the next; "
            f"there are {(judged + HORIZON - oldest).days}.",
            reason=Reason.NO_MODEL,
        )
    return instants[::-1]


def build(connection: duckdb.DuckDBPyConnection, instants: Sequence[datetime]) -> Dataset:
    """Every profile that had bought by each instant."""
    connection.register("instants", pa.table({"as_of": pa.array(instants, MOMENT)}))
    connection.execute(_SPINE)
    connection.unregister("instants")
    connection.execute(_THIN, {"rows": MAX_ROWS})
    known = feature_table(connection, catalogue.FEATURES)
    outcomes = connection.sql(_OUTCOMES, params={"horizon": HORIZON}).to_arrow_table()
    if known["profile_id"] != outcomes["profile_id"] or known["as_of"] != outcomes["as_of"]:
        raise AssertionError("features and outcomes are not of the same rows")
    return Dataset(
        profile_ids=known["profile_id"].to_pylist(),
        as_of=known["as_of"].to_numpy().astype("datetime64[us]"),
        matrix=np.column_stack([_numbers(known[name]) for name in catalogue.NAMES]),
        labels=outcomes["churned"].to_numpy().astype(np.int8),
    )


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    # By Python's float: it rounds a decimal as serving does, which reads the same decimal as text.
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()])


def _instant(at: datetime) -> np.datetime64:
    return np.datetime64(int(at.timestamp()) * 1_000_000 + at.microsecond, "us")
