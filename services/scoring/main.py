"""The process: settings, and what hangs on what."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from prometheus_client import Gauge
from pydantic import Field
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub
from rapport.scoring.v1 import scoring_pb2
from rapport.scoring.v1.scoring_pb2_grpc import add_ScoringServicer_to_server
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis import telemetry
from chassis.errors import Unavailable
from chassis.log import Cursor, reader_of
from chassis.outbox import Outbox
from chassis.process import Host, run
from chassis.settings import ReaderSettings, prefix_of, read
from chassis.subjects import SubjectsRpc
from services.scoring.clients import ProfilesClient
from services.scoring.models import Models
from services.scoring.project import Projector
from services.scoring.rpc import ScoringRpc
from services.scoring.store import ScoreStore
from services.scoring.subjects import OF_PEOPLE
from services.scoring.usecases import Scorer

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub


_FIRST_LOOK_S: Final = 10.0
_MEASURE_S: Final = 60.0

AGES: Final = Gauge(
    "rapport_scoring_latest_scores_ratio", "Share of the latest scores by the time since they were made.", ["age"]
)


class Settings(ReaderSettings):
    """Read from RAPPORT_SCORING_<FIELD>."""

    model_config = prefix_of("scoring")

    profiles_target: str = Field(default="127.0.0.1:8081", description="gRPC target of profiles.")
    mlflow_url: str = Field(default="http://127.0.0.1:8101", description="MLflow's tracking server, where promoted models are.")
    model_folder: Path = Field(
        default=Path(".rapport/models"), description="Where models are kept on disk, so that MLflow may be down."
    )
    models_kept: int = Field(default=64, ge=1, le=10_000, description="Most models in memory, each a few MB.")


async def assemble(settings: Settings, host: Host) -> None:
    """Store, client, models, the servicer, and the tasks beside it: the log's reader, the outbox, the models."""
    database = await host.database()
    outbox, cursor = Outbox("scoring"), Cursor("scoring", "scoring")
    channel = host.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(cast("ProfilesAsyncStub", ProfilesStub(channel)))
    store = ScoreStore(database, outbox, cursor)
    models = Models(store, profiles, mlflow_url=settings.mlflow_url, folder=settings.model_folder, most=settings.models_kept)
    servicer = ScoringRpc(Scorer(models, profiles, store), models, store)
    host.server.add(add_ScoringServicer_to_server, servicer, scoring_pb2.DESCRIPTOR)
    host.server.add(add_SubjectsServicer_to_server, SubjectsRpc(database, OF_PEOPLE), subjects_pb2.DESCRIPTOR)
    await _first_look(models)
    reader = reader_of(settings, database, cursor)
    host.background("project", lambda: reader.follow(Projector(store, models.promoted).handle))
    host.background("outbox", lambda: outbox.send(database, profiles.append_in_company))
    host.background("models", models.follow)
    host.background("ages", lambda: measure(store))


async def measure(store: ScoreStore) -> None:
    """Runs for ever: how old the latest scores are."""
    while True:
        try:
            for age, share in (await store.ages()).shares().items():
                AGES.labels(age).set(share)
        except Unavailable:
            await asyncio.sleep(5)
            continue
        await asyncio.sleep(_MEASURE_S)


async def _first_look(models: Models) -> None:
    """Ready means with the models that were promoted, as far as they are to be had in a few seconds."""
    try:
        async with asyncio.timeout(_FIRST_LOOK_S):
            await models.look()
    except (Unavailable, TimeoutError):
        telemetry.logger().warning("not every champion could be read at the start; the rest follows")


def main() -> None:
    """Entry point."""
    run("scoring", read(Settings), assemble)


if __name__ == "__main__":
    main()
