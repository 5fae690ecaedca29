"""Verdicts on rollouts from a real Prometheus that scrapes real servers."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import start_http_server
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesStub, add_ProfilesServicer_to_server

from chassis import rpc
from chassis.errors import Error, InvalidArgument, Reason, Unavailable
from infra import prometheus
from infra.ports import HOST, free_port
from infra.processes import spawn
from tests.integration.evaluation.conftest import wait_until_up
from tests.integration.evaluation.stand_ins import Profiles, eventually

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub

    from tests.integration.evaluation.conftest import Start


class Slow(Profiles):
    """Takes its time."""

    async def GetFreshness(self, request: Any, call: object) -> Any:
        await asyncio.sleep(0.12)
        return await super().GetFreshness(request, call)


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that scrapes this process every second."""
    cache = prometheus.cache_folder()
    try:
        found = prometheus.find(cache) or _aside(prometheus.fetch(cache))
    except prometheus.Missing as missing:
        pytest.skip(str(missing))
    folder: Path = tmp_path_factory.mktemp("prometheus")
    metrics_port, port = free_port(), free_port()
    server, thread = start_http_server(metrics_port, HOST)
    job = {"job_name": "tests", "static_configs": [{"targets": [f"{HOST}:{metrics_port}"]}]}
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as output:
        process = spawn(prometheus.command(found, folder, port), output=output, folder=folder)
    try:
        wait_until_up(f"http://{HOST}:{port}/-/ready", process, folder / "log")
        yield f"http://{HOST}:{port}"
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        thread.join()


