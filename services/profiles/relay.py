"""`python -m services.profiles.relay`: copies the log to Kafka, in its order, at least once; of many, one at a time works.

    python -m services.profiles.relay           runs until it is told to end
    python -m services.profiles.relay refill    the relay that runs begins again at the start of the log

A record leaves with its place and with the place of the one before it in its partition (chassis/log/kafka/topic.py). Both are
facts of PostgreSQL's log, whoever sends them: two relays at once, or a stretch sent twice, mislead no reader.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from prometheus_client import Counter, Gauge

from chassis import telemetry
from chassis.db import Connection, Database, connect, session_lock
from chassis.errors import Conflict, Unavailable
from chassis.log import Cursor, Place, Position, PostgresLog, Record, partition_of
from chassis.log.kafka.client import LOST, administering, lost, make_topic, new_producer, partitions_of, unanswered
from chassis.log.kafka.security import options_of
from chassis.log.kafka.topic import Headers, headers_of, headers_of_mark
from chassis.process import Host, carry_out, run
from chassis.settings import read
from services.profiles.settings import Settings

RELAYED: Final = Counter("rapport_profiles_relay_events_total", "Events that Kafka has acknowledged.")
FAILURES: Final = Counter("rapport_profiles_relay_failures_total", "Batches that Kafka did not acknowledge.")
LAG: Final = Gauge("rapport_profiles_relay_lag_events", "Events of the log that the relay has not sent yet.")
ACTIVE: Final = Gauge("rapport_profiles_relay_active", "1 in the process that sends, 0 in one that waits for its turn.")

CONSUMER: Final = "relay"
_LEASE: Final = "SELECT pg_try_advisory_lock(hashtext('services.profiles.relay'))"
_TURN_S: Final = 1.0
_MEASURE_S: Final = 5.0
# How long a partition without events may be behind, and how long all may be silent.
_MARK_S: Final = 0.2
_SILENCE_S: Final = 5.0


class Relay:
    """One that waits for its turn, or has it."""

    def __init__(self, database: Database, settings: Settings, *, batch: int = 1_000, idle_s: float = 0.05) -> None:
        self._database = database
        self._settings = settings
        self._log = PostgresLog(database)
        self._cursor = Cursor("profiles", CONSUMER)
        self._batch = batch
        self._idle_s = idle_s

    async def follow(self) -> None:
        """Runs for ever."""
        ACTIVE.set(0)
        while True:
            try:
                async with self._database.connection() as lease, session_lock(lease, _LEASE) as is_ours:
                    if is_ours:
                        await self._work(lease)
            except (Conflict, Unavailable) as error:
                FAILURES.inc()
                telemetry.logger().warning("the relay begins again", reason=error.reason.name, detail=error.message)
            finally:
                ACTIVE.set(0)
            await asyncio.sleep(_TURN_S)

    async def _work(self, lease: Connection) -> None:
        """As long as the lease's connection lives. Raises Unavailable or Conflict where it has to begin again."""
        try:
            async with new_producer(self._settings) as producer:
                sending = await self.begin(lease, producer)
                ACTIVE.set(1)
                measured = 0.0
                while True:
                    if not await sending.step():
                        await asyncio.sleep(self._idle_s)
                    if time.monotonic() - measured > _MEASURE_S:
                        measured = time.monotonic()
                        LAG.set(await self._log.lag(*sending.place))
        except LOST as error:
            raise await unanswered(self._settings, "Kafka does not answer the relay") from error

    async def begin(self, lease: Connection, producer: Any) -> "Sending":
        """From the cursor on. Makes the topic where there is none."""
        settings = self._settings
        async with administering(settings) as admin:
            await make_topic(admin, settings.kafka_topic, settings.kafka_partitions, settings.kafka_replicas)
            count, _ = await partitions_of(admin, settings.kafka_topic)
        if not count:
            raise lost(f"the topic {settings.kafka_topic} is not there yet")
        place = await self._cursor.load(lease)
        partitions = Partitions(producer, settings.kafka_topic, count, place)
        return Sending(self._log, self._cursor, lease, partitions, place, self._batch)


