"""`python -m chassis.log.replay_dead segmentation`: the service is given once more what it had set aside.

It reads the brokers and the topic from the service's own settings, RAPPORT_<SERVICE>_KAFKA_BROKERS and _KAFKA_TOPIC.
"""

import asyncio
import sys

from chassis.errors import Error
from chassis.log.kafka import dead
from chassis.settings import KafkaSettings, prefix_of, read


async def replay(consumer: str) -> int:
    """How many events. A consumer is named as its service."""

    class Settings(KafkaSettings):
        model_config = prefix_of(consumer)

    return await dead.replay(read(Settings), consumer)


def main() -> None:
    """Entry point."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        count = asyncio.run(replay(sys.argv[1]))
    except Error as error:
        sys.stderr.write(f"rapport: {error.message}.\n")
        sys.exit(2)
    sys.stdout.write(f"{count} events are played again.\n")


if __name__ == "__main__":
    main()