def _aside(work: Coroutine[Any, Any, prometheus.Prometheus]) -> prometheus.Prometheus:
    """A loop may be running in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Rollout:
    """Two versions of one service, of which the tests ask each as often as they like."""

    def __init__(self, stack: AsyncExitStack, prometheus_url: str) -> None:
        self.service = f"service_{uuid.uuid4().hex[:12]}"
        self._stack = stack
        self._prometheus = httpx.AsyncClient(base_url=prometheus_url, trust_env=False)
        self._asked = 0

    async def version(self, name: str, *, fault_ratio: float = 0.0, servicer: Profiles | None = None) -> ProfilesStub:
        server = rpc.Server(self.service, name, fault_ratio=fault_ratio)
        server.add(add_ProfilesServicer_to_server, servicer or Profiles(), profiles_pb2.DESCRIPTOR)
        port = await server.start("127.0.0.1:0")
        self._stack.push_async_callback(server.stop, 0)
        channel = rpc.channel(name, f"127.0.0.1:{port}", profiles_pb2.DESCRIPTOR)
        self._stack.push_async_callback(channel.close)
        return ProfilesStub(channel)

    async def ask(self, version: Any, count: int) -> None:
        for _ in range(count // 20):
            await asyncio.gather(*(self._ask(version) for _ in range(20)))
        self._asked += count // 20 * 20

    async def _ask(self, version: Any) -> None:
        with suppress(Error):
            await version.GetFreshness(profiles_pb2.GetFreshnessRequest())

    async def scraped(self) -> None:
        """Waits until Prometheus has seen all that was asked."""
        query = f'sum(rapport_rpc_server_requests_total{{service="{self.service}"}})'

        async def is_seen() -> bool:
            answer = await self._prometheus.get("/api/v1/query", params={"query": query})
            result = answer.json()["data"]["result"]
            return bool(result) and float(result[0]["value"][1]) >= self._asked

        await eventually(is_seen)

    def request(self) -> pb.JudgeRolloutRequest:
        return pb.JudgeRolloutRequest(
            service=self.service, baseline_version="1.0.0", candidate_version="1.1.0-rc.1", window_s=300
        )


@pytest_asyncio.fixture
async def rollout(prometheus_url: str, tenant: str) -> AsyncIterator[Rollout]:
    async with AsyncExitStack() as stack:
        yield Rollout(stack, prometheus_url)


async def test_planted_errors_are_found_and_counted_exactly(start: "Start", prometheus_url: str, rollout: Rollout) -> None:
    evaluation = await start(prometheus_url=prometheus_url)
    await rollout.ask(await rollout.version("1.0.0"), 400)
    await rollout.ask(await rollout.version("1.1.0-rc.1", fault_ratio=0.2), 400)
    await rollout.scraped()
    judged = await evaluation.JudgeRollout(rollout.request())
    assert judged.verdict == pb.VERDICT_WORSE, judged.explanation
    assert (judged.baseline.version, judged.baseline.request_count, judged.baseline.error_count) == ("1.0.0", 400, 0)
    assert judged.candidate.request_count == 400
    assert 45 < judged.candidate.error_count < 120
    assert 0 < judged.baseline.p99_s < 5


async def test_equal_versions_show_no_difference(start: "Start", prometheus_url: str, rollout: Rollout) -> None:
    evaluation = await start(prometheus_url=prometheus_url)
    one, two = await rollout.version("1.0.0"), await rollout.version("1.1.0-rc.1")
    for _ in range(30):  # by turns, so that both meet the same machine
        await rollout.ask(one, 20)
        await rollout.ask(two, 20)
    await rollout.scraped()
    judged = await evaluation.JudgeRollout(rollout.request())
    assert judged.verdict == pb.VERDICT_NO_DIFFERENCE, judged.explanation
    assert (judged.baseline.request_count, judged.candidate.request_count) == (600, 600)


async def test_a_slow_candidate_is_worse(start: "Start", prometheus_url: str, rollout: Rollout) -> None:
    evaluation = await start(prometheus_url=prometheus_url)
    await rollout.ask(await rollout.version("1.0.0"), 300)
    await rollout.ask(await rollout.version("1.1.0-rc.1", servicer=Slow()), 300)
    await rollout.scraped()
    judged = await evaluation.JudgeRollout(rollout.request())
    assert judged.verdict == pb.VERDICT_WORSE, judged.explanation
    assert judged.candidate.p99_s > 0.1 > judged.baseline.p99_s


async def test_p99_is_what_prometheus_would_say(start: "Start", prometheus_url: str, rollout: Rollout) -> None:
    evaluation = await start(prometheus_url=prometheus_url)
    await rollout.ask(await rollout.version("1.0.0"), 300)
    await rollout.scraped()
    judged = await evaluation.JudgeRollout(rollout.request())
    bucket = f'rapport_rpc_server_duration_seconds_bucket{{service="{rollout.service}"}}'
    async with httpx.AsyncClient(base_url=prometheus_url, trust_env=False) as client:
        query = {"query": f"histogram_quantile(0.99, sum by (le) ({bucket}))"}
        answer = (await client.get("/api/v1/query", params=query)).json()
    assert judged.baseline.p99_s == pytest.approx(float(answer["data"]["result"][0]["value"][1]))
    assert judged.verdict == pb.VERDICT_NOT_ENOUGH_DATA
    assert "1.1.0-rc.1 answered no requests" in judged.explanation


async def test_no_metrics_source_is_not_enough_data(evaluation: "EvaluationAsyncStub", tenant: str) -> None:
    request = pb.JudgeRolloutRequest(service="scoring", baseline_version="1", candidate_version="2", window_s=300)
    judged = await evaluation.JudgeRollout(request)
    assert judged.verdict == pb.VERDICT_NOT_ENOUGH_DATA
    assert "no metrics source" in judged.explanation
    assert (judged.baseline.version, judged.candidate.version) == ("1", "2")


async def test_a_metrics_source_that_is_gone_is_unavailable(start: "Start", tenant: str) -> None:
    evaluation = await start(prometheus_url="http://127.0.0.1:1")
    request = pb.JudgeRolloutRequest(service="scoring", baseline_version="1", candidate_version="2", window_s=300)
    with pytest.raises(Unavailable) as refused:
        await evaluation.JudgeRollout(request)
    assert refused.value.reason is Reason.METRICS_UNAVAILABLE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"service": 'scoring"} or vector(1) #'}, "service"),
        ({"service": ""}, "service"),
        ({"baseline_version": '1"}'}, "baseline_version"),
        ({"candidate_version": "2\n"}, "candidate_version"),
        ({"candidate_version": "1"}, "candidate_version"),
        ({"window_s": 0}, "window_s"),
        ({"window_s": 10**9}, "window_s"),
    ],
)
async def test_what_could_change_the_query_is_refused(
    evaluation: "EvaluationAsyncStub", tenant: str, changes: dict[str, Any], field: str
) -> None:
    values: dict[str, Any] = {"service": "scoring", "baseline_version": "1", "candidate_version": "2", "window_s": 300}
    with pytest.raises(InvalidArgument) as refused:
        await evaluation.JudgeRollout(pb.JudgeRolloutRequest(**(values | changes)))
    assert refused.value.field == field