class Partitions:
    """The topic's partitions, with the place of the last message that was sent to each."""

    def __init__(self, producer: Any, topic: str, count: int, start: Place) -> None:
        self._producer = producer
        self._topic = topic
        self._sent: dict[int, Place] = dict.fromkeys(range(count), start)

    async def send(self, records: Sequence[Record]) -> None:
        """Returns when all are acknowledged."""
        batches: dict[int, list[tuple[bytes, bytes, Headers]]] = {}
        for record in records:
            number = partition_of(record.tenant_id, len(self._sent))
            message = (record.tenant_id.encode(), record.payload, headers_of(record, self._sent[number]))
            batches.setdefault(number, []).append(message)
            self._sent[number] = (record.xid, record.seq)
        await self._write(batches)

    async def mark(self, place: Place) -> None:
        """Tells all that everything up to `place` has been sent."""
        messages = {number: [(b"", b"", headers_of_mark(place, sent))] for number, sent in self._sent.items()}
        self._sent = dict.fromkeys(self._sent, place)
        await self._write(messages)

    async def _write(self, batches: dict[int, list[tuple[bytes, bytes, Headers]]]) -> None:
        acknowledgements: list[asyncio.Future[Any]] = []
        for number, messages in batches.items():
            batch = self._producer.create_batch()
            for key, value, headers in messages:
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    acknowledgements.append(await self._producer.send_batch(batch, self._topic, partition=number))
                    batch = self._producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value, headers=headers)
            acknowledgements.append(await self._producer.send_batch(batch, self._topic, partition=number))
        await asyncio.gather(*acknowledgements)


class Sending:
    """A relay's turn."""

    def __init__(
        self, log: PostgresLog, cursor: Cursor, lease: Connection, partitions: "Partitions", start: Place, batch: int
    ) -> None:
        self.place = start
        self._log = log
        self._cursor = cursor
        self._lease = lease
        self._partitions = partitions
        self._batch = batch
        self._marked: Place = (0, 0)
        self._marked_at = 0.0

    async def step(self) -> int:
        """One batch and the cursor, or a mark where one is due; returns how many events were sent."""
        if await self._cursor.load(self._lease) != self.place:
            raise Conflict("the relay's place has been moved")
        records = await self._log.read(*self.place, self._batch)
        if records:
            await self._partitions.send(records)
            end = (records[-1].xid, records[-1].seq)
            async with self._lease.transaction():
                await self._cursor.advance(self._lease, Position(*self.place, *end))
            self.place = end
            RELAYED.inc(len(records))
        quiet_s = time.monotonic() - self._marked_at
        if quiet_s > (_MARK_S if self._marked != self.place else _SILENCE_S):
            await self._partitions.mark(self.place)
            self._marked, self._marked_at = self.place, time.monotonic()
        return len(records)


async def assemble(settings: Settings, host: Host) -> None:
    """The relay on its host, which answers nothing but its health. Raises InvalidArgument where it cannot speak to Kafka."""
    options_of(settings)
    relay = Relay(await host.database(), settings)
    host.background("relay", relay.follow)


async def refill(settings: Settings) -> None:
    """Whoever sends begins again at the start. Readers know what they have handled, and pass over it."""
    database = await connect(settings.database_url, connections=1, service="profiles-relay")
    try:
        async with database.connection() as connection:
            await connection.execute("DELETE FROM profiles.log_cursor WHERE consumer = $1", CONSUMER)
    finally:
        with suppress(Unavailable):
            await database.close()


def main() -> None:
    """Entry point."""
    match sys.argv[1:]:
        case []:
            run("profiles-relay", read(Settings), assemble)
        case ["refill"]:
            settings = read(Settings)
            carry_out("profiles-relay", settings, refill(settings))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
