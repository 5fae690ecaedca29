"""The three engines over the same timelines, as columns that can be compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
from rapport.features.v1 import features_pb2 as pb

from ml.features.compile import compile_online
from ml.features.definition import KINDS, Kind
from ml.training.archive import MOMENT, feature_table, open_archive, set_spine

RELATIVE_TOLERANCE = 1e-9
BATCH = 1000

Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Compared:
    """`present`: by feature, how many cells had a value."""

    cells: int
    differing: list[tuple[str, str, datetime, Any, Any]]
    present: dict[str, int]

    def __add__(self, other: "Compared") -> "Compared":
        names = self.present | other.present
        present = {name: self.present.get(name, 0) + other.present.get(name, 0) for name in names}
        return Compared(self.cells + other.cells, self.differing + other.differing, present)


NOTHING = Compared(0, [], {})


async def postgres(
    connection: asyncpg.Connection,
    tenant: str,
    features: Sequence[pb.Feature],
    ids: Sequence[str],
    instants: Sequence[datetime],
) -> Columns:
    compiled = compile_online(features)
    rows: list[dict[str, Any]] = []
    for at in instants:
        for first in range(0, len(ids), BATCH):
            found = await connection.fetch(compiled.sql, tenant, ids[first : first + BATCH], at, timeout=300)
            rows += [dict(row) | {"profile_id": str(row["profile_id"]), "as_of": at} for row in found]
    names = ["profile_id", "as_of", *(feature.name for feature in features), "newest_event"]
    return _sorted({name: [row[name] for row in rows] for name in names}, features)


def spine_of(ids: Sequence[str], instants: Sequence[datetime]) -> pa.Table:
    asked = [(each, at) for at in instants for each in ids]
    return pa.table(
        {"profile_id": pa.array([a for a, _ in asked], pa.string()), "as_of": pa.array([b for _, b in asked], MOMENT)}
    )


def duckdb(folder: Path, features: Sequence[pb.Feature], ids: Sequence[str], instants: Sequence[datetime]) -> Columns:
    with open_archive(folder) as connection:
        set_spine(connection, [(each, at) for at in instants for each in ids])
        return of_table(feature_table(connection, features), features)


def spark(
    session: Any, folder: Path, features: Sequence[pb.Feature], ids: Sequence[str], instants: Sequence[datetime]
) -> Columns:
    from ml.features import spark as engine  # Where there is Java.

    return of_table(engine.feature_table(session, str(folder), features, spine_of(ids, instants)), features)


def of_table(table: pa.Table, features: Sequence[pb.Feature]) -> Columns:
    return _sorted({name: table[name].to_pylist() for name in table.column_names}, features)


def _sorted(columns: Columns, features: Sequence[pb.Feature]) -> Columns:
    """By instant and profile; values as the contract has them."""
    instants = [at.astimezone(UTC) for at in columns["as_of"]]
    order = sorted(range(len(instants)), key=lambda row: (instants[row], columns["profile_id"][row]))
    made: Columns = {"profile_id": [columns["profile_id"][row] for row in order], "as_of": [instants[row] for row in order]}
    for feature in features:
        kind = {Kind.NUMBER: float, Kind.DECIMAL: Decimal, Kind.TEXT: str}[KINDS[feature.aggregation]]
        values = columns[feature.name]
        made[feature.name] = [None if values[row] is None else kind(values[row]) for row in order]
    newest = columns["newest_event"]
    made["newest_event"] = [None if newest[row] is None else newest[row].astimezone(UTC) for row in order]
    return made


def compare(features: Sequence[pb.Feature], left: Columns, right: Columns) -> Compared:
    """Cell by cell: everything exactly, numbers within RELATIVE_TOLERANCE."""
    assert left["profile_id"] == right["profile_id"]
    assert left["as_of"] == right["as_of"]
    names = [*(feature.name for feature in features), "newest_event"]
    differing: list[tuple[str, str, datetime, Any, Any]] = []
    for name in names:
        if left[name] != right[name]:
            pairs = zip(left["profile_id"], left["as_of"], left[name], right[name], strict=True)
            differing += [(name, *pair) for pair in pairs if not _same(pair[2], pair[3])]
    present = {name: sum(value is not None and value != 0 for value in left[name]) for name in names}
    return Compared(len(names) * len(left["as_of"]), differing, present)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=0)
    return left == right
