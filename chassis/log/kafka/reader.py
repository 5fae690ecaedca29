"""The reader of the log's copy in Kafka. Replicas of a service share the partitions; its places are in its own database.

What has been handled is told by the place of each partition and by nothing else: Kafka's own offsets only save reading. Where
Kafka has lost a stretch, the record after it says so (see topic.py), and the stretch is read from PostgreSQL.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import Counter, Gauge

from chassis import context, telemetry
from chassis.db import Database
from chassis.errors import Conflict, Unavailable
from chassis.log.cursor import Cursor, Places
from chassis.log.kafka.client import (
    LOST,
    IllegalStateError,
    TopicPartition,
    administering,
    lost,
    make_topic,
    new_consumer,
    partitions_of,
    unanswered,
)
from chassis.log.kafka.dead import DEAD, bury
from chassis.log.kafka.topic import Item, again_topic, dead_topic, item_of
from chassis.log.postgres import PostgresLog, count_from_zero, traced
from chassis.log.records import Handle, Move, Place, Position, Record, partition_of
from chassis.settings import KafkaSettings

REFETCHED: Final = Counter(
    "rapport_log_reader_refetched_events_total", "Events that Kafka did not have and PostgreSQL did.", ["consumer"]
)
CONNECTED: Final = Gauge("rapport_log_reader_broker_up", "1 while Kafka answers this reader, else 0.", ["consumer"])

TRIES: Final = 3
# So many events that fail in a row are no fault of theirs: nothing more is set aside, and the reader stands still.
MOST_DEAD_IN_A_ROW: Final = 10
_COMMIT_S: Final = 1.0
_MEASURE_S: Final = 5.0
_PROBE_S: Final = 3.0
_POLL_MS: Final = 200

Polled = Mapping[TopicPartition, Sequence[Any]]


@dataclass(slots=True)
class _Batch:
    """What is to be handled at once, and where that leads."""

    records: list[Record] = field(default_factory=list[Record])
    ends: dict[int, Place] = field(default_factory=dict[int, Place])
    # Partitions whose messages wait until what Kafka lost before them has been handled, with the first one's offset.
    waiting: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])


class KafkaReader:
    """Follows the log for one consumer and hands its rows on in batches, of some partitions at a time."""

    def __init__(self, database: Database, cursor: Cursor, settings: KafkaSettings, *, batch: int = 500) -> None:
        self._database = database
        self._log = PostgresLog(database)
        self._cursor = cursor
        self._settings = settings
        self._batch = batch
        self._again = again_topic(settings.kafka_topic, cursor.consumer)
        self._partitions = 0
        self._consumer: Any = None
        self._offsets: dict[TopicPartition, int] = {}
        self._committed = 0.0
        self._failures = 0
        self._dead_in_a_row = 0
        self._said = ""
        CONNECTED.labels(cursor.consumer).set(0)
        count_from_zero(cursor.consumer)
        for metric in (REFETCHED, DEAD):
            metric.labels(cursor.consumer)

    async def follow(self, handle: Handle) -> None:
        """Runs for ever. `handle(records, position)` saves its work and calls `cursor.advance` in one transaction."""
        seen = 0.0
        try:
            while True:
                with context.everyone(), context.use(request_id=context.new_request_id()):
                    failed = await self._attempt(handle)
                if time.monotonic() - seen > _MEASURE_S:
                    seen = time.monotonic()
                    await self._measure()
                if failed:
                    await asyncio.sleep(1.0)
        finally:
            await self.close()

    async def _attempt(self, handle: Handle) -> bool:
        """Whether it failed."""
        try:
            await self.step(handle)
        except (Conflict, Unavailable):
            return True
        except Exception:
            telemetry.LOG_FAILURES.labels(self._cursor.consumer).inc()
            telemetry.logger().error(
                "a batch of the log failed and is tried again", consumer=self._cursor.consumer, exc_info=True
            )
            return True
        return False

    async def step(self, handle: Handle) -> int:
        """What is there, at most one batch; returns how many rows were handled. Raises Unavailable where Kafka is gone."""
        try:
            consumer = self._consumer or await self._join()
            polled = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self._batch)
        except LOST as error:
            gone = await unanswered(self._settings, "Kafka does not answer")
            await self._lose(gone)
            raise gone from error
        except Unavailable as error:
            await self._lose(error)
            raise
        try:
            handled = await self._take(handle, polled)
        except BaseException:
            self._rewind({each: messages[0].offset for each, messages in polled.items()})
            raise
        await self._commit()
        return handled

    async def lag(self) -> int:
        """How many rows of PostgreSQL's log wait, those counted that the relay has not sent."""
        with context.everyone():
            async with self._database.connection() as connection:
                place = await self._cursor.load(connection)
            return await self._log.lag(*place)

    async def close(self) -> None:
        """Gives its partitions to the others at once."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await self._commit_on(consumer)
            with suppress(*LOST):
                await consumer.stop()

    async def _join(self) -> Any:
        topic, name = self._settings.kafka_topic, self._cursor.consumer
        async with administering(self._settings) as admin:
            self._partitions, replicas = await partitions_of(admin, topic)
            if not self._partitions:
                raise lost(f"there is no topic {topic} yet: the relay makes it")
            for other in (dead_topic(topic, name), self._again):
                await make_topic(admin, other, 1, replicas)
        consumer = new_consumer(self._settings, topic, self._again, group=f"rapport.{name}")
        await consumer.start()
        self._consumer = consumer
        self._connected()
        return consumer

    def _connected(self) -> None:
        self._said = ""
        CONNECTED.labels(self._cursor.consumer).set(1)

    def _disconnected(self, error: Unavailable) -> None:
        """Said once as long as it stays the same."""
        CONNECTED.labels(self._cursor.consumer).set(0)
        if self._said != error.message:
            self._said = error.message
            telemetry.logger().warning(
                "Kafka does not answer the log's reader", consumer=self._cursor.consumer, detail=error.message
            )

    async def _lose(self, error: Unavailable) -> None:
        self._disconnected(error)
        await self.close()

    async def _take(self, handle: Handle, polled: Polled) -> int:
        if not polled:
            return 0
        async with self._database.connection() as connection:
            places = await self._cursor.places(connection)
            if len(places.partitions) != self._partitions:
                places = await self._cursor.split(connection, self._partitions)
        batch = _Batch()
        for partition, messages in polled.items():
            if partition.topic != self._again:
                await self._gather(batch, places, partition, messages)
        if batch.ends:
            await self._handle(handle, batch, places)
        again = [message for each, messages in polled.items() if each.topic == self._again for message in messages]
        replayed = sum([await self._handle_again(handle, item_of(message).record) for message in again])
        self._offsets |= {each: messages[-1].offset + 1 for each, messages in polled.items() if each not in batch.waiting}
        self._rewind(batch.waiting)
        return len(batch.records) + replayed

    async def _gather(self, batch: _Batch, places: Places, partition: TopicPartition, messages: Sequence[Any]) -> None:
        """What of the messages is new. The relay may have sent a stretch twice; Kafka may have lost one."""
        number = partition.partition
        start = place = places.of(number)
        for message in messages:
            item = item_of(message)
            if item.place <= place:
                continue
            if item.after > place:
                place = await self._refetch(batch, number, place, item.after)
                if place < item.after:
                    batch.waiting[partition] = message.offset
                    break
            _add(batch, item)
            place = item.place
        if place > start:
            batch.ends[number] = place

    async def _refetch(self, batch: _Batch, number: int, start: Place, end: Place) -> Place:
        """A step of the way from `start` to `end`, from PostgreSQL; returns how far it led."""
        rows = await self._log.read(*start, self._batch)
        reached = (rows[-1].xid, rows[-1].seq) if len(rows) == self._batch else end
        lost_ones = [
            row for row in rows if (row.xid, row.seq) <= end and partition_of(row.tenant_id, self._partitions) == number
        ]
        batch.records += lost_ones
        REFETCHED.labels(self._cursor.consumer).inc(len(lost_ones))
        return min(reached, end)

    async def _handle(self, handle: Handle, batch: _Batch, places: Places) -> None:
        """All at once; after some failures one by one, and what fails then is set aside."""
        position = _position(places, batch.ends)
        if not batch.records:
            await self._advance(position)
            return
        try:
            await self._run(handle, batch.records, position)
        except (Conflict, Unavailable):
            raise
        except Exception:
            self._failures += 1
            if self._failures < TRIES:
                raise
            await self._one_by_one(handle, batch, places)
        self._failures = 0

    async def _run(self, handle: Handle, records: Sequence[Record], position: Position) -> None:
        with traced(self._cursor.consumer, records):
            await handle(records, position)
        telemetry.LOG_HANDLED.labels(self._cursor.consumer).inc(len(records))

    async def _one_by_one(self, handle: Handle, batch: _Batch, places: Places) -> None:
        for record in batch.records:
            ends = {partition_of(record.tenant_id, self._partitions): (record.xid, record.seq)}
            position = _position(places, ends)
            if not await self._survives(handle, record, position):
                await self._advance(position)
            places = Places(places.own, {**places.partitions, **ends})
        rest = {number: end for number, end in batch.ends.items() if end > places.partitions[number]}
        if rest:  # marks came last
            await self._advance(_position(places, rest))

    async def _survives(self, handle: Handle, record: Record, position: Position) -> bool:
        """False: it has been set aside. Raises its error where too many have been."""
        for attempt in range(1, TRIES + 1):
            try:
                await self._run(handle, [record], position)
            except (Conflict, Unavailable):
                raise
            except Exception as error:
                telemetry.LOG_FAILURES.labels(self._cursor.consumer).inc()
                if attempt < TRIES:
                    await asyncio.sleep(0.1 * attempt)
                    continue
                if self._dead_in_a_row >= MOST_DEAD_IN_A_ROW:
                    raise
                await self._bury(record, error)
                return False
            self._dead_in_a_row = 0
            return True
        raise AssertionError("unreachable")

    async def _bury(self, record: Record, error: Exception) -> None:
        await bury(self._settings, self._cursor.consumer, record, type(error).__name__)
        self._dead_in_a_row += 1
        telemetry.logger().error(
            "an event was set aside",
            consumer=self._cursor.consumer,
            tenant=record.tenant_id,
            xid=record.xid,
            seq=record.seq,
            error=type(error).__name__,
        )

    async def _handle_again(self, handle: Handle, record: Record | None) -> int:
        """How many: none where it has been handled since."""
        if record is None:
            return 0
        place = (record.xid, record.seq)
        async with self._database.connection() as connection:
            if await self._cursor.was_replayed(connection, place):
                return 0
        return int(await self._survives(handle, record, Position(*place, *place, again=place)))

    async def _advance(self, position: Position) -> None:
        async with self._database.transaction() as connection:
            await self._cursor.advance(connection, position)

    def _rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """What was not handled is read again, unless the partition is somebody else's by now."""
        for partition, offset in offsets.items():
            if self._consumer is not None:
                with suppress(IllegalStateError):
                    self._consumer.seek(partition, offset)

    async def _commit(self) -> None:
        if self._consumer is not None and time.monotonic() - self._committed > _COMMIT_S:
            self._committed = time.monotonic()
            await self._commit_on(self._consumer)

    async def _commit_on(self, consumer: Any) -> None:
        """For the next one who gets these partitions, to begin near the place; a loss of it loses nothing."""
        offsets, self._offsets = self._offsets, {}
        mine = {each: offset for each, offset in offsets.items() if each in consumer.assignment()}
        if mine:
            with suppress(*LOST):
                async with asyncio.timeout(_PROBE_S):
                    await consumer.commit(mine)

    async def _measure(self) -> None:
        with suppress(Unavailable):  # counted where it was raised; the next round tries again
            telemetry.LOG_LAG.labels(self._cursor.consumer).set(await self.lag())
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._consumer.end_offsets([TopicPartition(self._settings.kafka_topic, 0)])
            self._connected()
        except LOST:
            self._disconnected(await unanswered(self._settings, "Kafka does not answer"))


def _add(batch: _Batch, item: Item) -> None:
    if item.record is not None:
        batch.records.append(item.record)


def _position(places: Places, ends: Mapping[int, Place]) -> Position:
    moves = [Move(number, places.partitions[number], end) for number, end in sorted(ends.items())]
    return Position(*places.own, *places.own, moves=moves)
