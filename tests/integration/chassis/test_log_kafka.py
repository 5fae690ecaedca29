"""What only the log in Kafka has: replicas that share it, a relay and a broker that die, a topic that is emptied."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from prometheus_client import REGISTRY

from chassis.errors import Conflict, InvalidArgument, Reason, Unavailable
from chassis.log import Cursor, Position, Reader, Record, Repartitioned, partition_of, reader_of
from chassis.log.kafka.client import TopicPartition, administering, new_producer
from chassis.log.kafka.dead import replay
from chassis.log.kafka.reader import MOST_DEAD_IN_A_ROW
from chassis.settings import ReaderSettings
from infra.kafka import Broker
from infra.ports import free_port
from services.profiles.relay import refill
from services.profiles.settings import Settings
from tests.integration.chassis.logs import CURSOR, KafkaWorld, process, running, until

TENANTS = [f"tenant-{number}" for number in range(8)]


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"rapport_log_reader_{name}", {"consumer": "test"}) or 0.0


def expected(*numbers: int) -> list[tuple[str, bytes]]:
    return sorted((tenant, b"%d" % number) for tenant in TENANTS for number in numbers)


async def write(world: KafkaWorld, *numbers: int) -> None:
    for tenant in TENANTS:
        await world.write(*(b"%d" % number for number in numbers), tenant=tenant)


async def in_order(world: KafkaWorld) -> bool:
    """Of each tenant."""
    done = await world.effects()
    return all(
        payloads == sorted(payloads, key=int)
        for payloads in ([payload for its, payload in done if its == tenant] for tenant in TENANTS)
    )


def test_partitions_of_tenants_are_what_they_were() -> None:
    """The places in the tables of those who read are by partition: another function would skip events."""
    assert [partition_of(tenant, 12) for tenant in ("shop", "t", "", "店")] == [6, 8, 0, 4]


def test_a_service_that_is_told_nothing_follows_postgres() -> None:
    assert isinstance(reader_of(ReaderSettings(), None, CURSOR), Reader)  # pyright: ignore[reportArgumentType]


def test_kafka_without_brokers_is_refused_in_words() -> None:
    with pytest.raises(InvalidArgument, match="no brokers are named") as refused:
        reader_of(ReaderSettings(log="kafka"), None, CURSOR)  # pyright: ignore[reportArgumentType]
    assert (refused.value.reason, refused.value.field) == (Reason.MISSING_FIELD, "kafka_brokers")


async def test_two_replicas_share_the_partitions_and_one_takes_over_when_the_other_is_killed(
    kafka: KafkaWorld, tmp_path: Path
) -> None:
    settings = {
        "REPLICA_DSN": kafka.dsn,
        "REPLICA_BROKERS": kafka.settings.kafka_brokers,
        "REPLICA_TOPIC": kafka.settings.kafka_topic,
    }
    command = "tests.integration.chassis.replica"

    async def both_work() -> bool:
        await write(kafka, next(numbers))
        return bool(await kafka.effects("by one")) and bool(await kafka.effects("by two"))

    async def all_is_done() -> bool:
        return len(await kafka.effects()) >= len(TENANTS) * written

    numbers = iter(range(10_000))
    async with process(tmp_path, command, "one", **settings) as one, process(tmp_path, command, "two", **settings):
        await until(both_work)
        one.send_signal(signal.SIGKILL)
        await write(kafka, *(next(numbers) for _ in range(50)))
        written = next(numbers)
        await until(all_is_done)
    assert sorted(await kafka.effects()) == expected(*range(written)), "none is lost and none is done twice"
    assert await in_order(kafka)


async def test_a_relay_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(
    kafka_alone: KafkaWorld, tmp_path: Path
) -> None:
    world = kafka_alone
    environment = {
        "RAPPORT_PROFILES_DATABASE_URL": world.dsn,
        "RAPPORT_PROFILES_KAFKA_BROKERS": world.settings.kafka_brokers,
        "RAPPORT_PROFILES_KAFKA_TOPIC": world.settings.kafka_topic,
        "RAPPORT_PROFILES_KAFKA_PARTITIONS": "4",
    }

    async def has_begun() -> bool:
        async with world.database.connection() as connection:
            return await Cursor("profiles", "relay").load(connection) > before

    before = (0, 0)
    for each in range(3):
        await write(world, *range(each * 100, each * 100 + 100))
        async with process(tmp_path, "services.profiles.relay", **environment):
            await until(has_begun)
        async with world.database.transaction() as connection:  # as if it had been killed before its last commit
            await connection.execute("UPDATE profiles.log_cursor SET xid = '3', seq = 0 WHERE consumer = 'relay'")
        before = (3, 0)
    async with process(tmp_path, "services.profiles.relay", **environment):
        await until(has_begun)
        await world.read_all()
    assert sorted(await world.effects()) == expected(*range(300))
    assert await in_order(world)


async def test_of_two_relays_one_waits_for_the_other_s_end(kafka: KafkaWorld) -> None:
    async with running(kafka.relay().follow):
        await write(kafka, 0)
        await kafka.read_all()
        async with kafka.database.connection() as connection:
            held = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        assert held == 1
    assert sorted(await kafka.effects()) == expected(0)


async def test_kafka_is_emptied_and_filled_again_under_a_reader_that_runs(kafka: KafkaWorld) -> None:
    async def all_is_done() -> bool:
        return await reader.lag() == 0

    reader = kafka.reader()
    async with running(lambda: reader.follow(kafka.handle)):
        await write(kafka, *range(20))
        await until(all_is_done)
        async with administering(kafka.settings) as admin:
            await admin.delete_topics([kafka.settings.kafka_topic])
        await write(kafka, *range(20, 40))
        await refill(kafka.settings.model_copy(update={"database_url": kafka.dsn}))
        await until(all_is_done)
        await write(kafka, *range(40, 60))
        await until(all_is_done)
    assert sorted(await kafka.effects()) == expected(*range(60))
    assert await in_order(kafka)


async def test_what_kafka_has_lost_is_read_from_postgres(kafka: KafkaWorld) -> None:
    """Its retention deletes what nobody has read yet, as far as the reader is behind."""
    await write(kafka, 0)
    await kafka.read_all()
    await kafka.close()
    await write(kafka, *range(1, 30))
    async with kafka.database.connection() as connection:
        end = await connection.fetchrow("SELECT xid::text, seq FROM log.events ORDER BY events.xid DESC, seq DESC LIMIT 1")
    assert end is not None

    async def is_relayed() -> bool:
        async with kafka.database.connection() as connection:
            return await Cursor("profiles", "relay").load(connection) >= (int(end[0]), end[1])

    await until(is_relayed)
    await _delete_all(kafka)
    before = metric("refetched_events_total")
    await write(kafka, 30)
    await kafka.read_all(batch=10)
    assert sorted(await kafka.effects()) == expected(*range(31))
    assert await in_order(kafka)
    assert metric("refetched_events_total") - before >= len(TENANTS) * 29


async def _delete_all(world: KafkaWorld) -> None:
    async with administering(world.settings) as admin:
        assert isinstance(admin, AIOKafkaAdminClient)
        partitions = [TopicPartition(world.settings.kafka_topic, number) for number in range(4)]
        await admin.delete_records({each: RecordsToDelete(before_offset=-1) for each in partitions})


async def test_a_service_goes_to_kafka_and_back_and_to_kafka_again(kafka: KafkaWorld) -> None:
    async def from_postgres() -> None:
        reader = Reader(kafka.database, CURSOR, batch=7)
        while await reader.step(kafka.handle):
            pass

    await write(kafka, *range(5))
    await from_postgres()
    await write(kafka, *range(5, 10))
    await kafka.read_all()
    await write(kafka, *range(10, 15))
    await from_postgres()
    async with kafka.database.connection() as connection:
        assert (await CURSOR.places(connection)).partitions == {}, "the way back is over"
    await write(kafka, *range(15, 20))
    await kafka.read_all()
    assert sorted(await kafka.effects()) == expected(*range(20))
    assert await in_order(kafka)


async def test_replicas_of_both_kinds_side_by_side_do_each_event_once(kafka: KafkaWorld) -> None:
    """A rolling update from one log to the other."""
    postgres, second = Reader(kafka.database, CURSOR, batch=3, idle_s=0.01), kafka.reader(batch=5)

    async def all_is_done() -> bool:
        return len(await kafka.effects()) >= len(TENANTS) * 60

    async with running(lambda: postgres.follow(kafka.handle)), running(lambda: second.follow(kafka.handle)):
        for number in range(60):
            await write(kafka, number)
            await asyncio.sleep(0.02)
        await until(all_is_done)
    assert sorted(await kafka.effects()) == expected(*range(60))
    assert await in_order(kafka)


async def test_another_number_of_partitions_is_refused_in_words(kafka: KafkaWorld) -> None:
    async with kafka.database.connection() as connection:
        await CURSOR.split(connection, 3)
    await write(kafka, 0)
    reader = kafka.reader()

    async def read() -> None:
        while True:
            await reader.step(kafka.handle)

    with pytest.raises(Repartitioned, match="the topic has 4 partitions, and test has read 3: let it follow PostgreSQL"):
        await read()


async def test_an_event_that_cannot_be_handled_is_set_aside_and_played_again(kafka: KafkaWorld) -> None:
    spoilt = True

    async def handle(records: Sequence[Record], position: Position) -> None:
        if spoilt and any(record.payload == b"3" and record.tenant_id == "tenant-1" for record in records):
            raise ValueError("ada@example.com cannot be handled")
        await kafka.handle(records, position)

    async def the_rest_is_done() -> bool:
        return len(await kafka.effects()) == len(TENANTS) * 6 - 1

    async def all_is_done() -> bool:
        return len(await kafka.effects()) == len(TENANTS) * 6

    dead = metric("dead_events_total")
    reader = kafka.reader(batch=10)
    async with running(lambda: reader.follow(handle)):
        await write(kafka, *range(6))
        await until(the_rest_is_done)
        assert metric("dead_events_total") == dead + 1
        assert "ada" not in repr(await _dead_letters(kafka))
        spoilt = False
        assert await replay(kafka.settings, "test") == 1
        await until(all_is_done)
        assert await replay(kafka.settings, "test") == 0
    # A replay that was not noted, and is done again: what has been handled is left alone.
    [(value, headers)] = await _dead_letters(kafka)
    async with new_producer(kafka.settings) as producer:
        await producer.send_and_wait(f"{kafka.settings.kafka_topic}.again.test", value, partition=0, headers=headers)
    async with running(lambda: kafka.reader().follow(handle)):
        await asyncio.sleep(3)
    assert sorted(await kafka.effects()) == expected(*range(6))


async def _dead_letters(world: KafkaWorld) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    from aiokafka import AIOKafkaConsumer

    partition = TopicPartition(f"{world.settings.kafka_topic}.dead.test", 0)
    async with AIOKafkaConsumer(bootstrap_servers=world.settings.kafka_brokers, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        found = await consumer.getmany(timeout_ms=5_000)
    return [(message.value or b"", list(message.headers)) for message in found.get(partition, [])]


async def test_where_nothing_can_be_handled_the_reader_stands_still(kafka: KafkaWorld) -> None:
    """The fault is not the events': they stay where they are."""

    async def handle(records: Sequence[Record], position: Position) -> None:
        raise RuntimeError("a bug")

    dead = metric("dead_events_total")
    await write(kafka, *range(3))
    reader = kafka.reader()
    for _ in range(400):
        with suppress(RuntimeError, Conflict):
            await reader.step(handle)
        if metric("dead_events_total") - dead >= MOST_DEAD_IN_A_ROW:
            break
    for _ in range(6):
        with suppress(RuntimeError, Conflict):
            await reader.step(handle)
    assert metric("dead_events_total") - dead == MOST_DEAD_IN_A_ROW
    await kafka.close()
    await kafka.read_all()
    assert len(await kafka.effects()) == len(TENANTS) * 3 - MOST_DEAD_IN_A_ROW


