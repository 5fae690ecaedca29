"""Rapport on the cluster that KUBECONFIG names, in a namespace of its own, as its README says to install it.

The images must be on the node, under the tag RAPPORT_IMAGE_TAG (dev). To see the upgrade from the release before, its images
must be there under RAPPORT_PREVIOUS_TAG, and its chart in the folder RAPPORT_PREVIOUS_CHART. FULL=1 runs the long form. To
work on these tests: KEEP=1 leaves everything up, and REUSE=1 then takes it as it is.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.cluster.kube import SERVICES, Kube, run, until
from tests.cluster.loader import Keys, Load
from tests.cluster.models import train_another

NAMESPACE = os.environ.get("RAPPORT_TEST_NAMESPACE", "rapport-test")
TAG = os.environ.get("RAPPORT_IMAGE_TAG", "dev")
PREVIOUS_TAG = os.environ.get("RAPPORT_PREVIOUS_TAG", "")
PREVIOUS_CHART = os.environ.get("RAPPORT_PREVIOUS_CHART", "")
FULL = os.environ.get("FULL") == "1"
KEEP = os.environ.get("KEEP") == "1"
REUSE = os.environ.get("REUSE") == "1"
PORT = 30080
CUSTOMERS, SEED = 1000, 7
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
# Requests a second: two cores are then half busy. At 60 they were at 80 %, and what starts beside that starves what serves.
RATE = 30.0
TENANT = "simulator"


@dataclass(frozen=True, slots=True)
class Installed:
    """A release that is up. `seconds` from the first command to the last pod that is ready."""

    kube: Kube
    seconds: float
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keys(self, tenant: str = TENANT) -> Keys:
        """Fresh ones."""
        return Keys(self.key(tenant, "--kind", "write"), self.key(tenant, "--kind", "private"))

    def key(self, tenant: str, *words: str) -> str:
        """The text of a fresh one."""
        return self.kube.python(
            "deployment/gateway", "-m", "services.gateway.administer", "create-key", tenant, *words
        ).splitlines()[0]

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def upgrade(self, *words: str) -> None:
        """`helm upgrade` with the development values and more."""
        self.kube.helm(*rapport(), "--wait", "--timeout", "6m", *words)


def rapport(chart: str = "charts/rapport", tag: str = TAG) -> tuple[str, ...]:
    """The words that install or upgrade the platform."""
    values = ("-f", f"{chart}/values-dev.yaml", "--set", f"image.tag={tag}", "--set", f"gateway.nodePort={PORT}")
    journey = ("--set", f"journey.customers={CUSTOMERS},journey.seed={SEED}", "--set", f"training.tenants={{{TENANT}}}")
    return ("upgrade", "--install", "rapport", chart, *values, *journey)


def dependencies() -> tuple[str, ...]:
    """The words that bring PostgreSQL, MLflow and Prometheus."""
    return ("upgrade", "--install", "rapport-dependencies", "charts/rapport-dependencies", "--set", f"image.tag={TAG}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One sentence where there is no cluster."""
    if why := _no_cluster():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))


def _no_cluster() -> str:
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            return f"no cluster: {program} is not in PATH"
    if not os.environ.get("KUBECONFIG"):
        return "no cluster: KUBECONFIG names none"
    done = subprocess.run(["kubectl", "get", "nodes", "--request-timeout=10s"], capture_output=True, text=True)
    return f"no cluster: {done.stderr.strip().splitlines()[-1]}" if done.returncode else ""


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    """Both charts, in an empty namespace that enforces `restricted`; the release before, where there is one to upgrade from."""
    kube = Kube(NAMESPACE)
    if REUSE:
        yield Installed(kube, 0.0)
        return
    remove(NAMESPACE)
    run("kubectl", "create", "namespace", NAMESPACE)
    run("kubectl", "label", "namespace", NAMESPACE, RESTRICTED)
    started = time.monotonic()
    try:
        kube.helm(*dependencies(), "--wait", "--timeout", "5m")
        # As its successor's chart has it: 0.2.0 ends pods while callers still have them in their lists.
        first = (*rapport(PREVIOUS_CHART, PREVIOUS_TAG), "--set", "drain.preStopSeconds=12") if PREVIOUS_TAG else rapport()
        kube.helm(*first, "--wait", "--timeout", "5m")
        kube.rolled_out(*SERVICES)
        yield Installed(kube, time.monotonic() - started)
    finally:
        if not KEEP:
            remove(NAMESPACE)


def remove(namespace: str) -> None:
    """The namespace with all that is in it; nothing where there is none."""
    run("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
    until(f"the end of {namespace}", lambda: not run("kubectl", "get", "namespace", namespace, "--ignore-not-found"))


@pytest.fixture(scope="session")
def report(installed: Installed) -> dict[str, Any]:
    """What the simulated shop found out on its way round the loop, as a Job in the cluster."""
    if not REUSE:
        installed.kube.job_of("journey", "journey-1")
    return json.loads(installed.kube.job_ended("journey-1", patience_s=900).splitlines()[-1])


@pytest.fixture(scope="session")
def keys(installed: Installed, report: dict[str, Any]) -> Keys:
    """Of the tenant whose shop has gone round the loop."""
    return installed.keys()


@pytest.fixture(scope="session")
def challenger(installed: Installed, keys: Keys) -> str:
    """A second version of its model, trained and judged before the traffic begins."""
    if REUSE:
        return "2"
    with installed.client(keys.private) as client:
        return train_another(installed.kube, client, TENANT, keys)


@pytest.fixture(scope="session")
def refs(installed: Installed, keys: Keys) -> list[str]:
    """Some of its customers."""
    with installed.client(keys.private) as client:
        answer = client.get("/v1/profiles", params={"limit": 100})
        answer.raise_for_status()
        return [each["profileId"] for each in answer.json()["data"]]


@pytest.fixture(scope="module")
def load(installed: Installed, keys: Keys, refs: list[str], challenger: str) -> Iterator[Load]:
    """Traffic for as long as the module runs; its table at the end."""
    name = f"load-{time.time_ns() // 1_000_000}"
    with Load("127.0.0.1", PORT, keys, refs, rate=RATE, name=name) as running:
        time.sleep(5)
        yield running
    print(f"\n{running.table()}")
