"""Recommendation on a real database, read from a real log, with a profiles service that takes facts."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest_asyncio
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesServicer, ProfilesStub, add_ProfilesServicer_to_server
from rapport.recommendation.v1 import recommendation_pb2 as pb
from rapport.recommendation.v1 import recommendation_pb2_grpc

from chassis import context
from chassis.db import Database
from chassis.log import Cursor, Reader
from chassis.outbox import Outbox
from services.recommendation.clients import ProfilesClient
from services.recommendation.main import Settings, measures_of
from services.recommendation.models import Models
from services.recommendation.project import Projector
from services.recommendation.rpc import RecommendationRpc
from services.recommendation.store.customers import CustomerStore
from services.recommendation.store.projection import ProjectionStore
from services.recommendation.store.purchases import PurchaseStore
from services.recommendation.usecases import Recommender


class FactTaker(ProfilesServicer):
    """Takes facts, once each, as profiles does."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], profiles_pb2.Fact] = {}

    async def Ingest(self, request: profiles_pb2.IngestRequest, call: Any) -> profiles_pb2.IngestResponse:  # pyright: ignore
        receipts: list[profiles_pb2.Receipt] = []
        for fact in request.facts:
            known = (context.tenant(), fact.message_id) in self.facts
            self.facts[context.tenant(), fact.message_id] = fact
            status = profiles_pb2.RECEIPT_STATUS_DUPLICATE if known else profiles_pb2.RECEIPT_STATUS_ACCEPTED
            receipts.append(profiles_pb2.Receipt(message_id=fact.message_id, status=status))
        return profiles_pb2.IngestResponse(facts=receipts)


@dataclass(slots=True)
class Shop:
    """The service in its parts, so that a test says what runs when. Events wait in `events` until `tell`."""

    tenant: str
    service: Any
    database: Database
    log: Database
    reader: Reader
    projector: Projector
    models: Models
    outbox: Outbox
    profiles: ProfilesClient
    facts: FactTaker
    events: list[tuple[str, Event]] = field(default_factory=list[tuple[str, Event]])

    def event(
        self, node: UUID, name: str, when: datetime, properties: Any, *, source: str = "shop", known: datetime | None = None
    ) -> None:
        ts_us, known_us = (int(each.timestamp() * 1e6) for each in (when, known or when))
        event = Event(
            event_id=uuid.uuid4().bytes,
            type="track",
            name=name,
            ts_us=ts_us,
            known_us=known_us,
            node_id=str(node),
            properties=msgspec.json.encode(properties),
            source=source,
        )
        self.events.append((context.tenant(), event))

    def order(self, node: UUID, when: datetime, *items: str, revenue: float = 10.0, **more: Any) -> None:
        products = [{"product_id": item, "name": item.upper(), "price": 1, "quantity": 1} for item in items]
        properties = {"order_id": uuid.uuid4().hex, "revenue": revenue, "products": products}
        self.event(node, "Order Completed", when, properties, **more)

    def fact(self, node: UUID, name: str, when: datetime, **properties: Any) -> None:
        self.event(node, name, when, properties, source="rapport.test")

    def merged(self, source: UUID, into: UUID, when: datetime) -> None:
        self.fact(source, "Profile Merged", when, **{"from": str(source), "into": str(into), "since": when.isoformat()})

    async def tell(self) -> None:
        """Writes what waits to the log, and has the service read the log to its end."""
        rows = [(tenant, UUID(each.node_id), datetime.now(UTC), each.SerializeToString()) for tenant, each in self.events]
        self.events.clear()
        async with self.log.transaction() as connection:
            insert = "INSERT INTO log.events (tenant_id, key, received_at, payload) VALUES ($1, $2, $3, $4)"
            await connection.executemany(insert, rows)
        # Where nothing can be read yet, somebody's older transaction is still open.
        with context.everyone():
            while await self.reader.lag():
                if not await self.reader.step(self.projector.handle):
                    await asyncio.sleep(0.001)

    async def send(self) -> None:
        """The outbox, once."""
        while await self.outbox._send_some(self.database, self.profiles.append, 500):
            pass

    async def shown(self, *nodes: UUID, rebuild: bool = True, **question: Any) -> list[list[pb.RankedItem]]:
        if rebuild:
            await self.service.RebuildModel(pb.RebuildModelRequest(at=question.get("at")))
        request = pb.RecommendRequest(profile_ids=map(str, nodes), **question)
        return [list(result.items) for result in (await self.service.Recommend(request)).results]

    async def advice(self, node: UUID) -> pb.GetNextBestActionResponse:
        return await self.service.GetNextBestAction(pb.GetNextBestActionRequest(profile_id=str(node)))


def ids(items: Sequence[pb.RankedItem]) -> list[str]:
    return [item.item_id for item in items]


@pytest_asyncio.fixture
async def shop(tenant: str, connect_as: Callable[[str], Awaitable[Database]], serve: Any, stub: Callable[..., Any]) -> Shop:
    facts = FactTaker()  # pyright: ignore[reportAbstractUsage]  (calls that are not made here are not answered)
    address = await serve("profiles", add_ProfilesServicer_to_server, facts, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(stub(ProfilesStub, address, profiles_pb2.DESCRIPTOR))
    database, log = await connect_as("recommendation"), await connect_as("profiles")
    cursor, outbox = Cursor("recommendation", "recommendation"), Outbox("recommendation")
    models, customers = Models(PurchaseStore(database)), CustomerStore(database, outbox)
    servicer = RecommendationRpc(Recommender(models, customers, measures_of(Settings())), models, customers)
    add = recommendation_pb2_grpc.add_RecommendationServicer_to_server
    address = await serve("recommendation", add, servicer, pb.DESCRIPTOR)
    return Shop(
        tenant=tenant,
        service=stub(recommendation_pb2_grpc.RecommendationStub, address, pb.DESCRIPTOR),
        database=database,
        log=log,
        reader=Reader(database, cursor),
        projector=Projector(ProjectionStore(database, cursor)),
        models=models,
        outbox=outbox,
        profiles=profiles,
        facts=facts,
    )
