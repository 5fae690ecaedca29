"""The platform as a library: what is up inside, what MLflow and Prometheus do for it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import asyncpg
import httpx
import psutil
import pytest
import pytest_asyncio

from infra.readiness import grpc_serving
from infra.state import opened
from infra.supervisor import START_STEPS, Platform
from infra.topology import CANDIDATE
from tests.integration.infra.stand_ins import folder_open_to_all, free_base

HEARD: list[str] = []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(module_path: str) -> AsyncIterator[Platform]:
    with folder_open_to_all() as folder, pytest.MonkeyPatch.context() as patch, opened(folder / "state") as state:
        patch.setenv("PYTHONPATH", module_path)
        async with Platform(state, free_base(), says=HEARD.append) as platform:
            yield platform


async def test_it_says_what_it_does_as_often_as_a_progress_bar_expects(platform: Platform) -> None:
    assert platform.pid("gateway")
    assert len(HEARD) == START_STEPS


async def test_a_service_connects_as_its_own_role(platform: Platform) -> None:
    connection = await asyncpg.connect(platform.dsn("rapport_scoring"), ssl=False)
    try:
        assert await connection.fetchval("SELECT current_user || '@' || current_database()") == "rapport_scoring@rapport"
    finally:
        await connection.close()


async def test_the_database_is_not_roots(platform: Platform) -> None:
    owner = psutil.Process(platform.pid("postgres")).uids().effective
    assert owner != 0
    assert owner == os.geteuid() or os.geteuid() == 0


async def test_what_another_user_may_read_of_the_database_holds_no_secret_of_ours(platform: Platform) -> None:
    assert sorted(psutil.Process(platform.pid("postgres")).environ()) == ["LC_ALL", "PATH"]


async def test_memory_is_counted_for_each_process_with_its_children(platform: Platform) -> None:
    sizes = platform.memory()
    assert {"postgres", "mlflow", "profiles", "gateway", "supervisor"} <= set(sizes)
    assert all(size > 1_000_000 for size in sizes.values())
    assert sizes["mlflow"] < 300_000_000


async def test_a_candidate_is_started_and_ended_on_request(platform: Platform) -> None:
    is_up = grpc_serving(platform.ports.listen(CANDIDATE))
    assert not await is_up()
    await platform.start_process(CANDIDATE, {"RAPPORT_SCORING_VERSION": "0.2.0"})
    assert await is_up()
    assert psutil.Process(platform.pid(CANDIDATE)).environ()["RAPPORT_SCORING_VERSION"] == "0.2.0"
    await platform.stop_process(CANDIDATE)
    assert not await is_up()
    assert platform.pid(CANDIDATE) is None


async def test_mlflow_passes_artifacts_on_so_that_clients_need_only_its_address(platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=platform.mlflow_url, trust_env=False, timeout=60) as client:
        made = await client.post("/api/2.0/mlflow/experiments/create", json={"name": "churn"})
        assert made.status_code == 200
        found = await client.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": made.json()["experiment_id"]})
        assert found.json()["experiment"]["artifact_location"].startswith("mlflow-artifacts:/")
        path = "/api/2.0/mlflow-artifacts/artifacts/1/run/model.ubj"
        assert (await client.put(path, content=b"trees")).status_code == 200
        assert (await client.get(path)).content == b"trees"
    assert (platform.state.mlflow / "artifacts" / "1" / "run" / "model.ubj").read_bytes() == b"trees"
    assert (platform.state.mlflow / "mlflow.db").exists()


async def test_mlflow_answers_to_this_machines_names_only(platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=platform.mlflow_url, trust_env=False, timeout=60) as client:
        path = "/api/2.0/mlflow/experiments/search"
        answer = await client.post(path, json={"max_results": 1}, headers={"host": "evil.example"})
        assert answer.status_code == 403


async def test_mlflow_has_neither_assistant_nor_job_runner(platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=platform.mlflow_url, trust_env=False, timeout=60) as client:
        for path in ("/ajax-api/3.0/mlflow/assistant/config", "/ajax-api/3.0/jobs/1"):
            assert (await client.get(path)).status_code == 404


async def test_prometheus_sees_the_services_or_the_platform_says_why_not(platform: Platform) -> None:
    if platform.prometheus_url is None:
        assert platform.missing["prometheus"].endswith(".")
        return
    async with httpx.AsyncClient(base_url=platform.prometheus_url, trust_env=False) as client:
        until = time.monotonic() + 20
        while not {"profiles", "scoring"} <= (seen := await _up(client)):
            assert time.monotonic() < until, seen
            await asyncio.sleep(0.5)


async def _up(client: httpx.AsyncClient) -> set[str]:
    answer = await client.get("/api/v1/query", params={"query": "up == 1"})
    return {series["metric"]["job"] for series in answer.json()["data"]["result"]}
