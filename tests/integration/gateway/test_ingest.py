"""Events in over HTTP: what is taken, what is refused, and how."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Backstage, Gateway, Keys, MakeTenant
from tests.integration.gateway.reading import problem_of

TRACK = {"userId": "ada", "event": "Order Completed", "messageId": "m1", "properties": {"revenue": 12.5}}
HALF_A_PAIR = b'{"userId":"ada","event":"\\ud800"}'


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("identify", {"traits": {"plan": "gold"}}),
        ("track", {"event": "Order Completed"}),
        ("page", {"name": "Home"}),
        ("screen", {"name": "Home"}),
        ("group", {"groupId": "acme"}),
        ("alias", {"previousId": "device-1"}),
    ],
)
async def test_each_of_segments_calls_is_answered_with_a_receipt(writer: httpx.AsyncClient, kind: str, more: Any) -> None:
    answer = await writer.post(f"/v1/{kind}", json={"userId": "ada", "messageId": f"m-{kind}", **more})
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "receipts": [{"messageId": f"m-{kind}", "status": "accepted"}]}


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/batch/"])
async def test_a_mixed_batch_is_taken_and_each_event_answered_for_itself(writer: httpx.AsyncClient, path: str) -> None:
    batch = [{**TRACK, "type": "track"}, {"type": "track", "event": "x", "messageId": "m2"}, {**TRACK, "type": "track"}]
    answer = await writer.post(path, json={"batch": batch})
    assert answer.status_code == 200
    accepted, rejected, duplicate = answer.json()["receipts"]
    assert accepted == {"messageId": "m1", "status": "accepted"}
    assert (rejected["status"], rejected["reason"], rejected["field"]) == ("rejected", "MISSING_IDENTITY", "userId")
    assert duplicate == {"messageId": "m1", "status": "duplicate"}


async def test_a_single_call_that_is_rejected_is_a_problem(writer: httpx.AsyncClient) -> None:
    body = problem_of(await writer.post("/v1/track", json={"event": "x"}), 400, "MISSING_IDENTITY")
    assert body["field"] == "userId"


async def test_gzip_is_unpacked(writer: httpx.AsyncClient) -> None:
    packed = gzip.compress(json.dumps({"batch": [{**TRACK, "type": "track"}]}).encode())
    answer = await writer.post("/v1/batch", content=packed, headers={"Content-Encoding": "gzip"})
    assert answer.json()["receipts"][0]["status"] == "accepted"


async def test_a_body_sent_as_plain_text_by_a_browser_is_taken(writer: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "text/plain", "Origin": "https://shop.example"}
    answer = await writer.post("/v1/track", content=json.dumps(TRACK), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_browser_may_ask_before_it_sends(gateway: Gateway) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.options(f"{gateway.url}/v1/track", headers={"Origin": "https://shop.example"})
    assert answer.status_code == 204
    assert "authorization" in answer.headers["access-control-allow-headers"]


BAD_BODIES: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("/v1/track", b"{", {}, 400, "MALFORMED_JSON"),
    ("/v1/track", b"[]", {}, 400, "MALFORMED_JSON"),
    ("/v1/track", b"", {}, 400, "MALFORMED_JSON"),
    ("/v1/batch", b'{"batch": 7}', {}, 400, "MALFORMED_JSON"),
    ("/v1/batch", b"[" * 100_000, {}, 400, "MALFORMED_JSON"),
    ("/v1/track", b'{"event":"x"}', {}, 400, "MISSING_IDENTITY"),
    ("/v1/track", HALF_A_PAIR, {}, 400, "MALFORMED_TEXT"),
    ("/v1/track", b'{"userId":"a","p":"' + b"x" * 40_000 + b'"}', {}, 400, "EVENT_TOO_LARGE"),
    ("/v1/batch", b" " * (500 * 1024 + 1), {}, 413, "BODY_TOO_LARGE"),
    ("/v1/batch", gzip.compress(bytes(100 << 20)), {"Content-Encoding": "gzip"}, 413, "BODY_TOO_LARGE"),
    ("/v1/batch", b"no gzip at all", {"Content-Encoding": "gzip"}, 400, "MALFORMED_JSON"),
    ("/v1/batch", gzip.compress(b'{"batch":[]}')[:-4], {"Content-Encoding": "gzip"}, 400, "MALFORMED_JSON"),
    ("/v1/batch", b"{}", {"Content-Encoding": "br"}, 415, "UNSUPPORTED_ENCODING"),
]


@pytest.mark.parametrize(("path", "content", "headers", "status", "code"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_body_is_refused_with_its_reason(
    writer: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    problem_of(await writer.post(path, content=content, headers=headers), status, code)


async def test_a_body_without_a_length_is_cut_off_at_the_limit(writer: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    problem_of(await writer.post("/v1/batch", content=endless()), 413, "BODY_TOO_LARGE")


async def test_calls_that_arrive_together_travel_together(writer: httpx.AsyncClient, backstage: Backstage, keys: Keys) -> None:
    backstage.profiles.calls.clear()
    calls = [writer.post("/v1/track", json={**TRACK, "messageId": f"m{each}"}) for each in range(50)]
    answers = await asyncio.gather(*calls)
    assert [answer.json()["receipts"][0]["messageId"] for answer in answers] == [f"m{each}" for each in range(50)]
    assert sum(backstage.profiles.calls) == 50
    assert len(backstage.profiles.calls) < 25


async def test_a_bad_call_spoils_none_of_those_that_travel_with_it(writer: httpx.AsyncClient) -> None:
    good = [writer.post("/v1/track", json={**TRACK, "messageId": f"m{each}"}) for each in range(10)]
    bad = [writer.post("/v1/track", content=b"{") for _ in range(10)]
    answers = await asyncio.gather(*good, *bad)
    assert [answer.status_code for answer in answers] == [200] * 10 + [400] * 10


async def test_two_tenants_never_share_a_call(
    gateway: Gateway, keys: Keys, make_tenant: MakeTenant, backstage: Backstage
) -> None:
    other = await make_tenant()
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        calls = []
        for each in range(20):
            who, key = ("ours", keys.write) if each % 2 else ("theirs", other.write)
            body = {**TRACK, "userId": f"{who}-{each}", "messageId": f"m{each}"}
            calls.append(client.post("/v1/track", json=body, headers={"Authorization": f"Bearer {key}"}))
        answers = await asyncio.gather(*calls)
    assert all(answer.status_code == 200 for answer in answers)
    assert len(backstage.profiles.people[other.tenant]) == 10
    assert all(ref.startswith("user_id:theirs") for ref in backstage.profiles.people[other.tenant])


async def test_rejections_are_listed(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/rejections")
    assert answer.json()["data"][0]["type"] == "track"
    assert answer.json()["next"] is None
