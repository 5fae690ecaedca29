"""Who may call whom: what the policies allow is what the metrics show, and nothing else gets through."""

import json

import pytest

from tests.cluster.conftest import TAG, Installed
from tests.cluster.kube import SERVICES, until
from tests.cluster.loader import Keys
from tests.cluster.metrics import ask

GRPC = 50051
PROBE = "import socket; socket.create_connection(('{host}', {port}), 3); print('open')"


def edges_that_are_allowed(installed: Installed) -> set[tuple[str, str]]:
    """(caller, called) between services, from the policies on the cluster."""
    found: set[tuple[str, str]] = set()
    for policy in installed.kube.get("networkpolicy")["items"]:
        called = policy["spec"]["podSelector"].get("matchLabels", {}).get("rapport.io/serves")
        called = called or policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component")
        for rule in policy["spec"].get("ingress", []):
            if not any(port.get("port") in (GRPC, "grpc") for port in rule.get("ports", [])):
                continue
            for peer in rule.get("from", []):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                caller = labels.get("app.kubernetes.io/component")
                if caller in SERVICES and called in SERVICES:
                    found.add((caller, called))
    return found


def test_the_edges_that_are_allowed_are_those_that_are_used(installed: Installed, keys: Keys) -> None:
    with installed.client(keys.private) as client:  # the one edge that the shop's way does not lead over
        for in_catalogue in (False, True):
            client.patch("/v1/items/P001", json={"inCatalogue": in_catalogue}).raise_for_status()
    until(
        "recommendation to tell the log",
        lambda: ("recommendation", "profiles") in used_edges(installed),
        patience_s=60,
        pause_s=3,
    )
    assert used_edges(installed) == edges_that_are_allowed(installed)


def used_edges(installed: Installed) -> set[tuple[str, str]]:
    """(caller, called), as the callers have counted, those that are gone included."""
    calls = ask(installed.kube, "sum by (job, target) (last_over_time(rapport_rpc_client_requests_total[6h])) > 0")
    return {(call["job"], call["target"]) for call in calls if call["job"] in SERVICES and call["target"] in SERVICES}


@pytest.fixture(scope="module")
def stranger(installed: Installed) -> str:
    """A pod that no edge names, with everything else as the namespace demands it."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "stranger",
        "image": f"rapport/gateway:{TAG}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "600"],
        "securityContext": security,
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}
    installed.kube.ctl("apply", "-f", "-", stdin=json.dumps(pod))
    installed.kube.ctl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
    return "pod/stranger"


@pytest.mark.parametrize(
    ("host", "port"), [*((service, GRPC) for service in SERVICES[1:]), ("postgres", 5432), ("mlflow", 5000)]
)
def test_a_pod_that_no_edge_names_gets_through_to_nobody(installed: Installed, stranger: str, host: str, port: int) -> None:
    with pytest.raises(AssertionError, match=r"timed out|refused|No route to host"):
        installed.kube.python(stranger, "-c", PROBE.format(host=host, port=port))


def test_a_service_gets_through_where_an_edge_leads_and_nowhere_else(installed: Installed) -> None:
    kube = installed.kube
    assert "open" in kube.python("deployment/scoring", "-c", PROBE.format(host="profiles", port=GRPC))
    with pytest.raises(AssertionError):
        kube.python("deployment/feedback", "-c", PROBE.format(host="scoring", port=GRPC))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"capabilities": {}}, "capabilities"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
    ],
)
def test_the_namespace_admits_no_pod_without_a_security_setting(
    installed: Installed, setting: dict[str, object], named: str
) -> None:
    pod = installed.kube.pods("scoring")[0]
    spec = pod["spec"]
    spec.pop("nodeName", None)
    for where in (spec["securityContext"], *(each["securityContext"] for each in spec["containers"])):
        where.update({name: value for name, value in setting.items() if name in where})
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": spec}
    with pytest.raises(AssertionError, match=named):
        installed.kube.ctl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(bare))


def test_prometheus_sees_every_service(installed: Installed) -> None:
    def seen() -> bool:
        return {each["job"] for each in ask(installed.kube, "up == 1")} >= set(SERVICES)

    until("Prometheus to see every service", seen, patience_s=60, pause_s=5)
