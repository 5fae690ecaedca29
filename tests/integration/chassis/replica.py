"""A replica of a service that follows Kafka, as a process of its own: python -m tests.integration.chassis.replica <its name>.

Reads REPLICA_DSN, REPLICA_BROKERS and REPLICA_TOPIC. What it handles is in reading.effects, under its consumer.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from chassis.db import connect
from chassis.log import Cursor, Position, Record
from chassis.log.kafka.reader import KafkaReader
from chassis.settings import KafkaSettings
from tests.integration.chassis.logs import CURSOR, effects


async def _run(name: str) -> None:
    database = await connect(os.environ["REPLICA_DSN"], connections=3)
    settings = KafkaSettings(kafka_brokers=os.environ["REPLICA_BROKERS"], kafka_topic=os.environ["REPLICA_TOPIC"])
    work = effects(database)

    async def handle(records: Sequence[Record], position: Position) -> None:
        await work(records, position)
        async with database.connection() as connection:  # who did it, for the test to see that they share
            await connection.execute("INSERT INTO reading.effects (consumer, payload) VALUES ($1, '')", f"by {name}")

    await KafkaReader(database, Cursor("reading", CURSOR.consumer), settings, batch=5).follow(handle)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
