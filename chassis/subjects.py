"""Rows of people: all that a service keeps of one, and their end.

A service names its tables once; both calls, and the test that looks for a table that was forgotten, read that list.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from rapport.subjects.v1 import subjects_pb2 as pb
from rapport.subjects.v1 import subjects_pb2_grpc

from chassis.context import tenant
from chassis.db import Connection, Database, affected
from chassis.errors import InvalidArgument

MOST_IDS: Final = 10_000

Row = dict[str, Any]
# What a row says in the clear, where it holds ciphertext: (rows) -> rows.
Open = Callable[[Sequence[Row]], Awaitable[Sequence[Row]]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of people. `columns`: any of them may hold the person's id. `select`: what an export shows; `open`: in the clear."""

    name: str
    columns: tuple[str, ...] = ("profile_id",)
    select: str = "*"
    open: Open | None = None

    @property
    def where(self) -> str:
        """Of tenant $1, of any of the ids $2."""
        return "tenant_id = $1 AND (" + " OR ".join(f"{column} = ANY($2::uuid[])" for column in self.columns) + ")"


class SubjectsRpc(subjects_pb2_grpc.SubjectsServicer):
    """The contract for one service's tables, in the order in which they may be deleted."""

    def __init__(self, database: Database, tables: Sequence[Table]) -> None:
        self._database = database
        self._tables = tables

    async def ExportSubject(self, request: pb.ExportSubjectRequest, context: object) -> pb.ExportSubjectResponse:  # noqa: ARG002, N802
        ids = ids_of(request.profile_ids)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = {table: await rows_of(connection, table, tenant(), ids) for table in self._tables}
        return pb.ExportSubjectResponse(
            tables=[
                pb.SubjectTable(name=table.name, rows=msgspec.json.encode(await table.open(rows) if table.open else rows))
                for table, rows in found.items()
            ]
        )

    async def EraseSubject(self, request: pb.EraseSubjectRequest, context: object) -> pb.EraseSubjectResponse:  # noqa: ARG002, N802
        ids = ids_of(request.profile_ids)
        async with self._database.transaction() as connection:
            counts = await erase(connection, self._tables, tenant(), ids)
        return pb.EraseSubjectResponse(tables=erased(counts))


async def rows_of(connection: Connection, table: Table, tenant_id: str, ids: Sequence[UUID]) -> list[Row]:
    """What the table holds of a person, the same rows in the same order; times as texts, bytes as hexadecimal digits."""
    query = (
        f"SELECT to_jsonb(found)::text FROM (SELECT {table.select} FROM {table.name} WHERE {table.where}) AS found ORDER BY 1"
    )
    return [msgspec.json.decode(row[0]) for row in await connection.fetch(query, tenant_id, ids)]


async def erase(connection: Connection, tables: Sequence[Table], tenant_id: str, ids: Sequence[UUID]) -> dict[str, int]:
    """Deletes the rows, in the caller's transaction; how many, by table."""
    counts: dict[str, int] = {}
    for table in tables:
        done = await connection.execute(f"DELETE FROM {table.name} WHERE {table.where}", tenant_id, ids)
        counts[table.name] = affected(done)
    return counts


def erased(counts: Mapping[str, int]) -> list[pb.ErasedRows]:
    """As the contract has it."""
    return [pb.ErasedRows(name=name, row_count=count) for name, count in counts.items()]


def ids_of(given: Sequence[str]) -> list[UUID]:
    """Raises InvalidArgument."""
    if not 0 < len(given) <= MOST_IDS:
        raise InvalidArgument(f"1 to {MOST_IDS} profile ids", field="profile_ids")
    try:
        return [UUID(each) for each in given]
    except ValueError:
        raise InvalidArgument("a profile id is a UUID", field="profile_ids") from None
