"""How readers follow the event log.

Rows carry the id of the transaction that wrote them. A reader takes only rows of transactions older than every one
that is still running, in the order (transaction, sequence): what commits late comes later in this order, and is never
skipped. A reader saves what it makes of the rows and its new position in one transaction, so each row counts once.

`Reader` follows the table itself, `kafka.KafkaReader` the copy of it that a relay keeps in Kafka; `choice.reader_of`
takes the one that a service's settings name.
"""

from chassis.log.choice import Follower, reader_of
from chassis.log.cursor import CURSOR_TABLE, Cursor, Places, Repartitioned
from chassis.log.postgres import Log, PostgresLog, Reader
from chassis.log.records import Handle, Move, Place, Position, Record, message_of, messages, partition_of

__all__ = [
    "CURSOR_TABLE",
    "Cursor",
    "Follower",
    "Handle",
    "Log",
    "Move",
    "Place",
    "Places",
    "Position",
    "PostgresLog",
    "Reader",
    "Record",
    "Repartitioned",
    "message_of",
    "messages",
    "partition_of",
    "reader_of",
]
