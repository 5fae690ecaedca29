"""Past capacity a body is refused before it is read, and the connection stays good."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from chassis.errors import Exhausted
from services.gateway.api import front, intake
from services.gateway.capacity import BODY_WEIGHT
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Backstage, Gateway, Keys, MakeTenant, running
from tests.integration.gateway.reading import problem_of

SIZE = 300_000


@pytest_asyncio.fixture
async def full(gateway: Gateway, keys: Keys) -> AsyncIterator[None]:
    """As much waits for profiles as may, of other tenants."""
    capacity = gateway.app.state.capacity
    places = []
    for size in (SIZE, 30_000):
        with suppress(Exhausted):
            for number in range(10_000):
                places.append(capacity.take(f"other-{size}-{number}", size))  # noqa: PERF401
    for place in places:
        capacity.arrived(place, place.tenant, place.weight - BODY_WEIGHT)
    yield
    for place in places:
        capacity.leave(place)


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)


@pytest_asyncio.fixture
async def raw(gateway: Gateway) -> AsyncIterator[Raw]:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield Raw(reader, writer)
    writer.close()


def head_of(key: str, *more: str) -> bytes:
    lines = ["POST /v1/batch HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


LENGTHS = [("Content-Length: 300000",), ("Transfer-Encoding: chunked",), ("Content-Length: 90000", "Content-Encoding: gzip")]


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("length", LENGTHS, ids=["length", "chunked", "packed"])
async def test_a_body_for_which_there_is_no_room_is_refused_before_it_was_sent(
    raw: Raw, keys: Keys, length: tuple[str]
) -> None:
    before = REGISTRY.get_sample_value("rapport_gateway_refused_requests_total", {"reason": "QUEUE_FULL"}) or 0
    raw.writer.write(head_of(keys.write, *length))
    status, headers, problem = await raw.answer()  # no byte of the body has left
    assert (status, problem["code"], headers["retry-after"]) == (429, "QUEUE_FULL", "1")
    after = REGISTRY.get_sample_value("rapport_gateway_refused_requests_total", {"reason": "QUEUE_FULL"})
    assert after == before + 1


@pytest.mark.usefixtures("full")
async def test_who_asks_first_is_not_told_to_go_on(raw: Raw, keys: Keys) -> None:
    raw.writer.write(head_of(keys.write, "Content-Length: 300000", "Expect: 100-continue"))
    assert (await raw.answer())[0] == 429


async def test_a_connection_is_good_after_a_refusal(raw: Raw, keys: Keys, gateway: Gateway) -> None:
    event = json.dumps({"batch": [{"type": "track", "userId": "ada", "event": "x", "messageId": "m1"}]}).encode()
    place = gateway.app.state.capacity.take
    gateway.app.state.capacity.take = _refuse
    raw.writer.write(head_of(keys.write, f"Content-Length: {SIZE}"))
    assert (await raw.answer())[0] == 429
    gateway.app.state.capacity.take = place
    raw.writer.write(bytes(SIZE) + head_of(keys.write, f"Content-Length: {len(event)}") + event)
    status, _, body = await raw.answer()
    assert (status, body["receipts"][0]["status"]) == (200, "accepted")


def _refuse(*_: object) -> None:
    raise Exhausted("full")


@pytest.mark.usefixtures("full")
async def test_nobody_without_a_key_is_told_that_it_is_full(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        problem_of(await client.post("/v1/batch", content=b"{}", auth=("sk_none", "")), 401, "INVALID_KEY")


async def test_places_are_given_back_whatever_became_of_the_body(
    writer: httpx.AsyncClient, gateway: Gateway, keys: Keys
) -> None:
    capacity = gateway.app.state.capacity
    for content in (b"{", b'{"batch":[]}', b'{"userId":"a","event":"x"}'):
        await writer.post("/v1/batch", content=content)
    host, port = gateway.url.removeprefix("http://").split(":")
    _, cut_off = await asyncio.open_connection(host, int(port))
    cut_off.write(head_of(keys.write, "Content-Length: 100") + b"{")
    cut_off.close()
    async with asyncio.timeout(5):
        while capacity._places:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (capacity._in_memory, capacity._counted) == (0, 0)


async def test_a_body_that_does_not_come_is_not_waited_for(
    raw: Raw, keys: Keys, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    monkeypatch.setattr(intake, "BODY_S", 0.2)
    raw.writer.write(head_of(keys.write, "Content-Length: 100") + b"{")
    status, _, problem = await raw.answer()
    assert (status, problem["code"]) == (400, "DEADLINE_EXCEEDED")
    assert gateway.app.state.capacity._places == 0


async def test_under_load_of_five_times_the_accepted_are_many_and_quick(
    settings: Settings, keys: Keys, backstage: Backstage
) -> None:
    """profiles takes 50 ms a call, whatever is in it: the queue in front of it stays short."""
    batch = {"batch": [{"type": "track", "userId": "ada", "event": "x", "properties": {"text": "x" * 2_000}}] * 60}
    async with running(settings) as gateway:
        backstage.profiles.pause_s = 0.05
        try:
            async with httpx.AsyncClient(base_url=gateway.url, auth=(keys.write, ""), trust_env=False, timeout=30) as client:
                answers = await asyncio.gather(*(client.post("/v1/batch", json=batch) for _ in range(100)))
        finally:
            backstage.profiles.pause_s = 0.0
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}


async def test_past_what_a_process_can_have_under_way_health_still_answers(
    gateway: Gateway, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "MOST_UNDER_WAY", 0)
    async with httpx.AsyncClient(base_url=gateway.url, auth=(keys.private, ""), trust_env=False) as client:
        answer = await client.get("/v1/profiles")
        problem_of(answer, 429, "QUEUE_FULL")
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/health/live")).status_code == 200


async def test_one_loud_tenant_does_not_keep_another_out(settings: Settings, keys: Keys, make_tenant: MakeTenant) -> None:
    quiet = await make_tenant()
    body = {"batch": [{"type": "track", "userId": "ada", "event": "x"}]}
    large = body | {"batch": body["batch"] * (SIZE // 40)}  # not less than what finds no place
    async with running(settings) as gateway, httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        capacity = gateway.app.state.capacity
        with suppress(Exhausted):
            for _ in range(10_000):
                capacity.arrived(capacity.take(keys.tenant, SIZE), keys.tenant, SIZE)
        assert (await client.post("/v1/batch", json=body, auth=(quiet.write, ""))).status_code == 200
        problem_of(await client.post("/v1/batch", json=large, auth=(keys.write, "")), 429, "QUEUE_FULL")
