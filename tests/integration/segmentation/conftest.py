"""Segmentation on a real database, with a shop of our own behind it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest_asyncio
from rapport.profiles.v1 import consents_pb2, profiles_pb2
from rapport.profiles.v1.consents_pb2_grpc import ConsentsStub, add_ConsentsServicer_to_server
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub, add_ProfilesServicer_to_server
from rapport.segmentation.v1 import segmentation_pb2
from rapport.segmentation.v1.segmentation_pb2_grpc import SegmentationStub, add_SegmentationServicer_to_server

from chassis import context
from chassis.db import Database
from chassis.log import Cursor, Reader
from chassis.outbox import Outbox
from services.segmentation.clients import ConsentsClient, ProfilesClient
from services.segmentation.project import Projector
from services.segmentation.recompute import Timer
from services.segmentation.refresh import Refresher
from services.segmentation.rpc import SegmentationRpc
from services.segmentation.store import EvaluationStore, ProjectionStore, SegmentStore
from services.segmentation.usecases import Definitions, Inquiries, Memberships
from tests.integration.segmentation.shop import NOW, Ledger, Shop


@dataclass(slots=True)
class Platform:
    """The service in its parts, so that a test says what runs when."""

    tenant: str
    shop: Shop
    ledger: Ledger
    stub: Any
    database: Database
    log: Database
    reader: Reader
    projector: Projector
    refresher: Refresher
    timer: Timer
    memberships: Memberships
    evaluations: EvaluationStore
    outbox: Outbox
    profiles: ProfilesClient

    async def event(
        self,
        node: str,
        *,
        kind: str = "track",
        name: str = "Order Completed",
        source: str = "shop",
        channel: str = "",
        ts: datetime = NOW,
        tenant: str | None = None,
        **properties: Any,
    ) -> None:
        """One row of the log, as profiles writes it."""
        event = Event(
            type=kind,
            name=name,
            ts_us=int(ts.timestamp() * 1_000_000),
            node_id=node,
            properties=json.dumps({key.removesuffix("_"): value for key, value in properties.items()}).encode(),
            source=source,
            channel=channel,
        )
        whose = tenant or self.tenant
        insert = "INSERT INTO log.events (tenant_id, key, received_at, payload) VALUES ($1, $2, $3, $4)"
        with context.use(tenant=whose):
            async with self.log.connection() as connection:
                await connection.execute(insert, whose, UUID(node), datetime.now(UTC), event.SerializeToString())

    async def identify(self, node: str, *, ts: datetime = NOW, **traits: Any) -> None:
        await self.event(node, kind="identify", name="", ts=ts, **traits)

    async def merged(self, source: str, target: str) -> None:
        """The fact that profiles records."""
        await self.event(source, name="Profile Merged", source="rapport.profiles", from_=source, into=target)

    async def project(self) -> None:
        """Reads the log to its end."""
        with context.everyone():
            while await self.reader.step(self.projector.handle):
                pass

    async def settle(self) -> None:
        """All that the background tasks do, until nothing is left to do."""
        await self.project()
        while await self.refresher.step():
            pass
        await self.send()

    async def send(self) -> None:
        """The outbox, once."""
        while await self.outbox._send_some(self.database, self.profiles.append, 500):
            pass

    async def keys(self, profile_id: str) -> set[str]:
        answer = await self.stub.ListMemberships(segmentation_pb2.ListMembershipsRequest(profile_id=profile_id))
        return {membership.key for membership in answer.memberships}

    async def dirty(self) -> int:
        async with self.database.connection() as connection:
            return await connection.fetchval("SELECT count(*) FROM segmentation.dirty WHERE tenant_id = $1", self.tenant)


@pytest_asyncio.fixture
async def platform(
    tenant: str, connect_as: Callable[[str], Awaitable[Database]], serve: Any, stub: Callable[..., Any]
) -> AsyncIterator[Platform]:
    shop = Shop()  # pyright: ignore[reportAbstractUsage]  (calls that are not made here are not answered)
    address = await serve("profiles", add_ProfilesServicer_to_server, shop, profiles_pb2.DESCRIPTOR)
    profiles = ProfilesClient(stub(ProfilesStub, address, profiles_pb2.DESCRIPTOR))
    ledger = Ledger()  # pyright: ignore[reportAbstractUsage]
    address = await serve("profiles", add_ConsentsServicer_to_server, ledger, consents_pb2.DESCRIPTOR)
    consents = ConsentsClient(stub(ConsentsStub, address, consents_pb2.DESCRIPTOR))
    database, log = await connect_as("segmentation"), await connect_as("profiles")
    cursor, outbox = Cursor("segmentation", "segmentation"), Outbox("segmentation")
    segments, evaluations = SegmentStore(database), EvaluationStore(database, outbox)
    memberships = Memberships(evaluations, profiles)
    definitions, inquiries = Definitions(segments, profiles), Inquiries(evaluations, profiles)
    servicer = SegmentationRpc(segments, memberships, definitions, inquiries, consents)
    address = await serve("segmentation", add_SegmentationServicer_to_server, servicer, segmentation_pb2.DESCRIPTOR)
    yield Platform(
        tenant=tenant,
        shop=shop,
        ledger=ledger,
        stub=stub(SegmentationStub, address, segmentation_pb2.DESCRIPTOR),
        database=database,
        log=log,
        reader=Reader(database, cursor),
        projector=Projector(ProjectionStore(database, cursor)),
        refresher=Refresher(evaluations, profiles, memberships, quiet_s=0, most_s=0),
        timer=Timer(evaluations, profiles, memberships, pause_s=0, calm_s=0),
        memberships=memberships,
        evaluations=evaluations,
        outbox=outbox,
        profiles=profiles,
    )
    # Other tests' steps see all tenants.
    async with database.transaction() as connection:
        for table in ("dirty", "outbox"):
            await connection.execute(f"DELETE FROM segmentation.{table} WHERE tenant_id = $1", tenant)
        await connection.execute("UPDATE segmentation.tenants SET waiting_since = NULL WHERE tenant_id = $1", tenant)
