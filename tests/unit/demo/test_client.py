import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.client import ATTEMPTS, MAX_BATCH_BYTES, ClientError, Fed, batches_of, connect

Step = Callable[[httpx.Request], httpx.Response | Exception]


class Gateway(httpx.AsyncBaseTransport):
    """A gateway in memory: answers receipts and remembers message ids; `steps` are answers that come first."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.seen: list[str] = []
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        if self.steps:
            answer = self.steps.pop(0)(request)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path != "/v1/batch":
            return httpx.Response(200, json={"said": json.loads(request.content or b"null")})
        zipped = request.headers.get("Content-Encoding") == "gzip"
        batch = json.loads(gzip.decompress(request.content) if zipped else request.content)["batch"]
        return httpx.Response(200, json={"receipts": [self._receipt(call) for call in batch]})

    def _receipt(self, call: dict[str, Any]) -> dict[str, Any]:
        message_id = call["messageId"]
        if call.get("type") != "track":
            return {"messageId": message_id, "status": "rejected", "reason": "UNKNOWN_EVENT_TYPE", "field": "type"}
        status = "duplicate" if message_id in self.seen else "accepted"
        self.seen.append(message_id)
        return {"messageId": message_id, "status": status}


def calls(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "track", "event": "x", "userId": "u", "messageId": f"m{number}", **more} for number in range(count)]


async def feed(gateway: Gateway, fed: list[dict[str, Any]], **more: Any) -> Fed:
    async with connect("http://gateway", transport=gateway) as client:
        return await client.feed(fed, "write-key", **more)


def problem(status: int, **headers: str) -> Step:
    content = {"code": "RATE_LIMITED", "detail": "Too many requests.", "requestId": "r1"}
    return lambda _: httpx.Response(status, json=content, headers=headers)


async def test_every_call_is_fed_once_and_its_receipt_counted() -> None:
    gateway = Gateway()
    done: list[int] = []
    first = await feed(gateway, [*calls(1200), {"type": "dance", "messageId": "d"}], progress=done.append)
    assert first.statuses == {"accepted": 1200, "rejected": 1}
    assert sum(done) == 1201
    assert first.complaints[0].reason == "UNKNOWN_EVENT_TYPE"
    assert first.reasons == {"UNKNOWN_EVENT_TYPE": 1}
    again = await feed(gateway, calls(1200))
    assert again.statuses == {"duplicate": 1200}
    assert again.stored == first.stored
    assert gateway.requests[0].headers["Authorization"] == httpx.BasicAuth("write-key", "")._auth_header


async def test_a_batch_may_be_compressed() -> None:
    gateway = Gateway()
    assert (await feed(gateway, calls(10), compress=True)).statuses == {"accepted": 10}
    assert gateway.requests[0].headers["Content-Encoding"] == "gzip"


def test_batches_keep_both_limits_and_the_order() -> None:
    many = [*calls(1100), *calls(40, text="é" * 10_000), *calls(1, text="x" * 600_000), *calls(2)]
    batches = list(batches_of(many))
    assert [call for _, body in batches for call in json.loads(body)["batch"]] == many
    assert all(len(json.loads(body)["batch"]) == count <= 500 for count, body in batches)
    assert all(len(body) < 500_000 or count == 1 for count, body in batches)
    assert max(len(body) for count, body in batches if count > 1) > MAX_BATCH_BYTES - 30_000


def test_no_calls_are_no_batches() -> None:
    assert list(batches_of([])) == []


@pytest.mark.parametrize("status", [429, 503])
async def test_a_gateway_that_asks_for_patience_gets_it(status: int) -> None:
    gateway = Gateway(problem(status, **{"Retry-After": "0"}), problem(status, **{"Retry-After": "0.01"}))
    fed = await feed(gateway, calls(3))
    assert fed.statuses == {"accepted": 3}
    assert fed.retries == 2


async def test_patience_ends() -> None:
    gateway = Gateway(*[problem(503, **{"Retry-After": "0"})] * ATTEMPTS)
    with pytest.raises(ClientError, match=r"POST /v1/batch: 503 RATE_LIMITED: Too many requests\. \(request r1\)"):
        await feed(gateway, calls(3))
    assert len(gateway.requests) == ATTEMPTS


async def test_a_lost_connection_is_tried_again_for_a_batch() -> None:
    gateway = Gateway(lambda _: httpx.ReadError("gone"))
    assert (await feed(gateway, calls(3))).statuses == {"accepted": 3}


async def test_a_refused_batch_ends_the_feeding() -> None:
    with pytest.raises(ClientError) as error:
        await feed(Gateway(problem(401)), calls(5000))
    assert (error.value.status, error.value.code, error.value.request_id) == (401, "RATE_LIMITED", "r1")


async def test_a_call_names_the_private_key_and_gives_the_answer() -> None:
    gateway = Gateway()
    async with connect("http://gateway", "secret", transport=gateway) as client:
        assert await client.call("POST", "/v1/surveys", {"a": 1}, params={"x": 2}) == {"said": {"a": 1}}
    assert gateway.requests[0].headers["Authorization"] == "Bearer secret"
    assert gateway.requests[0].url.query == b"x=2"


async def test_a_post_without_an_idempotency_key_is_not_repeated_after_a_lost_connection() -> None:
    gateway = Gateway(lambda _: httpx.ReadError("gone"), lambda _: httpx.ReadError("gone"))
    async with connect("http://gateway", transport=gateway) as client:
        with pytest.raises(ClientError, match="no answer"):
            await client.call("POST", "/v1/surveys", {})
        assert await client.call("POST", "/v1/surveys", {}, idempotency_key="once") == {"said": {}}


async def test_an_answer_that_is_no_problem_json_is_quoted() -> None:
    gateway = Gateway(lambda _: httpx.Response(500, text="oh no"), lambda _: httpx.Response(200, text="<html>"))
    async with connect("http://gateway", transport=gateway) as client:
        with pytest.raises(ClientError, match="500 oh no"):
            await client.call("GET", "/v1/profiles")
        with pytest.raises(ClientError, match="the answer is not JSON"):
            await client.call("GET", "/v1/profiles")
