"""A consumer's places in the log: one row of its own for PostgreSQL, one more for each partition where it reads Kafka.

A record has been handled if it is not after the row of its own, or not after the row of its partition. That holds whichever
log is followed, so a service goes from one to the other and back, even replica by replica, and loses and doubles nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chassis.db import Connection
from chassis.errors import Conflict
from chassis.log.records import Place, Position

# Put into each service's first migration: its own cursors, in its own schema.
CURSOR_TABLE: Final = "CREATE TABLE {schema}.log_cursor (consumer text PRIMARY KEY, xid xid8 NOT NULL, seq bigint NOT NULL)"

NOWHERE: Final = (0, 0)
# Before every row of a log, and a row that can be locked: no transaction of a user has so small an id.
_BEFORE_ALL: Final = (1, 0)


class Repartitioned(Exception):
    """The topic has another number of partitions than the consumer's places are for."""


@dataclass(frozen=True, slots=True)
class Places:
    """As they stand in the table."""

    own: Place
    partitions: Mapping[int, Place]

    def of(self, partition: int) -> Place:
        """Up to here all of a partition has been handled."""
        return max(self.own, self.partitions.get(partition, NOWHERE))

    @property
    def reached(self) -> Place:
        """Up to here everything has been handled."""
        return max(self.own, min(self.partitions.values(), default=NOWHERE))


class Cursor:
    """A consumer's place in the log, kept in <schema>.log_cursor."""

    def __init__(self, schema: str, consumer: str) -> None:
        self.consumer = consumer
        self._table = f"{schema}.log_cursor"

    async def load(self, connection: Connection) -> Place:
        """(xid, seq) up to which all rows were handled; (0, 0) before the first."""
        return (await self.places(connection)).reached

    async def places(self, connection: Connection) -> Places:
        """By row: its own, and those of Kafka's partitions."""
        return await self._places(connection, "")

    async def _places(self, connection: Connection, lock: str) -> Places:
        select = (
            f"SELECT consumer, xid::text AS xid, seq FROM {self._table} "
            f"WHERE consumer = $1 OR starts_with(consumer, $1 || '/') ORDER BY consumer {lock}"
        )
        rows = {row["consumer"]: (int(row["xid"]), row["seq"]) for row in await connection.fetch(select, self.consumer)}
        own = rows.pop(self.consumer, NOWHERE)
        return Places(own, {int(name.rsplit("/", 1)[1]): place for name, place in rows.items()})

    async def split(self, connection: Connection, partitions: int) -> Places:
        """The places with a row for each of Kafka's partitions. Raises Repartitioned where they are for another number."""
        async with connection.transaction():
            insert = f"INSERT INTO {self._table} VALUES ($1, $2::text::xid8, $3) ON CONFLICT DO NOTHING"
            await connection.execute(insert, self.consumer, str(_BEFORE_ALL[0]), _BEFORE_ALL[1])
            places = await self._places(connection, "FOR SHARE")
            if not places.partitions:
                xid, seq = places.own
                rows = [(f"{self.consumer}/{number}", str(xid), seq) for number in range(partitions)]
                await connection.executemany(insert, rows)
                places = await self._places(connection, "")
        if len(places.partitions) != partitions:
            raise Repartitioned(
                f"the topic has {partitions} partitions, and {self.consumer} has read {len(places.partitions)}: "
                "let it follow PostgreSQL until it is past what it read, then come back"
            )
        return places

    async def was_replayed(self, connection: Connection, place: Place) -> bool:
        """Whether an event that had been set aside has been handled since."""
        select = f"SELECT EXISTS (SELECT FROM {self._table} WHERE consumer = $1)"
        return bool(await connection.fetchval(select, self._name_again(place)))

    def _name_again(self, place: Place) -> str:
        return f"{self.consumer} again {place[0]}:{place[1]}"

    async def advance(self, connection: Connection, position: Position) -> None:
        """Moves on, in the caller's transaction. Raises Conflict where another process has moved it meanwhile."""
        if position.again is not None:
            await self._replay(connection, position.again)
        elif position.moves:
            await self._advance_partitions(connection, position)
        else:
            await self._advance_own(connection, position)
            await self._leave_partitions(connection, position)

    async def _replay(self, connection: Connection, place: Place) -> None:
        insert = f"INSERT INTO {self._table} VALUES ($1, $2::text::xid8, $3) ON CONFLICT DO NOTHING"
        done = await connection.execute(insert, self._name_again(place), str(place[0]), place[1])
        _refuse_if(done.endswith(" 0"))

    async def _advance_own(self, connection: Connection, position: Position) -> None:
        if (position.from_xid, position.from_seq) == NOWHERE:
            insert = f"INSERT INTO {self._table} VALUES ($1, $2::text::xid8, $3) ON CONFLICT DO NOTHING"
            done = await connection.execute(insert, self.consumer, str(position.to_xid), position.to_seq)
        else:
            update = (
                f"UPDATE {self._table} SET xid = $2::text::xid8, seq = $3 "
                "WHERE consumer = $1 AND xid = $4::text::xid8 AND seq = $5"
            )
            done = await connection.execute(
                update, self.consumer, str(position.to_xid), position.to_seq, str(position.from_xid), position.from_seq
            )
        _refuse_if(done.endswith(" 0"))

    async def _leave_partitions(self, connection: Connection, position: Position) -> None:
        """After the lock on the row of its own, which who moves a partition holds too: no reader of Kafka moves meanwhile."""
        places = await self._places(connection, "FOR SHARE")
        _refuse_if(dict(places.partitions) != dict(position.partitions))
        if places.partitions and max(places.partitions.values()) <= places.own:
            await connection.execute(f"DELETE FROM {self._table} WHERE starts_with(consumer, $1 || '/')", self.consumer)

    async def _advance_partitions(self, connection: Connection, position: Position) -> None:
        select = f"SELECT xid::text AS xid, seq FROM {self._table} WHERE consumer = $1 FOR SHARE"
        row = await connection.fetchrow(select, self.consumer)
        own = (int(row["xid"]), row["seq"]) if row else NOWHERE
        _refuse_if(own != (position.from_xid, position.from_seq))
        update = f"""
            UPDATE {self._table} AS known SET xid = move.to_xid::xid8, seq = move.to_seq
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
                AS move (consumer, from_xid, from_seq, to_xid, to_seq)
            WHERE known.consumer = move.consumer AND known.xid = move.from_xid::xid8 AND known.seq = move.from_seq
        """
        rows = [
            (f"{self.consumer}/{move.partition}", str(move.start[0]), move.start[1], str(move.end[0]), move.end[1])
            for move in position.moves
        ]
        done = await connection.execute(update, *(list(column) for column in zip(*rows, strict=True)))
        _refuse_if(done != f"UPDATE {len(rows)}")


def _refuse_if(moved: bool) -> None:
    if moved:
        raise Conflict("another reader has moved this cursor")
