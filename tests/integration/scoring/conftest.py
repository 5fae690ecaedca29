"""Scoring on a real database, with a profiles and an MLflow of our own behind it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub, add_ProfilesServicer_to_server
from rapport.scoring.v1 import scoring_pb2 as pb
from rapport.scoring.v1.scoring_pb2_grpc import ScoringStub, add_ScoringServicer_to_server

from chassis import context
from chassis.db import Database
from chassis.log import Cursor, Reader
from chassis.outbox import Outbox
from services.scoring.clients import ProfilesClient
from services.scoring.domain import registered_name_of
from services.scoring.models import Models
from services.scoring.project import Projector
from services.scoring.rpc import ScoringRpc
from services.scoring.store import ScoreStore
from services.scoring.usecases import Scorer
from tests.integration.scoring.stand_ins import NOW, SERVED, Mlflow, Profiles, model_files

BUYER = {"orders_count": 3, "revenue_total": 120.5, "days_since_last_order": 80.0, "mean_order_interval_days": 20.0}


@dataclass(slots=True)
class Platform:
    """The service in its parts, so that a test says what runs when."""

    tenant: str
    service: Any
    profiles: Profiles
    mlflow: Mlflow
    folder: Path
    database: Database
    log: Database
    reader: Reader
    projector: Projector
    store: ScoreStore
    outbox: Outbox
    client: ProfilesClient
    models: Models

    def new_models(self) -> Models:
        """As a process that has just started has them: empty."""
        return Models(self.store, self.client, mlflow_url=self.mlflow.url, folder=self.folder)

    async def event(self, name: str, node: UUID | None = None, *, source: str = "rapport.test", **properties: Any) -> None:
        """One row of the log, and the service reads it."""
        event = Event(
            event_id=uuid.uuid4().bytes,
            type="track",
            name=name,
            ts_us=int(NOW.timestamp() * 1e6),
            node_id=str(node) if node else "",
            properties=msgspec.json.encode(properties),
            source=source,
        )
        async with self.log.connection() as connection:
            insert = "INSERT INTO log.events (tenant_id, key, received_at, payload) VALUES ($1, $2, now(), $3)"
            await connection.execute(insert, context.tenant(), node, event.SerializeToString())
        with context.everyone():
            while await self.reader.lag():
                if not await self.reader.step(self.projector.handle):
                    await asyncio.sleep(0.001)

    async def promote(self, version: str, *, seed: int = 0, feature_digest: str = SERVED, digest: str = "") -> str:
        """Registers a model, tells of its promotion, and looks once; returns the digest."""
        name = registered_name_of(context.tenant(), "churn")
        registered = self.mlflow.register(name, version, model_files(seed, feature_digest=feature_digest))
        said: dict[str, Any] = {
            "model": "churn",
            "registeredName": name,
            "toVersion": version,
            "digest": digest or registered,
            "featureDigest": feature_digest,
        }
        await self.event("Model Promoted", **said)
        await self.models.look()
        return registered

    async def score(self, *refs: str, at: datetime | None = None, version: str = "") -> list[pb.ScoreResult]:
        request = pb.ScoreProfilesRequest(model="churn", refs=refs, version=version)
        if at:
            request.at.FromDatetime(at)
        return list((await self.service.ScoreProfiles(request)).results)

    async def latest(self, profile_id: UUID) -> pb.Score:
        request = pb.GetLatestScoreRequest(model="churn", profile_id=str(profile_id))
        return (await self.service.GetLatestScore(request)).score

    async def serving(self) -> str:
        return (await self.service.GetServingModel(pb.GetServingModelRequest(model="churn"))).version

    async def send(self) -> None:
        """The outbox, until it is empty."""
        while await self.outbox._send_some(self.database, self.client.append, 500):
            pass

    def customer(self, ref: str, **values: float) -> UUID:
        profile_id = uuid.uuid4()
        self.profiles.meet(ref, profile_id, **(BUYER | values))
        return profile_id

    def tick(self) -> None:
        """The tenant's clock goes on."""
        self.profiles.now += timedelta(hours=1)


@pytest.fixture
def mlflow() -> Iterator[Mlflow]:
    with Mlflow() as server:
        yield server


@pytest_asyncio.fixture
async def platform(
    tenant: str,
    mlflow: Mlflow,
    tmp_path: Path,
    connect_as: Callable[[str], Awaitable[Database]],
    serve: Any,
    stub: Callable[..., Any],
) -> AsyncIterator[Platform]:
    profiles = Profiles()  # pyright: ignore[reportAbstractUsage]  (calls that are not made here are not answered)
    address = await serve("profiles", add_ProfilesServicer_to_server, profiles, profiles_pb2.DESCRIPTOR)
    client = ProfilesClient(stub(ProfilesStub, address, profiles_pb2.DESCRIPTOR))
    database, log = await connect_as("scoring"), await connect_as("profiles")
    cursor, outbox = Cursor("scoring", "scoring"), Outbox("scoring")
    store = ScoreStore(database, outbox, cursor)
    models = Models(store, client, mlflow_url=mlflow.url, folder=tmp_path)
    await models.look()
    servicer = ScoringRpc(Scorer(models, client, store), models, store)
    address = await serve("scoring", add_ScoringServicer_to_server, servicer, pb.DESCRIPTOR)
    yield Platform(
        tenant=tenant,
        service=stub(ScoringStub, address, pb.DESCRIPTOR),
        profiles=profiles,
        mlflow=mlflow,
        folder=tmp_path,
        database=database,
        log=log,
        reader=Reader(database, cursor),
        projector=Projector(store, models.promoted),
        store=store,
        outbox=outbox,
        client=client,
        models=models,
    )
    # Other tests see the champions and the outbox of all tenants.
    async with database.connection() as connection:
        for table in ("champions", "outbox"):
            await connection.execute(f"DELETE FROM scoring.{table}")
