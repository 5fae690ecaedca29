"""The only door to aiokafka, which has no types of its own."""

# pyright: basic

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from chassis.errors import Reason, Unavailable
from chassis.settings import KafkaSettings

__all__ = [
    "LOST",
    "IllegalStateError",
    "TopicPartition",
    "administering",
    "lost",
    "make_topic",
    "new_consumer",
    "new_producer",
    "partitions_of",
]

# What the client raises where the broker is away, or has come back as another.
LOST: Final = (KafkaError, OSError, TimeoutError)
_REQUEST_TIMEOUT_MS: Final = 10_000
_CREATED: Final = (0, 36)  # no error; it exists already
_BATCH_BYTES: Final = 256 * 1024

# It says several times a second that a broker is away, and nothing that our readers and the relay do not say.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _options(settings: KafkaSettings) -> dict[str, Any]:
    return {"bootstrap_servers": settings.kafka_brokers.split(","), "request_timeout_ms": _REQUEST_TIMEOUT_MS}


def new_consumer(settings: KafkaSettings, *topics: str, group: str) -> Any:
    """Of a group, from the oldest message on where the group has no offset."""
    return AIOKafkaConsumer(
        *topics,
        **_options(settings),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        metadata_max_age_ms=30_000,
    )


def new_producer(settings: KafkaSettings) -> Any:
    """Acknowledged means by all replicas that are in step; a repeat by the client itself is no second message."""
    return AIOKafkaProducer(**_options(settings), acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES)


@asynccontextmanager
async def administering(settings: KafkaSettings) -> AsyncGenerator[Any]:
    """Raises Unavailable where no broker answers."""
    admin = AIOKafkaAdminClient(**_options(settings))
    try:
        await admin.start()
        yield admin
    except LOST as error:
        raise lost("Kafka does not answer") from error
    finally:
        await admin.close()


async def partitions_of(admin: Any, topic: str) -> tuple[int, int]:
    """(partitions, replicas of each); zeros where there is no such topic."""
    for each in await admin.describe_topics():
        if each["topic"] == topic and each["partitions"]:
            return len(each["partitions"]), len(each["partitions"][0]["replicas"])
    return 0, 0


async def make_topic(admin: Any, topic: str, partitions: int, replicas: int) -> None:
    """Leaves one alone that is there. Raises Unavailable where Kafka refuses."""
    if topic in await admin.list_topics():
        return
    answer = await admin.create_topics([NewTopic(topic, partitions, replicas)], timeout_ms=_REQUEST_TIMEOUT_MS)
    for _, code, *_ in answer.topic_errors:
        if code not in _CREATED:
            raise lost(f"Kafka does not make the topic {topic}: its error {code}")


def lost(message: str) -> Unavailable:
    """The broker is gone, or refuses."""
    return Unavailable(message, reason=Reason.SERVICE_UNAVAILABLE, retry_after_s=1.0)
