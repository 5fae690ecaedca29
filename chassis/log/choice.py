"""Which log a service follows."""

from typing import Protocol

from chassis.db import Database
from chassis.errors import InvalidArgument
from chassis.log.cursor import Cursor
from chassis.log.postgres import Reader
from chassis.log.records import Handle
from chassis.settings import ReaderSettings


class Follower(Protocol):
    """What a service needs of a reader."""

    async def follow(self, handle: Handle) -> None:
        """Runs for ever. `handle(records, position)` saves its work and calls `cursor.advance` in one transaction."""
        ...

    async def step(self, handle: Handle) -> int:
        """One batch; returns how many rows it had."""
        ...

    async def lag(self) -> int:
        """How many rows wait."""
        ...


def reader_of(settings: ReaderSettings, database: Database, cursor: Cursor) -> Follower:
    """Raises InvalidArgument where the settings name Kafka and it cannot be followed."""
    if settings.log == "postgres":
        return Reader(database, cursor)
    try:
        from chassis.log.kafka.reader import KafkaReader
        from chassis.log.kafka.security import options_of
    except ImportError:
        raise InvalidArgument(
            "the log is to be followed in Kafka, and this image has no client for it: let it follow postgres", field="log"
        ) from None
    options_of(settings)
    return KafkaReader(database, cursor, settings)
