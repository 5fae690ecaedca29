"""What others wrote: Segment's own SDK sends, schemathesis tries everything that the document allows, and does not."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from segment.analytics.client import Client

from tests.integration.gateway.conftest import Backstage, Gateway, Keys

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CHECKS += ",response_headers_conformance,ignored_auth,unsupported_method"


@pytest.mark.parametrize("gzip", [False, True])
async def test_segments_own_sdk_sends_everything_and_hears_of_no_error(
    gateway: Gateway, keys: Keys, backstage: Backstage, gzip: bool
) -> None:
    errors: list[Any] = []

    def send() -> None:
        client = Client(
            keys.write, host=gateway.url, gzip=gzip, on_error=lambda error, items: errors.append(error), max_retries=1
        )
        client.identify("ada", {"plan": "gold"})
        for number in range(250):
            client.track("ada", "Product Viewed", {"product_id": number}, anonymous_id=f"device-{number}")
        client.group("ada", "acme")
        client.alias("device-1", "ada")
        client.page("ada", "shop", "Home")
        client.screen("ada", "app", "Home")
        client.shutdown()

    await asyncio.to_thread(send)
    assert errors == []
    assert len(backstage.profiles.messages[keys.tenant]) == 255


async def test_whatever_the_document_allows_is_answered_as_the_document_says(
    gateway: Gateway, keys: Keys, http: httpx.AsyncClient, writer: httpx.AsyncClient, tmp_path: Path
) -> None:
    # Those whom the examples name, so that they are answered with more than 404.
    await writer.post("/v1/identify", json={"userId": "12347"})
    command = [Path(sys.executable).with_name("st"), "run", f"{gateway.url}/openapi.json", "--no-color"]
    command += ["--header", f"Authorization: Bearer {keys.everything}", "--checks", CHECKS]
    command += ["--phases", "examples,fuzzing", "--max-examples", "3", "--seed", "1", "--generation-database", "none"]
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-5000:]
