"""The process: settings, and what hangs on what."""

from typing import TYPE_CHECKING, cast

from pydantic import Field
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub
from rapport.recommendation.v1 import recommendation_pb2
from rapport.recommendation.v1.recommendation_pb2_grpc import add_RecommendationServicer_to_server
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis.log import Cursor, reader_of
from chassis.outbox import Outbox
from chassis.process import Host, run
from chassis.settings import ReaderSettings, prefix_of, read
from chassis.subjects import SubjectsRpc
from services.recommendation.clients import ProfilesClient
from services.recommendation.domain.actions import Measure
from services.recommendation.models import Models
from services.recommendation.project import Projector
from services.recommendation.rpc import RecommendationRpc
from services.recommendation.store.customers import CustomerStore
from services.recommendation.store.projection import ProjectionStore
from services.recommendation.store.purchases import PurchaseStore
from services.recommendation.subjects import OF_PEOPLE
from services.recommendation.usecases import Recommender

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub


class Settings(ReaderSettings):
    """Read from RAPPORT_RECOMMENDATION_<FIELD>."""

    model_config = prefix_of("recommendation")

    profiles_target: str = Field(default="127.0.0.1:8081", description="gRPC target of profiles.")
    models_kept: int = Field(default=16, ge=1, le=1000, description="Most models in memory, each a few MB.")
    offer_cost: float = Field(default=5.0, ge=0, description="Cost of an offer, in the shop's currency. Assumed.")
    offer_retention: float = Field(
        default=0.05, ge=0, le=1, description="Share of leavers that an offer keeps. Assumed: no experiment has concluded."
    )
    call_cost: float = Field(default=20.0, ge=0, description="Cost of a personal call, in the shop's currency. Assumed.")
    call_retention: float = Field(
        default=0.1, ge=0, le=1, description="Share of leavers that a call keeps. Assumed: no experiment has concluded."
    )


async def assemble(settings: Settings, host: Host) -> None:
    """Stores, models, the servicer, and the tasks beside it: the log's reader, the outbox, the models' renewal."""
    database = await host.database()
    outbox, cursor = Outbox("recommendation"), Cursor("recommendation", "recommendation")
    channel = host.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(cast("ProfilesAsyncStub", ProfilesStub(channel)))
    models = Models(PurchaseStore(database), most=settings.models_kept)
    customers = CustomerStore(database, outbox)
    recommender = Recommender(models, customers, measures_of(settings))
    servicer = RecommendationRpc(recommender, models, customers)
    host.server.add(add_RecommendationServicer_to_server, servicer, recommendation_pb2.DESCRIPTOR)
    host.server.add(add_SubjectsServicer_to_server, SubjectsRpc(database, OF_PEOPLE), subjects_pb2.DESCRIPTOR)
    projector = Projector(ProjectionStore(database, cursor))
    reader = reader_of(settings, database, cursor)
    host.background("project", lambda: reader.follow(projector.handle))
    host.background("outbox", lambda: outbox.send(database, profiles.append))
    host.background("renew", models.renew)


def measures_of(settings: Settings) -> tuple[Measure, ...]:
    """What can be done about a customer, besides nothing."""
    return (
        Measure("offer", settings.offer_cost, settings.offer_retention),
        Measure("call", settings.call_cost, settings.call_retention),
    )


def main() -> None:
    """Entry point."""
    run("recommendation", read(Settings), assemble)


if __name__ == "__main__":
    main()
