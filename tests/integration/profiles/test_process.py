"""The process itself: it starts from its settings, is ready, and a kill loses nothing of what it acknowledged."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub

from chassis import rpc
from chassis.errors import Unavailable
from infra.ports import free_port
from infra.postgres import Temporary
from tests.integration.profiles.conftest import Profiles


@contextmanager
def _process(database: Temporary, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "DATABASE_URL": database.dsn("rapport_profiles"),
        "LISTEN": f"127.0.0.1:{port}",
        "METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "MASTER_KEY_FILE": str(folder / "master.key"),
        "ARCHIVE_FOLDER": str(folder / "archive"),
    }
    environment = os.environ | {f"RAPPORT_PROFILES_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "services.profiles.main"]
    with (folder / "process.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def _answered(call: Callable[[], Awaitable[Any]]) -> Any:
    until = time.monotonic() + 60
    while True:
        try:
            return await call()
        except Unavailable:
            assert time.monotonic() < until, "the process does not answer"
            await asyncio.sleep(0.1)


async def test_what_was_acknowledged_is_projected_once_after_a_kill(
    platform_database: Temporary, folder: Path, tenant: str
) -> None:
    port = free_port()
    channel = rpc.channel("profiles", f"127.0.0.1:{port}", pb.DESCRIPTOR)
    stub: Any = ProfilesStub(channel)
    calls = [{"type": "page", "userId": f"u{number}", "messageId": f"m{number}"} for number in range(200)]
    body = json.dumps({"batch": calls}).encode()
    request = pb.IngestRequest(submissions=[pb.Submission(type="batch", body=body)])
    with _process(platform_database, folder, port) as process:
        await _answered(lambda: stub.CreateTenant(pb.CreateTenantRequest(tenant_id=tenant, clock=pb.CLOCK_KIND_WALL)))
        answer = await stub.Ingest(request)
        assert {receipt.status for receipt in answer.submissions[0].receipts.receipts} == {pb.RECEIPT_STATUS_ACCEPTED}
        process.kill()
        process.wait()
    with _process(platform_database, folder, port) as process:
        again = await _answered(lambda: stub.Ingest(request))
        assert {receipt.status for receipt in again.submissions[0].receipts.receipts} == {pb.RECEIPT_STATUS_DUPLICATE}
        until = time.monotonic() + 60
        while (fresh := await stub.GetFreshness(pb.GetFreshnessRequest())).lag_events:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert (fresh.event_count, fresh.profile_count) == (200, 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    await channel.close()


async def test_a_foreign_master_key_is_refused_at_the_start(
    platform_database: Temporary, tmp_path: Path, profiles: Profiles
) -> None:
    with _process(platform_database, tmp_path, free_port()) as process:
        assert process.wait(timeout=60) == 2
    last = (tmp_path / "process.log").read_text().splitlines()[-1]
    assert "the master key is not the one" in json.loads(last)["detail"]
