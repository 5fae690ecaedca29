"""Settings, and the assembly of the process."""

from pydantic import Field
from rapport.profiles.v1 import consents_pb2, profiles_pb2
from rapport.profiles.v1.consents_pb2_grpc import ConsentsStub
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub
from rapport.segmentation.v1 import segmentation_pb2
from rapport.segmentation.v1.segmentation_pb2_grpc import add_SegmentationServicer_to_server
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis.log import Cursor, reader_of
from chassis.outbox import Outbox
from chassis.process import Host, run
from chassis.settings import ReaderSettings, prefix_of, read
from chassis.subjects import SubjectsRpc
from services.segmentation.clients import ConsentsClient, ProfilesClient
from services.segmentation.project import Projector
from services.segmentation.recompute import Timer
from services.segmentation.refresh import Refresher
from services.segmentation.rpc import SegmentationRpc
from services.segmentation.store import EvaluationStore, ProjectionStore, SegmentStore
from services.segmentation.subjects import OF_PEOPLE
from services.segmentation.usecases import Definitions, Inquiries, Memberships


class Settings(ReaderSettings):
    """RAPPORT_SEGMENTATION_..."""

    model_config = prefix_of("segmentation")

    profiles_target: str = Field(default="127.0.0.1:8081", description="Where profiles listens.")
    refresh_interval_s: float = Field(
        default=3_600.0, gt=0, description="Seconds by a tenant's clock after which all its memberships are recomputed."
    )
    refresh_pause_s: float = Field(
        default=60.0, ge=1, description="Seconds by the wall's clock between two looks at a tenant's clock."
    )
    quiet_s: float = Field(default=1.0, ge=0, description="Seconds without events after which touched profiles are evaluated.")
    most_s: float = Field(default=5.0, ge=0, description="Seconds after which they are evaluated although events keep coming.")


async def assemble(settings: Settings, host: Host) -> None:
    """The service on its host."""
    database = await host.database()
    cursor, outbox = Cursor("segmentation", "segmentation"), Outbox("segmentation")
    channel = host.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR, consents_pb2.DESCRIPTOR)
    profiles = ProfilesClient(ProfilesStub(channel))  # pyright: ignore[reportArgumentType]
    consents = ConsentsClient(ConsentsStub(channel))  # pyright: ignore[reportArgumentType]
    segments, evaluations = SegmentStore(database), EvaluationStore(database, outbox)
    memberships = Memberships(evaluations, profiles)
    definitions, inquiries = Definitions(segments, profiles), Inquiries(evaluations, profiles)
    servicer = SegmentationRpc(segments, memberships, definitions, inquiries, consents)
    host.server.add(add_SegmentationServicer_to_server, servicer, segmentation_pb2.DESCRIPTOR)
    host.server.add(add_SubjectsServicer_to_server, SubjectsRpc(database, OF_PEOPLE), subjects_pb2.DESCRIPTOR)

    reader, projector = reader_of(settings, database, cursor), Projector(ProjectionStore(database, cursor))
    refresher = Refresher(evaluations, profiles, memberships, quiet_s=settings.quiet_s, most_s=settings.most_s)
    timer = Timer(evaluations, profiles, memberships, interval_s=settings.refresh_interval_s, pause_s=settings.refresh_pause_s)
    host.background("project", lambda: reader.follow(projector.handle))
    host.background("refresh", refresher.follow)
    host.background("recompute", timer.follow)
    host.background("outbox", lambda: outbox.send(database, profiles.append))


def main() -> None:
    """Entry point."""
    run("segmentation", read(Settings), assemble)


if __name__ == "__main__":
    main()
