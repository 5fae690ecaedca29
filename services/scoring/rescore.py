"""`python -m services.scoring.rescore`: every tenant's customers scored anew by their champions, so that no score grows old."""

from collections.abc import AsyncIterator
from typing import Final

from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import context, rpc, telemetry
from chassis.db import Database, connect
from chassis.errors import Error
from chassis.log import Cursor
from chassis.outbox import Outbox
from chassis.process import carry_out
from chassis.settings import read
from services.scoring.clients import ProfilesClient
from services.scoring.main import Settings
from services.scoring.models import Models
from services.scoring.store import ScoreStore
from services.scoring.usecases import Scorer

PAGE: Final = 500


async def rescore(settings: Settings) -> int:
    """How many scores were given. What is told waits in the outbox, which the service sends."""
    database = await connect(settings.database_url, connections=2, service="scoring-rescore", everyone=True)
    channel = rpc.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR)
    try:
        return await _rescore(settings, database, ProfilesStub(channel))
    finally:
        await channel.close()
        await database.close()


async def _rescore(settings: Settings, database: Database, stub: ProfilesStub) -> int:
    profiles = ProfilesClient(stub)  # pyright: ignore[reportArgumentType]
    store = ScoreStore(database, Outbox("scoring"), Cursor("scoring", "scoring"))
    models = Models(store, profiles, mlflow_url=settings.mlflow_url, folder=settings.model_folder, most=settings.models_kept)
    await models.look()
    scorer, scored = Scorer(models, profiles, store), 0
    for tenant, model in await store.champions():
        with context.use(tenant=tenant, actor="scoring", request_id=context.new_request_id()):
            try:
                async for refs in _customers(stub):
                    answers = await scorer.score(tenant, model, refs, at=None, version="")
                    scored += sum(answer.score is not None for answer in answers)
            except Error as error:  # one tenant's trouble is not the others'
                telemetry.logger().error("customers could not be scored anew", model=model, detail=error.message)
    return scored


async def _customers(stub: ProfilesStub) -> AsyncIterator[list[str]]:
    """Everybody who has a user id, page by page."""
    token = ""
    while True:
        request = profiles_pb2.ListProfilesRequest(page_size=PAGE, page_token=token, identified_only=True)
        page = await stub.ListProfiles(request, timeout=30.0)  # pyright: ignore
        yield [profile.profile_id for profile in page.profiles]
        if not (token := page.next_page_token):
            return


async def _main(settings: Settings) -> None:
    telemetry.logger().info("customers scored anew", scores=await rescore(settings))


def main() -> None:
    """Entry point."""
    settings = read(Settings)
    carry_out("scoring", settings, _main(settings))


if __name__ == "__main__":
    main()
