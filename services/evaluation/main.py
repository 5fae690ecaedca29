"""The process: settings, and what hangs on what."""

from typing import TYPE_CHECKING, cast

from pydantic import Field
from rapport.evaluation.v1 import evaluation_pb2
from rapport.evaluation.v1.evaluation_pb2_grpc import add_EvaluationServicer_to_server
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis.errors import Reason
from chassis.log import Cursor, reader_of
from chassis.outbox import Outbox
from chassis.process import Host, run
from chassis.settings import ReaderSettings, prefix_of, read
from chassis.subjects import SubjectsRpc
from services.evaluation.clients.http import JsonStore, neighbour
from services.evaluation.clients.metrics import Metrics
from services.evaluation.clients.profiles import ProfilesClient
from services.evaluation.clients.registry import Registry
from services.evaluation.project import Projector
from services.evaluation.rpc import EvaluationRpc
from services.evaluation.store.experiments import ExperimentStore
from services.evaluation.store.models import EvaluationStore, PromotionStore
from services.evaluation.store.projection import ProjectionStore
from services.evaluation.subjects import OF_PEOPLE
from services.evaluation.usecases import Aligner

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub


class Settings(ReaderSettings):
    """Read from RAPPORT_EVALUATION_<FIELD>."""

    model_config = prefix_of("evaluation")

    profiles_target: str = Field(default="127.0.0.1:8081", description="gRPC target of profiles.")
    mlflow_url: str = Field(
        default="http://127.0.0.1:8101", description="MLflow's tracking server, which holds the model registry."
    )
    mlflow_timeout_s: float = Field(default=3.0, gt=0, le=60, description="Seconds that MLflow has for one answer.")
    prometheus_url: str = Field(default="", description="Prometheus, for verdicts on rollouts; empty: there is none.")
    prometheus_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Seconds that Prometheus has for one answer.")


async def assemble(settings: Settings, host: Host) -> None:
    """Stores, clients, the servicer, and the tasks beside it: the log's reader, the outbox, the aliases."""
    database = await host.database()
    outbox, cursor = Outbox("evaluation"), Cursor("evaluation", "evaluation")
    channel = host.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(cast("ProfilesAsyncStub", ProfilesStub(channel)))
    registry = await _registry(settings, host)
    promotions = PromotionStore(database, outbox)
    projection = ProjectionStore(database, cursor)
    aligner = Aligner(promotions, registry)
    servicer = EvaluationRpc(
        experiment_store=ExperimentStore(database, outbox),
        evaluation_store=EvaluationStore(database),
        promotion_store=promotions,
        projection=projection,
        profiles=profiles,
        registry=registry,
        aligner=aligner,
        metrics=await _metrics(settings, host),
    )
    host.server.add(add_EvaluationServicer_to_server, servicer, evaluation_pb2.DESCRIPTOR)
    host.server.add(add_SubjectsServicer_to_server, SubjectsRpc(database, OF_PEOPLE), subjects_pb2.DESCRIPTOR)
    reader = reader_of(settings, database, cursor)
    host.background("project", lambda: reader.follow(Projector(projection).handle))
    host.background("outbox", lambda: outbox.send(database, profiles.append))
    host.background("align", aligner.run)


async def _registry(settings: Settings, host: Host) -> Registry:
    http = await host.enter(neighbour(settings.mlflow_url))
    timeout_s = settings.mlflow_timeout_s
    return Registry(JsonStore(http, name="the model registry", reason=Reason.REGISTRY_UNAVAILABLE, timeout_s=timeout_s))


async def _metrics(settings: Settings, host: Host) -> Metrics | None:
    if not settings.prometheus_url:
        return None
    http = await host.enter(neighbour(settings.prometheus_url))
    timeout_s = settings.prometheus_timeout_s
    return Metrics(JsonStore(http, name="the metrics source", reason=Reason.METRICS_UNAVAILABLE, timeout_s=timeout_s))


def main() -> None:
    """Entry point."""
    run("evaluation", read(Settings), assemble)


if __name__ == "__main__":
    main()
