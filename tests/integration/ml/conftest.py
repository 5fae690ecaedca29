import os
import time
from collections.abc import Iterator

import httpx
import pytest

from infra import mlflow
from infra.ports import HOST, free_port
from infra.processes import spawn

PATIENCE_S = 120


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow, as the platform starts it."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    with (folder / "log").open("wb") as output:
        environment = {**os.environ, **mlflow.environment(folder)}
        process = spawn(mlflow.command(port), output=output, environment=environment, folder=folder)
    url = f"http://{HOST}:{port}"
    try:
        until = time.monotonic() + PATIENCE_S
        while not _is_up(url):
            log = (folder / "log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"MLflow ended: {log}"
            assert time.monotonic() < until, f"MLflow did not come up: {log}"
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


def _is_up(url: str) -> bool:
    try:
        # Its first answer makes the tables.
        return httpx.get(f"{url}/api/2.0/mlflow/registered-models/search", timeout=60, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
