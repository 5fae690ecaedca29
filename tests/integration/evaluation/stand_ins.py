"""profiles as evaluation knows it, with behaviour: a clock per tenant, people who merge, a log that remembers facts."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesServicer

from chassis import context
from chassis.db import Database

SERVED_DIGEST = "f" * 64
START = datetime(2011, 1, 1, tzinfo=UTC)


# A servicer that leaves methods out is abstract to the type checker; gRPC answers UNIMPLEMENTED for them.
Servicer: Any = ProfilesServicer


class Profiles(Servicer):
    """Every test has a tenant of its own, so one of these serves all."""

    def __init__(self) -> None:
        self.now: dict[str, datetime] = defaultdict(lambda: START)
        self.known: dict[str, set[UUID]] = defaultdict(set)
        self.merged: dict[UUID, UUID] = {}
        self.facts: dict[str, list[pb.Fact]] = defaultdict(list)
        self.feature_digest = SERVED_DIGEST
        self.actors: list[str] = []

    def people(self, tenant: str, count: int) -> list[UUID]:
        """New customers of a tenant."""
        new = [uuid4() for _ in range(count)]
        self.known[tenant].update(new)
        return new

    async def GetFreshness(self, request: pb.GetFreshnessRequest, call: object) -> pb.GetFreshnessResponse:
        response = pb.GetFreshnessResponse()
        response.now.FromDatetime(self.now[context.tenant()])
        return response

    async def ListFeatures(self, request: pb.ListFeaturesRequest, call: object) -> pb.ListFeaturesResponse:
        return pb.ListFeaturesResponse(digest=self.feature_digest)

    async def ResolveProfiles(self, request: pb.ResolveProfilesRequest, call: object) -> pb.ResolveProfilesResponse:
        known = self.known[context.tenant()]
        asked = [UUID(ref) for ref in request.refs]
        return pb.ResolveProfilesResponse(
            profile_ids=[str(self.merged.get(each, each)) if each in known else "" for each in asked]
        )

    async def Ingest(self, request: pb.IngestRequest, call: object) -> pb.IngestResponse:
        mine = self.facts[context.tenant()]
        seen = {fact.message_id for fact in mine}
        mine.extend(fact for fact in request.facts if fact.message_id not in seen)
        self.actors.append(context.current().actor)
        return pb.IngestResponse(
            facts=[pb.Receipt(message_id=fact.message_id, status=pb.RECEIPT_STATUS_ACCEPTED) for fact in request.facts]
        )


async def eventually(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Waits until `holds` does, at most 20 s."""
    async with asyncio.timeout(20):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.05)


class Log:
    """Writes events as profiles would have."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    async def append(self, events: Iterable[Event]) -> None:
        rows = [(self._tenant, datetime.now(UTC), event.SerializeToString()) for event in events]
        async with self._database.transaction() as connection:
            await connection.executemany("INSERT INTO log.events (tenant_id, received_at, payload) VALUES ($1, $2, $3)", rows)

    async def orders(self, customers: Iterable[UUID], at: datetime, *, name: str = "Order Completed") -> None:
        await self.append(event(name, each, at) for each in customers)

    async def merge(self, gone: UUID, kept: UUID) -> None:
        properties = {"from": str(gone), "into": str(kept), "since": "2011-01-01T00:00:00Z"}
        await self.append([event("Profile Merged", gone, START, properties, source="rapport.profiles")])

    async def part(self, kept: UUID, gone: UUID) -> None:
        properties = {"from": str(kept), "into": str(gone), "nodes": [str(gone)], "traits": []}
        await self.append([event("Profile Unmerged", gone, START, properties, source="rapport.profiles")])

    async def scores(self, rows: Iterable[tuple[UUID, float, float]], *, as_of: datetime, version: str) -> None:
        """(customer, probability, days since the last order)."""
        await self.append(
            event(
                "Churn Scored",
                customer,
                as_of,
                {
                    "model": "churn",
                    "version": version,
                    "probability": probability,
                    "logisticProbability": probability,
                    "features": {"days_since_last_order": recency},
                    "purpose": "evaluation",
                },
                source="rapport.scoring",
            )
            for customer, probability, recency in rows
        )


def event(name: str, customer: UUID, at: datetime, properties: Any = None, *, source: str = "shop") -> Event:
    return Event(
        type="track",
        name=name,
        ts_us=(at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
        node_id=str(customer),
        properties=json.dumps(properties or {}).encode(),
        source=source,
    )
