"""Ingest in batches of 500: durable receipts over gRPC, against PostgreSQL's COPY of the same rows.

Ours: a real profiles process, asked by CLIENTS callers at a time; each answer means that the batch is on disk, deduplicated,
its personal fields sealed. Its projector runs beside it, as in life, and is also measured alone afterwards.
The limit: COPY of exactly the rows that ours wrote (tenant, id, key, time, payload), 500 a transaction, by as many connections,
into a table with a primary key. Both in turns, in one run, on the same PostgreSQL. Run: `python -m tests.bench.bench_ingest`.
"""

import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from rapport.profiles.v1 import event_pb2
from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import context, rpc
from chassis.errors import Unavailable
from chassis.migrate import migrate
from infra.ports import free_port
from infra.postgres import Temporary, temporary
from services.profiles import segment
from services.profiles.domain.clock import ClockKind, moment_of
from services.profiles.draft import draft_of_call, origin_of
from services.profiles.ingest import _sealed
from services.profiles.store.log import Entry
from services.profiles.tenancy import Tenant
from services.profiles.vault import TenantKeys

AIM = 0.4
BATCH = 500
BATCHES = 30
ROUNDS = 5
CLIENTS = 4
CUSTOMERS = 5_000
TENANT = "bench"
_SECONDS = itertools.count()
_PEER = """
CREATE TABLE profiles.peer (
    tenant_id text NOT NULL, event_id bytea NOT NULL, key uuid, received_at timestamptz NOT NULL, payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
)
"""

Row = tuple[str, bytes, uuid.UUID | None, datetime, bytes]


def body(chance: random.Random) -> bytes:
    """A batch as a shop's server sends it, each a second after the one before: visits, carts and orders of three products."""
    return json.dumps({"batch": [_call(chance, next(_SECONDS)) for _ in range(BATCH)]}).encode()


def _call(chance: random.Random, second: int) -> dict[str, Any]:
    customer = chance.randrange(CUSTOMERS)
    happened = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    call: dict[str, Any] = {
        "messageId": str(uuid.UUID(int=chance.getrandbits(128))),
        "timestamp": happened.isoformat(),
        "userId": f"customer-{customer}",
        "anonymousId": f"device-{customer}",
        "context": {"ip": "203.0.113.7", "userAgent": "Mozilla/5.0 (X11; Linux x86_64)", "channel": "web", "locale": "en-GB"},
    }
    product = {"product_id": f"p{chance.randrange(999)}", "name": "A mug with a handle", "category": "kitchen", "price": 12.5}
    match chance.randrange(5):
        case 0:
            products = [{**product, "quantity": number} for number in (1, 2, 3)]
            properties = {"order_id": f"o{chance.getrandbits(40)}", "revenue": 75.0, "total": 75.0, "currency": "GBP"}
            return call | {"type": "track", "event": "Order Completed", "properties": properties | {"products": products}}
        case 1:
            return call | {"type": "track", "event": "Product Added", "properties": product}
        case 2:
            return call | {"type": "track", "event": "Product Viewed", "properties": product}
        case _:
            page = {"url": "https://shop.example/kitchen?from=mail", "title": "Kitchen", "category": "kitchen"}
            return call | {"type": "page", "name": "Category", "properties": page}


