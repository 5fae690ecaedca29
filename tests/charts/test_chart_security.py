"""No pod has more rights than it needs, and each setting that says so is missed when it is gone."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.charts.rendering import DELIVERED, DEPENDENCIES, RAPPORT, everything_on, of_kind, pods, render

Spec = dict[str, Any]


def faults(spec: Spec) -> Iterator[str]:
    """What the Pod Security Standard `restricted`, and this project beyond it, would have otherwise."""
    pod = spec.get("securityContext", {})
    if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
        yield "may run as root"
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "is given a token for the API server"
    if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace with its node"
    if any("hostPath" in volume for volume in spec.get("volumes", [])):
        yield "sees its node's disk"
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        yield from (f"{fault}: {container['name']}" for fault in _faults_of_container(container))


def _faults_of_container(container: Spec) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its own image"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield "may take all memory"
    if "cpu" not in container.get("resources", {}).get("requests", {}):
        yield "asks for no processor"
    written = [entry["name"] for entry in container.get("env", []) if "value" in entry]
    if any(word in name for name in written for word in ("SECRET", "PASSWORD") if not name.endswith("_FILE")):
        yield "has a secret in its manifest"


@pytest.mark.parametrize(("chart", "file"), DELIVERED)
def test_every_pod_is_restricted(chart: str, file: str) -> None:
    found = list(pods(render(chart, file=file)))
    assert found
    assert {name: list(faults(pod["spec"])) for name, pod in found} == {name: [] for name, _ in found}


def test_every_pod_is_restricted_with_all_switches_on() -> None:
    found = list(pods(render(RAPPORT, *everything_on(RAPPORT), "database.maxConnections=500")))
    assert {name: list(faults(pod["spec"])) for name, pod in found} == {name: [] for name, _ in found}
    assert {name.split()[0] for name, _ in found} == {"Deployment", "Job", "CronJob", "Pod"}


REMOVALS: dict[str, Callable[[Spec], Any]] = {
    "may run as root": lambda spec: spec["securityContext"].pop("runAsNonRoot"),
    "has no seccomp profile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "is given a token for the API server": lambda spec: spec.pop("automountServiceAccountToken"),
    "shares a namespace with its node": lambda spec: spec.update(hostNetwork=True),
    "sees its node's disk": lambda spec: spec["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}),
    "may gain privileges": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "may write to its own image": lambda spec: spec["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    "keeps capabilities": lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
    "may take all memory": lambda spec: spec["containers"][0]["resources"].pop("limits"),
    "asks for no processor": lambda spec: spec["containers"][0]["resources"].pop("requests"),
    "has a secret in its manifest": lambda spec: (
        spec["containers"][0].setdefault("env", []).append({"name": "DATABASE_PASSWORD", "value": "x"})
    ),
}


@pytest.mark.parametrize("fault", REMOVALS)
def test_each_setting_is_missed_when_it_is_gone(fault: str) -> None:
    for name, pod in pods([*render(RAPPORT), *render(DEPENDENCIES)]):
        spec = copy.deepcopy(pod["spec"])
        REMOVALS[fault](spec)
        assert [found.split(":")[0] for found in faults(spec)] == [fault], name


def test_no_service_account_mounts_a_token() -> None:
    accounts = of_kind(render(RAPPORT), "ServiceAccount")
    assert [account["automountServiceAccountToken"] for account in accounts] == [False] * 7


@pytest.mark.parametrize("file", ["values.yaml", "values-dev.yaml", "values-production.yaml"])
def test_the_chart_makes_no_secret(file: str) -> None:
    assert of_kind(render(RAPPORT, file=file), "Secret") == []


def test_generated_secrets_outlive_their_release() -> None:
    secrets = of_kind(render(DEPENDENCIES), "Secret")
    assert {secret["metadata"]["name"] for secret in secrets} == {
        "postgres-admin",
        "postgres-roles",
        "rapport-database",
        "rapport-master-key",
    }
    assert all(secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for secret in secrets)


def test_production_generates_no_secret() -> None:
    assert of_kind(render(DEPENDENCIES, file="values-production.yaml"), "Secret") == []


def test_every_container_may_write_to_tmp() -> None:
    for name, pod in pods([*render(RAPPORT), *render(DEPENDENCIES)]):
        for container in pod["spec"]["containers"]:
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name
