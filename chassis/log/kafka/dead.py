"""Events that a consumer could not handle: set aside in a topic of its own, and played again when somebody says so."""

from typing import Any, Final

from prometheus_client import Counter

from chassis.errors import NotFound
from chassis.log.kafka.client import (
    LOST,
    TopicPartition,
    administering,
    make_topic,
    new_consumer,
    new_producer,
    partitions_of,
    unanswered,
)
from chassis.log.kafka.topic import again_topic, dead_topic, headers_of
from chassis.log.records import Record
from chassis.settings import KafkaSettings

DEAD: Final = Counter(
    "rapport_log_reader_dead_events_total", "Events that a reader set aside: it could not handle them.", ["consumer"]
)
_POLL_MS: Final = 500


async def bury(settings: KafkaSettings, consumer: str, record: Record, reason: str) -> None:
    """Acknowledged when it returns. `reason` names the kind of error: what it says may be personal. Raises Unavailable."""
    headers = [*headers_of(record, (record.xid, record.seq)), ("consumer", consumer.encode()), ("reason", reason.encode())]
    try:
        async with new_producer(settings) as producer:
            await producer.send_and_wait(
                dead_topic(settings.kafka_topic, consumer), record.payload, partition=0, headers=headers
            )
    except LOST as error:
        raise await unanswered(settings, "Kafka does not answer, so an event cannot be set aside") from error
    DEAD.labels(consumer).inc()


async def replay(settings: KafkaSettings, consumer: str) -> int:
    """Gives the consumer all that it set aside once more; returns how many.

    What it has handled since is left out by the consumer itself, so a replay that dies may be repeated. Raises NotFound
    where the consumer has set nothing aside, Unavailable where Kafka does not answer.
    """
    source, target = dead_topic(settings.kafka_topic, consumer), again_topic(settings.kafka_topic, consumer)
    async with administering(settings) as admin:
        count, replicas = await partitions_of(admin, source)
        if not count:
            raise NotFound(f"there is no topic {source}: no consumer of that name reads Kafka", field="consumer")
        await make_topic(admin, target, 1, replicas)
    partition = TopicPartition(source, 0)
    try:
        async with (
            new_consumer(settings, group=f"rapport.replay.{consumer}") as reader,
            new_producer(settings) as producer,
        ):
            reader.assign([partition])
            return await _copy(reader, producer, partition, target)
    except LOST as error:
        raise await unanswered(settings, "Kafka does not answer, so the replay is not finished") from error


async def _copy(reader: Any, producer: Any, source: TopicPartition, target: str) -> int:
    """Up to the end as it is now: what dies again meanwhile waits for the next replay."""
    end, copied = (await reader.end_offsets([source]))[source], 0
    while (await reader.position(source)) < end:
        for messages in (await reader.getmany(source, timeout_ms=_POLL_MS)).values():
            for message in messages:
                if message.offset < end:
                    await producer.send_and_wait(target, message.value, partition=0, headers=list(message.headers))
                    copied += 1
    await reader.commit({source: end})
    return copied
