"""Settings, and the assembly of the process."""

from datetime import timedelta

from pydantic import Field
from rapport.feedback.v1 import feedback_pb2
from rapport.feedback.v1.feedback_pb2_grpc import add_FeedbackServicer_to_server
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis.log import Cursor, reader_of
from chassis.outbox import Outbox
from chassis.process import Host, run
from chassis.settings import ReaderSettings, prefix_of, read
from chassis.subjects import SubjectsRpc
from services.feedback.clients import ProfilesClient
from services.feedback.project import Projector
from services.feedback.rpc import FeedbackRpc
from services.feedback.store import AnswerStore, CaseStore, ProjectionStore, SurveyStore
from services.feedback.subjects import tables_of_people
from services.feedback.usecases import Answers


class Settings(ReaderSettings):
    """RAPPORT_FEEDBACK_..."""

    model_config = prefix_of("feedback")

    profiles_target: str = Field(default="127.0.0.1:8081", description="Where profiles listens.")
    case_hours: float = Field(
        default=24.0, gt=0, le=8_760, description="Hours from a low score to the time when its case is due."
    )


async def assemble(settings: Settings, host: Host) -> None:
    """The service on its host."""
    database = await host.database()
    cursor, outbox = Cursor("feedback", "feedback"), Outbox("feedback")
    stub = ProfilesStub(host.channel("profiles", settings.profiles_target, profiles_pb2.DESCRIPTOR))
    profiles = ProfilesClient(stub)  # pyright: ignore[reportArgumentType]
    answers = AnswerStore(database, outbox)
    taking = Answers(answers, profiles, time_to_act=timedelta(hours=settings.case_hours))
    servicer = FeedbackRpc(SurveyStore(database), answers, CaseStore(database), taking, profiles)
    host.server.add(add_FeedbackServicer_to_server, servicer, feedback_pb2.DESCRIPTOR)
    subjects = SubjectsRpc(database, tables_of_people(profiles))
    host.server.add(add_SubjectsServicer_to_server, subjects, subjects_pb2.DESCRIPTOR)

    reader, projector = reader_of(settings, database, cursor), Projector(ProjectionStore(database, cursor))
    host.background("project", lambda: reader.follow(projector.handle))
    host.background("outbox", lambda: outbox.send(database, profiles.append))


def main() -> None:
    """Entry point."""
    run("feedback", read(Settings), assemble)


if __name__ == "__main__":
    main()
