"""Files on their way through the gateway: of any size, plain or packed, whole or not at all."""

import csv
import gzip
import io
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.integration.gateway.conftest import Backstage, Gateway, Keys
from tests.integration.gateway.imports_stand_in import CHUNK_BYTES, REJECTED_ROWS, ImportJobs

JOBS = "/v1/import-jobs"


@pytest_asyncio.fixture
async def sender(gateway: Gateway, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """With a private key that may ingest."""
    headers = {"Authorization": f"Bearer {keys.everything}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def jobs(backstage: Backstage) -> ImportJobs:
    return backstage.imports


def _content(size: int) -> bytes:
    return random.Random(1).randbytes(size)


async def test_a_file_arrives_in_chunks_of_one_size(sender: httpx.AsyncClient, jobs: ImportJobs) -> None:
    content = _content(3 * CHUNK_BYTES + 17)
    answer = await sender.post(JOBS, params={"format": "parquet", "source": "till", "mapping": "{}"}, content=content)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{job['importJobId']}"
    assert (job["state"], job["format"], job["source"], job["sizeBytes"]) == ("succeeded", "parquet", "till", len(content))
    chunks = jobs.chunks[job["importJobId"]]
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES] * 3 + [17]
    assert b"".join(chunks) == content
    assert (await sender.get(answer.headers["location"])).json() == job
    assert (await sender.post(f"{answer.headers['location']}:cancel")).json() == job
    assert [each["importJobId"] for each in (await sender.get(JOBS)).json()["data"]] == [job["importJobId"]]


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
async def test_a_packed_file_is_unpacked_on_the_way(sender: httpx.AsyncClient, jobs: ImportJobs, size: int) -> None:
    content = _content(size)
    packed = gzip.compress(content[: size // 2]) + gzip.compress(content[size // 2 :])
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/csv; charset=utf-8"}
    answer = await sender.post(JOBS, content=packed, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["format"] == "csv"
    assert b"".join(jobs.chunks[answer.json()["importJobId"]]) == content


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(_content(300_000))[:-20], b"not gzip at all", gzip.compress(b"x") + b"rest"],
    ids=["cut off", "not packed", "with a rest"],
)
async def test_a_packed_file_that_was_cut_off_makes_no_job(sender: httpx.AsyncClient, jobs: ImportJobs, packed: bytes) -> None:
    before = len(jobs.deleted)
    answer = await sender.post(JOBS, params={"format": "csv"}, content=packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_FILE")
    assert len(jobs.deleted) == before + 1
    assert (await sender.get(JOBS)).json()["data"] == []


async def test_an_upload_whose_client_goes_away_leaves_nothing(
    gateway: Gateway, keys: Keys, sender: httpx.AsyncClient, jobs: ImportJobs
) -> None:
    before = len(jobs.deleted)
    where = urlsplit(gateway.url)
    lines = [
        f"POST {JOBS}?format=csv HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {keys.everything}",
        "Content-Length: 900000",
    ]
    head = "\r\n".join([*lines, "", ""])
    with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
        connection.sendall(head.encode() + _content(200_000))
    until = time.monotonic() + 10
    while len(jobs.deleted) == before:
        assert time.monotonic() < until
        assert (await sender.get(JOBS)).json()["data"] == []
    assert (await sender.get(JOBS)).json()["data"] == []


async def test_a_large_file_is_not_held_in_memory(sender: httpx.AsyncClient, jobs: ImportJobs) -> None:
    """200 MB that unfold from 1 MB. The stand-in lives in this process too, and lets go of what it gets."""
    packed, process = gzip.compress(bytes(200 << 20), 1), psutil.Process(os.getpid())
    before = process.memory_info().rss
    jobs.forgets = True
    try:
        answer = await sender.post(JOBS, params={"format": "csv"}, content=packed, headers={"Content-Encoding": "gzip"})
        most = process.memory_info().rss
    finally:
        jobs.forgets = False
    assert answer.status_code == 202, answer.text
    assert answer.json()["sizeBytes"] == 200 << 20
    assert most - before < 100 << 20


async def test_only_a_private_key_that_may_ingest_imports(http: httpx.AsyncClient, writer: httpx.AsyncClient) -> None:
    for client in (http, writer):
        for answer in (await client.post(JOBS, params={"format": "csv"}, content=b"x"), await client.get(JOBS)):
            assert (answer.status_code, answer.json()["code"]) == (403, "MISSING_SCOPE")


@pytest.mark.parametrize(
    ("parameters", "headers", "status", "field"),
    [
        ({}, {}, 400, "format"),
        ({"format": "xml"}, {}, 400, "format"),
        ({"format": "csv", "mapping": "wrong"}, {}, 400, "mapping"),
        ({"format": "csv", "source": "no blanks"}, {}, 400, "source"),
        ({"format": "csv"}, {"Content-Encoding": "br"}, 415, None),
    ],
)
async def test_what_a_file_is_must_be_said_rightly(
    sender: httpx.AsyncClient, parameters: dict[str, str], headers: dict[str, str], status: int, field: str | None
) -> None:
    answer = await sender.post(JOBS, params=parameters, headers=headers, content=b"x")
    assert (answer.status_code, answer.json().get("field")) == (status, field)


async def test_an_empty_file_is_refused(sender: httpx.AsyncClient) -> None:
    answer = await sender.post(JOBS, params={"format": "csv"})
    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_FILE")


async def test_rejections_are_paged_or_all_at_once(sender: httpx.AsyncClient) -> None:
    place = (await sender.post(JOBS, params={"format": "csv"}, content=b"x")).headers["location"]
    page = (await sender.get(f"{place}/rejections", params={"limit": 2})).json()
    assert [each["row"] for each in page["data"]] == [1, 2]
    assert page["hasMore"]
    answer = await sender.get(f"{place}/rejections", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["row"]) for row in rows] == list(range(1, REJECTED_ROWS + 1))
    assert rows[0]["message"] == 'no, "none"'
    lines = (await sender.get(f"{place}/rejections", params={"format": "jsonl"})).text.splitlines()
    assert len(lines) == REJECTED_ROWS
    missing = await sender.get(f"{JOBS}/{'0' * 8}-0000-0000-0000-{'0' * 12}/rejections", params={"format": "csv"})
    assert missing.status_code == 404
