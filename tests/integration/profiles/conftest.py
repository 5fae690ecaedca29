"""Profiles as it runs: real PostgreSQL, real gRPC on port 0, its projector following the log."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rapport.profiles.v1 import plans_pb2, privacy_pb2, receipts_pb2
from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.plans_pb2_grpc import PlansStub, add_PlansServicer_to_server
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub, add_ProfilesServicer_to_server
from rapport.profiles.v1.receipts_pb2_grpc import ReceiptBookStub, add_ReceiptBookServicer_to_server
from rapport.subjects.v1 import subjects_pb2

from chassis import context, rpc
from chassis.db import Database
from chassis.log import Cursor, Reader
from infra.postgres import Temporary
from services.profiles.archive import Archive
from services.profiles.main import CONSUMER, environment_of, opened, parts, planning, privacy
from services.profiles.rpc import Parts, ProfilesRpc
from services.profiles.rpc.privacy import PrivacyRpc
from services.profiles.settings import Settings
from services.profiles.vault import Vault, read_master_key

PATIENCE_S = 60.0
# When the tests' events are received; their own times are before it.
RECEIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Profiles:
    """The service, with words for what tests do all the time. All for the tenant of the present call."""

    def __init__(self, stub: Any, assembled: Parts, database: Database, reader: Reader, folder: Path) -> None:
        self.stub = stub
        self.parts = assembled
        self.database = database
        self.reader = reader
        # Holds master.key and archive/.
        self.folder = folder

    async def create(self, clock: str = "EVENTS") -> str:
        tenant_id = context.tenant()
        await self.stub.CreateTenant(
            pb.CreateTenantRequest(tenant_id=tenant_id, clock=pb.ClockKind.Value(f"CLOCK_KIND_{clock}"))
        )
        return tenant_id

    async def send_body(self, body: bytes, *, type_: str = "batch", received: datetime = RECEIVED) -> pb.SubmissionResult:
        submission = pb.Submission(type=type_, body=body)
        submission.received.FromDatetime(received)
        return (await self.stub.Ingest(pb.IngestRequest(submissions=[submission]))).submissions[0]

    async def send(self, *calls: Mapping[str, Any], received: datetime = RECEIVED, **batch: Any) -> Sequence[pb.Receipt]:
        """One batch; the receipts."""
        result = await self.send_body(json.dumps({"batch": calls, **batch}).encode(), received=received)
        assert result.WhichOneof("result") == "receipts", result
        return list(result.receipts.receipts)

    async def take(self, *calls: Mapping[str, Any], received: datetime = RECEIVED) -> None:
        """One batch that must be accepted, and is in the projections when this returns."""
        receipts = await self.send(*calls, received=received)
        assert [receipt.status for receipt in receipts] == [pb.RECEIPT_STATUS_ACCEPTED] * len(calls), receipts
        await self.settled()

    async def record(self, *facts: pb.Fact) -> Sequence[pb.Receipt]:
        return list((await self.stub.Ingest(pb.IngestRequest(facts=facts))).facts)

    async def settled(self) -> None:
        """Waits until the projections show all of the log."""
        until = time.monotonic() + 90
        while await self.reader.lag():
            assert time.monotonic() < until, "the projector does not keep up"
            await asyncio.sleep(0.01)

    async def resolve(self, *refs: str) -> list[str]:
        return list((await self.stub.ResolveProfiles(pb.ResolveProfilesRequest(refs=refs))).profile_ids)

    async def profile(self, ref: str) -> pb.Profile:
        return (await self.stub.GetProfile(pb.GetProfileRequest(ref=ref))).profile

    async def traits(self, ref: str) -> dict[str, Any]:
        return json.loads((await self.profile(ref)).traits)

    async def events(self, ref: str) -> list[pb.TimelineEvent]:
        return list((await self.stub.ListEvents(pb.ListEventsRequest(ref=ref, page_size=1000))).events)

    async def rows(self, query: str, *arguments: object) -> list[Any]:
        """What the test itself sees, of all tenants."""
        with context.everyone():
            async with self.database.connection() as connection:
                return await connection.fetch(query, *arguments)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@asynccontextmanager
async def serving(database_of: Temporary, folder: Path) -> AsyncIterator[Profiles]:
    """The service on a database, its files in a folder."""
    url = database_of.dsn("rapport_profiles")
    settings = Settings(database_url=url, master_key_file=str(folder / "master.key"), archive_folder=str(folder / "archive"))
    stack = AsyncExitStack()
    database = await stack.enter_async_context(opened(settings, everyone=True))
    assembled = parts(database, Vault(read_master_key(folder / "master.key")), Archive(environment_of(settings)))
    server = rpc.Server("profiles", "test")
    server.add(add_ProfilesServicer_to_server, ProfilesRpc(assembled), pb.DESCRIPTOR)
    port = await server.start("127.0.0.1:0")
    reader = Reader(database, Cursor("profiles", CONSUMER), idle_s=0.02)
    following = asyncio.create_task(reader.follow(assembled.projector.handle))
    channel = rpc.channel("profiles", f"127.0.0.1:{port}", pb.DESCRIPTOR)
    yield Profiles(ProfilesStub(channel), assembled, database, reader, folder)
    await channel.close()
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    await server.stop(0)
    await stack.aclose()


@pytest_asyncio.fixture(scope="session")
async def service(platform_database: Temporary, folder: Path) -> AsyncIterator[Profiles]:
    async with serving(platform_database, folder) as running:
        yield running


@pytest_asyncio.fixture
async def profiles(service: Profiles, tenant: str) -> Profiles:
    """The service, and a tenant whose clock is its events'."""
    await service.create()
    return service


