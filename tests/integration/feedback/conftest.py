"""Feedback on a real database, with people of our own behind it."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from rapport.feedback.v1 import feedback_pb2 as pb
from rapport.feedback.v1.feedback_pb2_grpc import FeedbackStub, add_FeedbackServicer_to_server
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub, add_ProfilesServicer_to_server

from chassis import context
from chassis.db import Database
from chassis.log import Cursor, Reader
from chassis.outbox import Outbox
from services.feedback.clients import ProfilesClient
from services.feedback.project import Projector
from services.feedback.rpc import FeedbackRpc
from services.feedback.store import AnswerStore, CaseStore, ProjectionStore, SurveyStore
from services.feedback.usecases import Answers
from tests.integration.feedback.people import NOW, People


@dataclass(slots=True)
class Platform:
    """The service in its parts, so that a test says what runs when."""

    tenant: str
    people: People
    stub: Any
    database: Database
    log: Database
    reader: Reader
    projector: Projector
    answers: AnswerStore
    outbox: Outbox
    profiles: ProfilesClient

    async def survey(self, survey_id: str = "nps", kind: Any = pb.SURVEY_KIND_NPS) -> None:
        request = pb.CreateSurveyRequest(survey_id=survey_id, kind=kind, question="Would you recommend us?")
        await self.stub.CreateSurvey(request)

    async def answer(
        self, profile_id: str, rating: int, comment: str = "", *, at: datetime | None = NOW, survey_id: str = "nps"
    ) -> pb.SubmitAnswerResponse:
        request = pb.SubmitAnswerRequest(survey_id=survey_id, profile_id=profile_id, rating=rating, comment=comment)
        if at is not None:
            request.answered.FromDatetime(at)
        return await self.stub.SubmitAnswer(request)

    async def listed(self, survey_id: str = "nps", **filters: Any) -> Sequence[pb.Answer]:
        return (await self.stub.ListAnswers(pb.ListAnswersRequest(survey_id=survey_id, **filters))).answers

    async def cases(self, *, open_only: bool = False) -> Sequence[pb.Case]:
        return (await self.stub.ListCases(pb.ListCasesRequest(open_only=open_only))).cases

    async def results(self, survey_id: str = "nps") -> pb.GetSurveyResultsResponse:
        return await self.stub.GetSurveyResults(pb.GetSurveyResultsRequest(survey_id=survey_id))

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, properties) of the facts, after the outbox has been sent."""
        while await self.outbox._send_some(self.database, self.profiles.append, 500):
            pass
        return [(fact.name, json.loads(fact.properties)) for fact in self.people.facts[self.tenant]]

    async def event(self, name: str, node: str, *, source: str = "rapport.segmentation", **properties: Any) -> None:
        """One row of the log, as profiles writes it."""
        said = json.dumps({key.removesuffix("_"): value for key, value in properties.items()}).encode()
        event = Event(type="track", name=name, node_id=node, properties=said, source=source)
        async with self.log.connection() as connection:
            await connection.execute(
                "INSERT INTO log.events (tenant_id, key, received_at, payload) VALUES ($1, $2, $3, $4)",
                self.tenant,
                UUID(node),
                datetime.now(UTC),
                event.SerializeToString(),
            )

    async def entered(self, node: str, segment: str) -> None:
        await self.event("Segment Entered", node, segment=segment, version=1)

    async def exited(self, node: str, segment: str) -> None:
        await self.event("Segment Exited", node, segment=segment, version=1)

    async def merged(self, source: str, target: str) -> None:
        """The fact that profiles records, and what it answers from then on."""
        self.people.became[self.tenant][source] = target
        await self.event("Profile Merged", source, source="rapport.profiles", from_=source, into=target)

    async def project(self) -> None:
        """Reads the log to its end."""
        with context.everyone():
            while await self.reader.step(self.projector.handle):
                pass


@pytest_asyncio.fixture
async def platform(
    tenant: str, connect_as: Callable[[str], Awaitable[Database]], serve: Any, stub: Callable[..., Any]
) -> Platform:
    people = People()  # pyright: ignore[reportAbstractUsage]  (calls that are not made here are not answered)
    address = await serve("profiles", add_ProfilesServicer_to_server, people, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(stub(ProfilesStub, address, profiles_pb2.DESCRIPTOR))
    database, log = await connect_as("feedback"), await connect_as("profiles")
    cursor, outbox = Cursor("feedback", "feedback"), Outbox("feedback")
    answers = AnswerStore(database, outbox)
    taking = Answers(answers, profiles, time_to_act=timedelta(hours=24), wall=lambda: NOW)
    servicer = FeedbackRpc(SurveyStore(database), answers, CaseStore(database), taking, profiles)
    address = await serve("feedback", add_FeedbackServicer_to_server, servicer, pb.DESCRIPTOR)
    return Platform(
        tenant=tenant,
        people=people,
        stub=stub(FeedbackStub, address, pb.DESCRIPTOR),
        database=database,
        log=log,
        reader=Reader(database, cursor),
        projector=Projector(ProjectionStore(database, cursor)),
        answers=answers,
        outbox=outbox,
        profiles=profiles,
    )
