"""The gateway as in its process: real HTTP, a real database, real gRPC to stand-ins of the six services."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from rapport.evaluation.v1 import evaluation_pb2
from rapport.evaluation.v1.evaluation_pb2_grpc import add_EvaluationServicer_to_server
from rapport.feedback.v1 import feedback_pb2
from rapport.feedback.v1.feedback_pb2_grpc import add_FeedbackServicer_to_server
from rapport.profiles.v1 import (
    catalogue_pb2,
    consents_pb2,
    identities_pb2,
    imports_pb2,
    matching_pb2,
    plans_pb2,
    privacy_pb2,
    profiles_pb2,
    receipts_pb2,
    retention_pb2,
)
from rapport.profiles.v1.catalogue_pb2_grpc import add_CatalogueServicer_to_server
from rapport.profiles.v1.consents_pb2_grpc import add_ConsentsServicer_to_server
from rapport.profiles.v1.identities_pb2_grpc import add_IdentitiesServicer_to_server
from rapport.profiles.v1.imports_pb2_grpc import add_ImportJobsServicer_to_server
from rapport.profiles.v1.matching_pb2_grpc import add_MatchingServicer_to_server
from rapport.profiles.v1.plans_pb2_grpc import add_PlansServicer_to_server
from rapport.profiles.v1.privacy_pb2_grpc import add_PrivacyServicer_to_server
from rapport.profiles.v1.profiles_pb2_grpc import add_ProfilesServicer_to_server
from rapport.profiles.v1.receipts_pb2_grpc import add_ReceiptBookServicer_to_server
from rapport.profiles.v1.retention_pb2_grpc import add_RetentionServicer_to_server
from rapport.recommendation.v1 import recommendation_pb2
from rapport.recommendation.v1.recommendation_pb2_grpc import add_RecommendationServicer_to_server
from rapport.scoring.v1 import scoring_pb2
from rapport.scoring.v1.scoring_pb2_grpc import add_ScoringServicer_to_server
from rapport.segmentation.v1 import segmentation_pb2
from rapport.segmentation.v1.segmentation_pb2_grpc import add_SegmentationServicer_to_server
from rapport.subjects.v1 import subjects_pb2
from rapport.subjects.v1.subjects_pb2_grpc import add_SubjectsServicer_to_server

from chassis import rpc
from chassis.process import Host
from infra.postgres import Temporary
from services.gateway.administer import office
from services.gateway.domain import Kind
from services.gateway.main import Settings, assemble, serving
from services.gateway.usecases import create_key, create_tenant
from tests.integration.gateway.catalogue_stand_in import Catalogue
from tests.integration.gateway.consents_stand_in import Consents
from tests.integration.gateway.identities_stand_in import Identities
from tests.integration.gateway.imports_stand_in import ImportJobs
from tests.integration.gateway.more_stand_ins import Evaluation, Feedback, Recommendation, Segmentation
from tests.integration.gateway.plans_stand_in import Plans, ReceiptBook
from tests.integration.gateway.rights_stand_in import Matching, Privacy, Retention, Subjects
from tests.integration.gateway.stand_ins import Profiles, Scoring


class Backstage:
    """The six stand-ins, and where they listen. `stop` ends one, as if it had died."""

    def __init__(self) -> None:
        self.profiles = Profiles()  # pyright: ignore[reportAbstractUsage]
        self.catalogue = Catalogue(self.profiles)
        self.consents = Consents(self.profiles)
        self.identities = Identities()
        self.imports = ImportJobs()
        self.plans = Plans()
        self.scoring = Scoring(self.profiles)
        self.segmentation = Segmentation()
        self.recommendation = Recommendation()
        self.feedback = Feedback()
        self.evaluation = Evaluation()
        self.targets: dict[str, str] = {}
        self._servers: dict[str, rpc.Server] = {}

    async def start(self) -> None:
        parts: list[tuple[str, Any, Any, Any]] = [
            ("profiles", add_ProfilesServicer_to_server, self.profiles, profiles_pb2),
            ("scoring", add_ScoringServicer_to_server, self.scoring, scoring_pb2),
            ("segmentation", add_SegmentationServicer_to_server, self.segmentation, segmentation_pb2),
            ("recommendation", add_RecommendationServicer_to_server, self.recommendation, recommendation_pb2),
            ("feedback", add_FeedbackServicer_to_server, self.feedback, feedback_pb2),
            ("evaluation", add_EvaluationServicer_to_server, self.evaluation, evaluation_pb2),
        ]
        for name, add, servicer, module in parts:
            server = self._servers[name] = rpc.Server(name, "test")
            server.add(add, servicer, module.DESCRIPTOR)
            if name == "profiles":
                server.add(add_CatalogueServicer_to_server, self.catalogue, catalogue_pb2.DESCRIPTOR)
                server.add(add_ConsentsServicer_to_server, self.consents, consents_pb2.DESCRIPTOR)
                server.add(add_IdentitiesServicer_to_server, self.identities, identities_pb2.DESCRIPTOR)
                server.add(add_ImportJobsServicer_to_server, self.imports, imports_pb2.DESCRIPTOR)
                server.add(add_PlansServicer_to_server, self.plans, plans_pb2.DESCRIPTOR)
                server.add(add_ReceiptBookServicer_to_server, ReceiptBook(), receipts_pb2.DESCRIPTOR)
                server.add(add_MatchingServicer_to_server, Matching(), matching_pb2.DESCRIPTOR)
                server.add(add_RetentionServicer_to_server, Retention(), retention_pb2.DESCRIPTOR)
                server.add(add_PrivacyServicer_to_server, Privacy(), privacy_pb2.DESCRIPTOR)
            else:
                server.add(add_SubjectsServicer_to_server, Subjects(), subjects_pb2.DESCRIPTOR)
            self.targets[name] = f"127.0.0.1:{await server.start('127.0.0.1:0')}"

    async def stop(self, name: str) -> None:
        await self._servers.pop(name).stop(0)

    async def stop_all(self) -> None:
        for name in list(self._servers):
            await self.stop(name)


@dataclass(frozen=True, slots=True)
class Keys:
    """Texts of a tenant's keys."""

    tenant: str
    write: str
    private: str
    personal: str
    everything: str


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that runs."""

    url: str
    settings: Settings
    app: Any


MakeTenant = Callable[[], Awaitable[Keys]]


@pytest_asyncio.fixture(scope="session")
async def backstage() -> AsyncIterator[Backstage]:
    stage = Backstage()
    await stage.start()
    yield stage
    await stage.stop_all()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Gateway]:
    """The gateway, assembled as in its process."""
    host = Host("gateway", settings)
    try:
        app = await assemble(settings, host)
        async with serving(app, settings) as port:
            app.state.ready = True
            yield Gateway(f"http://127.0.0.1:{port}", settings, app)
    finally:
        await host.close()


async def counted(gateways: Sequence[Gateway], replicas: int) -> None:
    """Until each has counted so many processes: those that other tests have killed are counted for a while."""
    async with asyncio.timeout(60):
        while any(each.app.state.keyring.replicas != replicas for each in gateways):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
def settings(platform_database: Temporary, backstage: Backstage) -> Settings:
    targets: dict[str, Any] = {f"{name}_target": target for name, target in backstage.targets.items()}
    url = platform_database.dsn("rapport_gateway")
    return Settings(database_url=url, port=0, grace_s=1, **targets)  # pyright: ignore[reportCallIssue]


@pytest_asyncio.fixture(scope="session")
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with running(settings) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="session")
async def make_tenant(settings: Settings) -> AsyncIterator[MakeTenant]:
    """`keys = await make_tenant()`: a tenant of its own, with keys."""
    async with office(settings.database_url, settings.profiles_target) as (store, profiles):

        async def make() -> Keys:
            name = f"t{uuid.uuid4().hex[:12]}"
            everything = ["read", "manage", "score", "answers", "models"]
            await create_tenant(store, profiles, name, "events")
            _, write = await create_key(store, name, Kind.WRITE)
            _, private = await create_key(store, name, Kind.PRIVATE, everything)
            _, personal = await create_key(store, name, Kind.PRIVATE, [*everything, "personal"])
            _, whole = await create_key(store, name, Kind.PRIVATE, [*everything, "personal", "ingest"])
            return Keys(name, write, private, personal, whole)

        yield make


@pytest_asyncio.fixture
async def keys(make_tenant: MakeTenant) -> Keys:
    return await make_tenant()


@pytest_asyncio.fixture
async def http(gateway: Gateway, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """With the private key."""
    headers = {"Authorization": f"Bearer {keys.private}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def writer(gateway: Gateway, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """With the write key, Segment's way."""
    auth = httpx.BasicAuth(keys.write, "")
    async with httpx.AsyncClient(base_url=gateway.url, auth=auth, trust_env=False, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def customer(writer: httpx.AsyncClient) -> str:
    """A ref that is known."""
    answer = await writer.post("/v1/identify", json={"userId": "ada", "anonymousId": "device-1"})
    assert answer.status_code == 200, answer.text
    return "user_id:ada"
