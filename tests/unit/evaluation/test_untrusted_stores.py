"""MLflow and Prometheus answer over HTTP, and may answer anything."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from chassis.errors import NotFound, Reason, Unavailable
from services.evaluation.clients.http import MAX_BYTES, JsonStore
from services.evaluation.clients.metrics import Metrics
from services.evaluation.clients.registry import Registry

VERSION = {
    "name": "shop.churn",
    "version": "3",
    "creation_timestamp": 1_700_000_000_000,
    "run_id": "a" * 32,
    "tags": [
        {"key": "digest", "value": "d" * 64},
        {"key": "feature_digest", "value": "f" * 64},
        {"key": "judged_at", "value": "2011-09-10T00:00:00+00:00"},
    ],
    "aliases": ["champion"],
}


class Store(httpx.AsyncBaseTransport):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answer(request)


class Dripping(httpx.AsyncByteStream):
    """One byte at a time, for ever: no single wait is long."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b" "


class Flood(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(MAX_BYTES // (1 << 20) + 2):
            yield b" " * (1 << 20)


def saying(body: Any, status: int = 200) -> Store:
    return Store(lambda request: httpx.Response(status, content=body if isinstance(body, bytes) else json.dumps(body).encode()))


def gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there")


def store_on(transport: httpx.AsyncBaseTransport, reason: Reason = Reason.REGISTRY_UNAVAILABLE) -> JsonStore:
    http = httpx.AsyncClient(base_url="http://store", transport=transport)
    return JsonStore(http, name="the store", reason=reason, timeout_s=0.2)


def registry(transport: httpx.AsyncBaseTransport) -> Registry:
    return Registry(store_on(transport))


@pytest.mark.parametrize(
    "transport",
    [
        Store(gone),
        Store(lambda request: httpx.Response(200, stream=Dripping())),
        Store(lambda request: httpx.Response(200, stream=Flood())),
        Store(lambda request: httpx.Response(302, headers={"location": "http://elsewhere/"})),
        saying({"model_version": VERSION}, 500),
        saying({"model_version": VERSION}, 403),
        saying(b"<html>"),
        saying(b'{"model_version": '),
        saying([1, 2]),
        saying({"model_version": {"version": {"deep": 1}}}),
        saying({"model_version": {"tags": [1]}}),
        saying(b"\xff\xfe"),
    ],
)
async def test_whatever_a_store_does_the_answer_is_unavailable_and_soon(transport: Store) -> None:
    with pytest.raises(Unavailable) as refused:
        async with asyncio.timeout(2):
            await registry(transport).get("shop.churn", "3")
    assert refused.value.reason is Reason.REGISTRY_UNAVAILABLE


async def test_a_version_is_read_with_its_tags_and_aliases() -> None:
    found = await registry(saying({"model_version": VERSION})).get("shop.churn", "3")
    assert (found.version, found.digest, found.feature_digest) == ("3", "d" * 64, "f" * 64)
    assert found.aliases == ("champion",)
    assert found.created.year == 2023
    assert found.learnt_until == datetime(2011, 9, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [{"name": "mill.churn"}, {"version": ""}, {"version": "latest"}, {"version": "-1"}],
)
async def test_an_answer_about_something_else_is_no_answer(changes: dict[str, str]) -> None:
    with pytest.raises(NotFound) as refused:
        await registry(saying({"model_version": VERSION | changes})).get("shop.churn", "3")
    assert refused.value.reason is Reason.UNKNOWN_MODEL_VERSION


@pytest.mark.parametrize("version", ["", "0", "1.5", "champion", "3&name=mill.churn", "٣", "1" * 30])
async def test_what_cannot_be_a_version_is_not_asked_for(version: str) -> None:
    transport = saying({"model_version": VERSION})
    with pytest.raises(NotFound):
        await registry(transport).get("shop.churn", version)
    assert not transport.asked


async def test_what_cannot_be_a_digest_an_id_or_a_time_is_left_out() -> None:
    odd = VERSION | {
        "tags": [
            {"key": "digest", "value": "../../etc"},
            {"key": "feature_digest", "value": "F" * 64},
            {"key": "judged_at", "value": "soon"},
            {},
        ],
        "run_id": "x",
        "creation_timestamp": "9" * 40,
        "aliases": ["champion", "a b", "x" * 100],
    }
    found = await registry(saying({"model_version": odd})).get("shop.churn", "3")
    assert (found.digest, found.feature_digest, found.run_id, found.aliases) == ("", "", "", ("champion",))
    assert found.created.year == 1970
    assert found.learnt_until is None


async def test_a_list_takes_aliases_from_the_model_and_leaves_foreign_versions_out() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/registered-models/get"):
            return httpx.Response(200, json={"registered_model": {"aliases": [{"alias": "previous", "version": "2"}]}})
        versions = [VERSION | {"aliases": []}, VERSION | {"version": 2, "aliases": []}, VERSION | {"name": "mill.churn"}]
        return httpx.Response(200, json={"model_versions": versions})

    found = await registry(Store(answer)).versions("shop.churn")
    assert [(each.version, each.aliases) for each in found] == [("3", ()), ("2", ("previous",))]


async def test_a_model_that_nobody_registered_has_no_versions() -> None:
    assert await registry(saying({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404)).versions("shop.churn") == []


def matrix(*series: dict[str, Any]) -> Store:
    return saying({"status": "success", "data": {"resultType": "matrix", "result": list(series)}})


async def traffic(transport: Store) -> Any:
    metrics = Metrics(store_on(transport, Reason.METRICS_UNAVAILABLE), clock=lambda: 1_000_000.0)
    return await metrics.traffic("scoring", "1.0", window_s=60)


@pytest.mark.parametrize(
    "transport",
    [
        Store(gone),
        saying({"status": "error"}),
        saying({"status": "success", "data": {"resultType": "vector", "result": []}}),
        saying({"status": "success", "data": {"resultType": "matrix", "result": [{"values": [["now", "1"]]}]}}),
        saying({"status": "error", "errorType": "bad_data"}, 400),
    ],
)
async def test_metrics_that_cannot_be_read_are_unavailable(transport: Store) -> None:
    with pytest.raises(Unavailable) as refused:
        await traffic(transport)
    assert refused.value.reason is Reason.METRICS_UNAVAILABLE


async def test_no_series_are_no_traffic() -> None:
    transport = matrix()
    counted = await traffic(transport)
    assert (counted.requests, counted.errors, counted.p99_s) == (0, 0, None)
    query = dict(transport.asked[0].url.params)
    assert 'service="scoring",version="1.0"' in query["query"]
    assert float(query["end"]) - float(query["start"]) == 60


async def test_numbers_that_are_none_are_left_out() -> None:
    counted = await traffic(
        matrix(
            {"metric": {"code": "OK", "le": "0.1"}, "values": [[999_990.0, "NaN"], [999_995.0, "40"], [1_000_000.0, "60"]]},
            {"metric": {"code": "INTERNAL", "le": "+Inf"}, "values": [[1_000_000.0, "5"], [1_000_000.0, "-3"]]},
            {"metric": {"code": "OK", "le": "wide"}, "values": [[1_000_000.0, "many"]]},
        )
    )
    assert (counted.requests, counted.errors) == (65, 5)
    assert counted.buckets[-1].le_s == math.inf
