"""`python -m services.profiles.retain --rejections-days 30`: forgets what is kept for a time only: what receipts tell of."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis import telemetry
from chassis.db import Database, connect
from chassis.process import carry_out
from chassis.settings import read
from services.profiles.receipts import KEPT, MAX_REJECTIONS
from services.profiles.settings import Settings
from services.profiles.store.plans import PlanStore
from services.profiles.store.quarantine import QuarantineStore
from services.profiles.store.receipts import ReceiptStore


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many went."""

    rejections: int
    repeats: int
    # They waited for so long that nobody will decide; their receipts say so for as long again.
    expired: int


async def forget(database: Database, *, at: datetime, kept: timedelta = KEPT) -> Forgotten:
    """Whatever is older. A rejection that went before its time is told of by `forgotten_through`, never silently gone."""
    receipts, quarantine = ReceiptStore(database), QuarantineStore(database)
    before = at - kept
    rejections = await receipts.forget_refusals(before) + await receipts.prune_refusals(MAX_REJECTIONS)
    repeats = await receipts.forget_repeats(before)
    await quarantine.forget(before)
    expired = await quarantine.expire(before)
    await PlanStore(database).forget_violations(before)
    return Forgotten(rejections, repeats, expired)


async def retain(settings: Settings, *, rejections: timedelta) -> Forgotten:
    """`forget`, as a job."""
    database = await connect(settings.database_url, connections=1, service="profiles-retain", everyone=True)
    try:
        return await forget(database, at=datetime.now(UTC), kept=rejections)
    finally:
        await database.close()


async def _main(settings: Settings, rejections: timedelta) -> None:
    gone = await retain(settings, rejections=rejections)
    telemetry.logger().info("rejections forgotten", count=gone.rejections, repeats=gone.repeats, expired=gone.expired)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Forgets what is kept for a time only.")
    parser.add_argument("--rejections-days", type=float, default=30.0, help="Days for which refused events can be asked for.")
    days: float = parser.parse_args().rejections_days
    settings = read(Settings)
    carry_out("profiles", settings, _main(settings, timedelta(days=days)))


if __name__ == "__main__":
    main()