async def test_readers_and_relay_wait_for_a_broker_that_dies_and_go_on(broker: Broker, kafka: KafkaWorld) -> None:
    async def all_is_done() -> bool:
        return len(await kafka.effects()) >= len(TENANTS) * written

    async def nothing_waits() -> bool:
        return await reader.lag() == 0

    async def is_said_to_be_gone() -> bool:
        return metric("broker_up") == 0

    reader = kafka.reader()
    async with running(lambda: reader.follow(kafka.handle)):
        written = 10
        await write(kafka, *range(10))
        await until(nothing_waits)
        assert metric("broker_up") == 1
        await broker.kill()
        try:
            await write(kafka, *range(10, 20))
            await until(is_said_to_be_gone)
            assert await reader.lag() == len(TENANTS) * 10, "the service itself stands, and says how far it is behind"
        finally:
            await broker.start()
        written = 20
        await until(all_is_done)
    assert sorted(await kafka.effects()) == expected(*range(20))
    assert await in_order(kafka)


async def test_a_reader_that_starts_without_a_broker_says_so(kafka_alone: KafkaWorld) -> None:
    nowhere = Settings(kafka_brokers=f"127.0.0.1:{free_port()}", kafka_topic="nowhere")
    world = KafkaWorld(kafka_alone.database, kafka_alone.dsn, settings=nowhere)
    with pytest.raises(Unavailable, match="Kafka does not answer"):
        await world.reader().step(world.handle)
