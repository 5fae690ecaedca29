"""`python -m services.profiles.retain --rejections-days 30`: forgets what is kept for a time only. The log is kept for ever."""

import argparse
from datetime import UTC, datetime, timedelta

from chassis import telemetry
from chassis.db import connect
from chassis.process import carry_out
from services.profiles.settings import Settings
from services.profiles.store.events import EventStore


async def retain(settings: Settings, *, rejections: timedelta) -> int:
    """How many rejections were older than that, and are gone."""
    database = await connect(settings.database_url, connections=1, service="profiles-retain")
    try:
        return await EventStore(database).drop_rejections(datetime.now(UTC) - rejections)
    finally:
        await database.close()


async def _main(settings: Settings, rejections: timedelta) -> None:
    telemetry.logger().info("rejections forgotten", count=await retain(settings, rejections=rejections))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Forgets what is kept for a time only.")
    parser.add_argument("--rejections-days", type=float, default=30.0, help="Days for which refused events can be asked for.")
    days: float = parser.parse_args().rejections_days
    settings = Settings()
    carry_out("profiles", settings, _main(settings, timedelta(days=days)))


if __name__ == "__main__":
    main()