@dataclass(frozen=True, slots=True)
class Desk:
    """Stubs of what tells of receipts, plans and the quarantine."""

    receipts: Any
    plans: Any

    async def put(self, **document: Any) -> int:
        """A tracking plan; its version."""
        answer = await self.plans.PutTrackingPlan(plans_pb2.PutTrackingPlanRequest(document=json.dumps(document).encode()))
        return answer.plan.version

    async def fates(self, message_id: str) -> list[str]:
        """What became of a message, the newest first."""
        answer = await self.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id=message_id))
        return [receipts_pb2.FateStatus.Name(fate.status).removeprefix("FATE_STATUS_").lower() for fate in answer.fates]


@pytest_asyncio.fixture
async def desk(profiles: Profiles, serve: Any, stub: Any) -> Desk:
    receipts, plans = planning(profiles.database, profiles.parts)
    at_receipts = await serve("profiles", add_ReceiptBookServicer_to_server, receipts, receipts_pb2.DESCRIPTOR)
    at_plans = await serve("profiles", add_PlansServicer_to_server, plans, plans_pb2.DESCRIPTOR)
    return Desk(stub(ReceiptBookStub, at_receipts, receipts_pb2.DESCRIPTOR), stub(PlansStub, at_plans, plans_pb2.DESCRIPTOR))


@pytest_asyncio.fixture
async def office(profiles: Profiles) -> AsyncIterator[PrivacyRpc]:
    """The contract, and the tasks that carry erasures out."""
    erasures, servicer = privacy(profiles.database, profiles.parts)
    tasks = [asyncio.create_task(work()) for work in (erasures.watch, erasures.follow)]
    yield servicer
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def erased(office: PrivacyRpc, ref: str, *services: str) -> privacy_pb2.Erasure:
    """Begins, confirms for each service, and waits for the certificate."""
    request = privacy_pb2.EraseProfileRequest(ref=ref, reason="asked for", services=services)
    erasure = (await office.EraseProfile(request, None)).erasure
    end = time.monotonic() + PATIENCE_S
    while erasure.state != privacy_pb2.ERASURE_STATE_COMPLETED:
        assert time.monotonic() < end, f"not completed: {erasure}"
        await asyncio.sleep(0.1)
        for one in (await office.ListOpenErasures(privacy_pb2.ListOpenErasuresRequest(), None)).erasures:
            for service in one.waiting_for if one.erasure_id == erasure.erasure_id else ():
                rows = [subjects_pb2.ErasedRows(name=f"{service}.rows", row_count=3)]
                confirmation = privacy_pb2.ConfirmErasureRequest(erasure_id=one.erasure_id, service=service, stores=rows)
                await office.ConfirmErasure(confirmation, None)
        erasure = (await office.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=erasure.erasure_id), None)).erasure
    return erasure
