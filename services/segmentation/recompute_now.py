"""`python -m services.segmentation.recompute_now`: what the timer does when an interval is over, for all tenants at once."""

from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import rpc, telemetry
from chassis.db import connect
from chassis.outbox import Outbox
from chassis.process import carry_out
from chassis.settings import read
from services.segmentation.clients import ProfilesClient
from services.segmentation.main import Settings
from services.segmentation.recompute import Timer
from services.segmentation.store import EvaluationStore
from services.segmentation.usecases import Memberships


async def recompute(settings: Settings) -> int:
    """How many tenants were recomputed. What changed waits in the outbox, which the service sends."""
    database = await connect(settings.database_url, connections=2, service="segmentation-recompute", everyone=True)
    channel = rpc.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR)
    try:
        profiles = ProfilesClient(ProfilesStub(channel))  # pyright: ignore[reportArgumentType]
        evaluations = EvaluationStore(database, Outbox("segmentation"))
        memberships = Memberships(evaluations, profiles)
        return await Timer(evaluations, profiles, memberships, interval_s=0, pause_s=0, calm_s=0).step()
    finally:
        await channel.close()
        await database.close()


async def _main(settings: Settings) -> None:
    telemetry.logger().info("memberships recomputed", tenants=await recompute(settings))


def main() -> None:
    """Entry point."""
    settings = read(Settings)
    carry_out("segmentation", settings, _main(settings))


if __name__ == "__main__":
    main()
