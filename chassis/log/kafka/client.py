"""The only door to aiokafka, which has no types of its own."""

# pyright: basic

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.structs import TopicPartition

from chassis.errors import InvalidArgument, Reason, Unavailable
from chassis.log.kafka.security import options_of, variable
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
    "unanswered",
]

# What the client raises where the broker is away, or has come back as another.
LOST: Final = (KafkaError, OSError, TimeoutError)
_REQUEST_TIMEOUT_MS: Final = 10_000
_CREATED: Final = (0, 36)  # no error; it exists already
_BATCH_BYTES: Final = 256 * 1024
# The certificate is somebody else's: another name, another address.
_OF_ANOTHER: Final = (62, 64)

# It says several times a second that a broker is away, and nothing that our readers and the relay do not say.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _options(settings: KafkaSettings) -> dict[str, Any]:
    """Raises Unavailable for files that were right at the start and are not now."""
    try:
        return {**options_of(settings), "request_timeout_ms": _REQUEST_TIMEOUT_MS}
    except InvalidArgument as error:
        raise lost(error.message) from None


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


@asynccontextmanager
async def new_producer(settings: KafkaSettings) -> AsyncGenerator[Any]:
    """Acknowledged means by all replicas that are in step; a repeat by the client itself is no second message."""
    producer = AIOKafkaProducer(**_options(settings), acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def administering(settings: KafkaSettings) -> AsyncGenerator[Any]:
    """Raises Unavailable where no broker answers."""
    admin = AIOKafkaAdminClient(**_options(settings))
    try:
        await admin.start()
        yield admin
    except LOST as error:
        raise await unanswered(settings, "Kafka does not answer") from error
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


async def unanswered(settings: KafkaSettings, what: str) -> Unavailable:
    """The same, with the reason where a broker gives one. aiokafka keeps that to its log, so we knock once ourselves."""
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
            why = await _refusal(settings)
    except (TimeoutError, Unavailable):
        why = ""
    return lost(f"{what}: {why}" if why else what)


async def _refusal(settings: KafkaSettings) -> str:
    """What the first broker says that says anything; empty where none does, or one lets us in."""
    options = _options(settings)
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        try:
            connection = await create_conn(host, port, **options)
        except LOST as error:
            if why := _why(settings, error):
                return why
        else:
            connection.close()
            return ""
    return ""


def _why(settings: KafkaSettings, error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError() if error.verify_code in _OF_ANOTHER:
            named = variable(settings, "kafka_brokers")
            return f"the broker's certificate is for another host than {named} names ({error.verify_message})"
        case ssl.SSLCertVerificationError():
            named = variable(settings, "kafka_ca_file")
            return f"the broker's certificate is not trusted: {named} must hold who has signed it ({error.verify_message})"
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            user, password = (variable(settings, field) for field in ("kafka_user", "kafka_password_file"))
            return f"the broker refuses the user or the password of {user} and {password}"
        case UnsupportedSaslMechanismError():
            return f"the broker does not know the mechanism of {variable(settings, 'kafka_sasl_mechanism')}"
        case ssl.SSLError() | ConnectionResetError() | EOFError():  # TLS 1.3 says no more to who is refused
            security, certificate = (variable(settings, field) for field in ("kafka_security", "kafka_certificate_file"))
            return f"the broker ends the connection: where it is up, {security} or {certificate} is not what it wants"
        case _:
            return _why(settings, error.__cause__) if error.__cause__ else ""