@contextmanager
def service(database: Temporary, folder: Path) -> Iterator[str]:
    """A profiles process; its address."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "RAPPORT_PROFILES_DATABASE_URL": database.dsn("rapport_profiles"),
        "RAPPORT_PROFILES_LISTEN": address,
        "RAPPORT_PROFILES_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "RAPPORT_PROFILES_MASTER_KEY_FILE": str(folder / "master.key"),
        "RAPPORT_PROFILES_ARCHIVE_FOLDER": str(folder / "archive"),
    }
    with (folder / "profiles.log").open("wb") as log:
        command = [sys.executable, "-m", "services.profiles.main"]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            yield address
            print(f"memory of profiles: {_pss_mb(process.pid):.0f} MB (PSS)")
        finally:
            process.terminate()
            process.wait(timeout=20)


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _shared(work: Sequence[Any], workers: int, do: Callable[[int, Any], Awaitable[None]]) -> float:
    """Seconds that `workers` take for all the work, each one thing at a time."""
    queue = iter(work)

    async def run(worker: int) -> None:
        for item in queue:
            await do(worker, item)

    started = time.perf_counter()
    await asyncio.gather(*(run(worker) for worker in range(workers)))
    return time.perf_counter() - started


async def _ours(stub: Any, bodies: Sequence[bytes]) -> float:
    async def send(_: int, one: bytes) -> None:
        submission = pb.Submission(type="batch", body=one)
        submission.received.GetCurrentTime()
        answer = await stub.Ingest(pb.IngestRequest(submissions=[submission]), timeout=60)
        receipts = answer.submissions[0].receipts.receipts
        assert len(receipts) == BATCH
        assert all(receipt.status == pb.RECEIPT_STATUS_ACCEPTED for receipt in receipts)

    return await _shared(bodies, CLIENTS, send)


async def _peer(connections: Sequence[asyncpg.Connection], rows: Sequence[Row]) -> float:
    batches = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    columns = ("tenant_id", "event_id", "key", "received_at", "payload")

    async def copy(worker: int, batch: Sequence[Row]) -> None:
        await connections[worker].copy_records_to_table("peer", schema_name="profiles", columns=columns, records=batch)

    return await _shared(batches, CLIENTS, copy)


async def _rows_after(connection: asyncpg.Connection, seq: int) -> tuple[int, list[Row]]:
    found = await connection.fetch(
        "SELECT seq, tenant_id, key, received_at, payload FROM log.events WHERE seq > $1 ORDER BY seq", seq
    )
    rows = [
        (row["tenant_id"], event_pb2.Event.FromString(row["payload"]).event_id, row["key"], row["received_at"], row["payload"])
        for row in found
    ]
    return (found[-1]["seq"] if found else seq), rows


async def _caught_up(stub: Any) -> float:
    """Seconds until the projections show everything."""
    started = time.perf_counter()
    while (await stub.GetFreshness(pb.GetFreshnessRequest())).lag_events:
        assert time.perf_counter() < started + 300, "the projector does not keep up"
        await asyncio.sleep(0.02)
    return time.perf_counter() - started


async def _compare(stub: Any, database: Temporary) -> list[float]:
    connections = [await asyncpg.connect(database.dsn("rapport_owner"), ssl=False) for _ in range(CLIENTS)]
    await connections[0].execute(_PEER)
    chance, seq, ratios = random.Random(1), 0, []
    await _ours(stub, [body(chance)])
    seq, _ = await _rows_after(connections[0], seq)
    for number in range(ROUNDS):
        bodies = [body(chance) for _ in range(BATCHES)]
        count = BATCH * BATCHES
        ours = count / await _ours(stub, bodies)
        lag = (await stub.GetFreshness(pb.GetFreshnessRequest())).lag_events
        projected = lag / max(await _caught_up(stub), 1e-9)
        seq, rows = await _rows_after(connections[0], seq)
        peer = count / await _peer(connections, rows)
        ratios.append(ours / peer)
        size = sum(len(row[4]) for row in rows) / len(rows)
        print(
            f"round {number + 1}: ours {ours:8,.0f} events/s   COPY {peer:8,.0f} rows/s   ratio {ours / peer:.2f}   "
            f"projector alone {projected:7,.0f} events/s over {lag:,}   {size:.0f} bytes an event"
        )
    for connection in connections:
        await connection.close()
    return ratios


def _stages() -> None:
    """What an event costs in this process, by stage, in microseconds."""
    chance = random.Random(2)
    tenant = Tenant(TENANT, ClockKind.EVENTS, TenantKeys(TENANT, bytes(32)))
    taken: dict[str, list[float]] = {"decode": [], "check, split, build": [], "seal, serialize": []}
    for _ in range(20):
        one = body(chance)
        start = time.perf_counter()
        raws, _ = segment.decode_body("batch", one)
        calls = [segment.decode_call(raw) for raw in raws if raw is not None]
        decoded = time.perf_counter()
        origin = origin_of("", time.time_ns() // 1_000)
        drafts = [
            draft_of_call(call, raw, origin, tenant, position)
            for position, (call, raw) in enumerate(zip(calls, raws, strict=True))
            if raw is not None
        ]
        drafted = time.perf_counter()
        ciphers = {draft.node_id: tenant.keys.new_wrapped_key(draft.node_id)[1] for draft in drafts if draft.node_id}
        keyed = time.perf_counter()
        entries: list[Entry] = _sealed(tenant, drafts, ciphers)
        sealed = time.perf_counter()
        assert len(entries) == BATCH
        for stage, seconds in zip(taken, (decoded - start, drafted - decoded, sealed - keyed), strict=True):
            taken[stage].append(seconds / BATCH * 1e6)
    for stage, each in taken.items():
        print(f"stage {stage:<22} {statistics.median(each):6.1f} us an event")
    print(f"(one batch is {len(one) / 1024:.0f} KB; received {moment_of(origin.received_us):%H:%M:%S})")


async def _run(address: str, database: Temporary) -> None:
    channel = rpc.channel("profiles", address, pb.DESCRIPTOR)
    stub: Any = ProfilesStub(channel)
    with context.use(tenant=TENANT, request_id="bench", actor="bench"):
        for _ in range(100):
            try:
                await stub.CreateTenant(pb.CreateTenantRequest(tenant_id=TENANT, clock=pb.CLOCK_KIND_EVENTS))
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        ratios = await _compare(stub, database)
    await channel.close()
    ratio = statistics.median(ratios)
    missed = "" if ratio >= AIM else f"  missed by {AIM - ratio:.2f}"
    print(f"ours / COPY: {ratio:.2f} (median of {ROUNDS}, {min(ratios):.2f} to {max(ratios):.2f}); aim: {AIM} or more{missed}")


def main() -> None:
    """Everything, once."""
    _stages()
    with temporary() as database, tempfile.TemporaryDirectory() as folder:
        migrate(database.dsn("rapport_owner"), ("profiles",))
        with service(database, Path(folder)) as address:
            asyncio.run(_run(address, database))


if __name__ == "__main__":
    main()
