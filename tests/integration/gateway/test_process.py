"""The process itself: it starts, says when it is ready, and ends without losing what is under way."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from infra.ports import free_port
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Backstage, Keys

BODY = {"userId": "ada", "event": "x", "messageId": "m1"}


@pytest_asyncio.fixture
async def process(settings: Settings) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    fields = settings.model_dump() | {"port": port, "unready_s": 0.3, "grace_s": 5}
    environment = {**os.environ, **{f"RAPPORT_GATEWAY_{name.upper()}": str(value) for name, value in fields.items()}}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway.main", env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert running.stdout
        async with asyncio.timeout(60):
            while line := await running.stdout.readline():
                if json.loads(line)["event"] == "ready":
                    break
        yield running, f"http://127.0.0.1:{port}"
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_sigterm_first_unreadies_then_answers_what_is_under_way_then_ends(
    process: tuple[asyncio.subprocess.Process, str], keys: Keys, backstage: Backstage
) -> None:
    running, url = process
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
        assert (await client.get("/health/ready")).status_code == 200
        backstage.profiles.pause_s = 1.0
        try:
            slow = asyncio.create_task(client.post("/v1/track", json=BODY, auth=httpx.BasicAuth(keys.write, "")))
            await asyncio.sleep(0.3)
            running.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
            unready = await client.get("/health/ready")
            assert (unready.status_code, unready.headers["connection"]) == (503, "close")
            assert (await client.get("/health/live")).status_code == 200
            assert (await slow).status_code == 200
        finally:
            backstage.profiles.pause_s = 0.0
    assert await asyncio.wait_for(running.wait(), 10) == 0
