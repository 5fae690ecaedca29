"""Who may call whom: the table below, and nothing else."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from infra.topology import BY_NAME, SERVICES
from tests.charts.rendering import DEPENDENCIES, PEOPLE, RAPPORT, Manifest, of_kind, pods, render

GRPC, HTTP, METRICS, POSTGRES, MLFLOW, KAFKA = 50051, 8080, 9090, 5432, 5000, 9092
NOUNS: Final = ("gateway", "profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")

Edge = tuple[str, str, int]

CALLS: Final[frozenset[Edge]] = frozenset(
    {
        *(("gateway", service, GRPC) for service in NOUNS if service != "gateway"),
        *((service, "profiles", GRPC) for service in ("segmentation", "scoring", "recommendation", "feedback", "evaluation")),
        *((service, "postgres", POSTGRES) for service in NOUNS),
        ("scoring", "mlflow", MLFLOW),
        ("evaluation", "mlflow", MLFLOW),
        ("evaluation", "prometheus", METRICS),
        *(("prometheus", service, METRICS) for service in NOUNS),
        ("clients", "gateway", HTTP),
        ("migrate", "postgres", POSTGRES),
        *(("test", called, port) for called, port in (("gateway", HTTP), ("profiles", GRPC), ("postgres", POSTGRES))),
        ("rescore", "profiles", GRPC),
        ("rescore", "postgres", POSTGRES),
        ("rescore", "mlflow", MLFLOW),
        ("recompute", "profiles", GRPC),
        ("recompute", "postgres", POSTGRES),
        ("retention", "postgres", POSTGRES),
        ("matching", "postgres", POSTGRES),
        ("training", "gateway", HTTP),
        ("training", "mlflow", MLFLOW),
        *(("journey", called, port) for called, port in (("gateway", HTTP), ("profiles", GRPC))),
        *(("journey", called, port) for called, port in (("postgres", POSTGRES), ("mlflow", MLFLOW))),
    }
)
READERS: Final = ("segmentation", "scoring", "recommendation", "feedback", "evaluation")
# What more there is where the log is followed in Kafka.
KAFKA_CALLS: Final[frozenset[Edge]] = frozenset(
    {
        *((caller, "kafka", KAFKA) for caller in (*READERS, "relay", "journey")),
        ("relay", "postgres", POSTGRES),
        ("prometheus", "relay", METRICS),
    }
)
JOBS: Final = ("journey.enabled=true", "training.tenants={shop}")
DNS: Final = ("name service", 53)


def peer_of(peer: Manifest) -> str:
    """Whom a peer of a policy means: a component, or the name service."""
    if "ipBlock" in peer:
        return "provider"
    labels = peer["podSelector"].get("matchLabels", {})
    if labels.get("k8s-app") == "kube-dns":
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
        return DNS[0]
    if labels == {"rapport.io/client": "true"}:
        return "clients"
    return labels.get("app.kubernetes.io/component") or labels.get("rapport.io/serves") or "all services"


def subject_of(policy: Manifest) -> str:
    labels = policy["spec"]["podSelector"]["matchLabels"]
    return labels.get("app.kubernetes.io/component") or labels.get("rapport.io/serves") or "all"


def rules(policies: Sequence[Manifest], direction: str) -> Iterator[tuple[str, str, int]]:
    """(whose policy, the other side, port)."""
    side = {"egress": "to", "ingress": "from"}[direction]
    for policy in policies:
        for rule in policy["spec"].get(direction, []):
            for peer in rule[side]:
                yield from ((subject_of(policy), peer_of(peer), port["port"]) for port in rule["ports"])


@pytest.fixture(scope="module")
def rapport() -> list[Manifest]:
    return of_kind(render(RAPPORT, *JOBS), "NetworkPolicy")


@pytest.fixture(scope="module")
def dependencies() -> list[Manifest]:
    return of_kind(render(DEPENDENCIES), "NetworkPolicy")


def test_what_may_be_called_is_the_table(rapport: list[Manifest]) -> None:
    ours = {*NOUNS, "migrate", "test", "rescore", "recompute", "retention", "matching", "training", "journey"}
    allowed = set(rules(rapport, "egress"))
    assert {edge for edge in allowed if edge[1:] != DNS} == {edge for edge in CALLS if edge[0] in ours}
    assert {edge[0] for edge in allowed if edge[1:] == DNS} == ours


def test_what_may_call_is_the_table(rapport: list[Manifest]) -> None:
    allowed = {(caller, called, port) for called, caller, port in rules(rapport, "ingress")}
    assert allowed == {edge for edge in CALLS if edge[1] in NOUNS}


def test_with_the_log_in_kafka_its_readers_and_the_relay_call_it_and_nobody_else_does() -> None:
    ours = of_kind(render(RAPPORT, *JOBS, "relay.enabled=true", "log.source=kafka"), "NetworkPolicy")
    allowed = {edge for edge in rules(ours, "egress") if edge[1:] != DNS}
    incoming = {(caller, called, port) for called, caller, port in rules(ours, "ingress")}
    assert (allowed | incoming) - CALLS == KAFKA_CALLS
    theirs = of_kind(render(DEPENDENCIES, "kafka.enabled=true"), "NetworkPolicy")
    assert {edge for edge in rules(theirs, "ingress") if edge[0] == "kafka"} == {
        ("kafka", caller, port) for caller, called, port in KAFKA_CALLS if called == "kafka"
    }


def test_the_gateway_alone_calls_the_identity_provider_and_only_where_there_is_one() -> None:
    allowed = set(rules(of_kind(render(RAPPORT, *JOBS, *PEOPLE), "NetworkPolicy"), "egress"))
    assert {edge for edge in allowed if edge[1:] != DNS} - CALLS == {("gateway", "provider", 443)}


def test_the_dependencies_let_in_whom_the_table_names(dependencies: list[Manifest]) -> None:
    allowed = {(caller, called, port) for called, caller, port in rules(dependencies, "ingress")}
    # Also where the log is followed in Kafka: the dependencies do not know.
    called = ("postgres", "mlflow", "prometheus")
    assert allowed == {edge for edge in CALLS | KAFKA_CALLS if edge[1] in called}
    assert set(rules(dependencies, "egress")) == {("prometheus", *DNS), ("prometheus", "all services", METRICS)}


@pytest.mark.parametrize("chart", [RAPPORT, DEPENDENCIES])
def test_whatever_is_not_allowed_is_denied(chart: str) -> None:
    manifests = render(chart, *(JOBS if chart == RAPPORT else ()))
    denying = next(each for each in of_kind(manifests, "NetworkPolicy") if each["metadata"]["name"] == f"{chart}-default-deny")
    assert denying["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in denying["spec"]
    assert "egress" not in denying["spec"]
    selector = denying["spec"]["podSelector"]["matchLabels"].items()
    assert all(selector <= pod["metadata"]["labels"].items() for _, pod in pods(manifests))


@pytest.mark.parametrize("chart", [RAPPORT, DEPENDENCIES])
def test_policies_use_what_every_network_knows(chart: str) -> None:
    text = repr(of_kind(render(chart), "NetworkPolicy"))
    assert "endPort" not in text
    assert "except" not in text


def test_the_migration_may_call_before_the_release_is_there() -> None:
    """A hook comes before the release's own policies, so its policy is a hook too, and an earlier one."""
    hooks = [each for each in render(RAPPORT) if each["metadata"].get("annotations", {}).get("helm.sh/hook")]
    before = [each for each in hooks if "pre-upgrade" in each["metadata"]["annotations"]["helm.sh/hook"]]
    before.sort(key=lambda each: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]))
    assert [(each["kind"], each["metadata"]["name"]) for each in before] == [
        ("NetworkPolicy", "rapport-from-migrate"),
        ("Job", "migrate"),
    ]


def test_one_machine_and_the_cluster_agree_on_who_calls_whom() -> None:
    peers = {service.name: set(service.peers) for service in SERVICES if not service.is_candidate}
    assert peers == {
        noun: {called for caller, called, port in CALLS if caller == noun and port == GRPC} for noun in BY_NAME if noun in NOUNS
    }


def test_each_service_is_told_where_its_peers_are() -> None:
    for noun in NOUNS:
        settings: dict[str, Any] = next(
            each["data"] for each in of_kind(render(RAPPORT), "ConfigMap") if each["metadata"]["name"] == noun
        )
        told = {name.removesuffix("_TARGET").split("_")[-1].lower() for name in settings if name.endswith("_TARGET")}
        assert told == {called for caller, called, port in CALLS if caller == noun and port == GRPC}


def test_the_second_scoring_of_a_journey_is_found_as_scoring() -> None:
    manifests = render(RAPPORT, *JOBS)
    selector = next(each for each in of_kind(manifests, "Service") if each["metadata"]["name"] == "scoring")["spec"]["selector"]
    found = {name for name, pod in pods(manifests) if selector.items() <= pod["metadata"]["labels"].items()}
    assert found == {"Deployment scoring", "CronJob journey"}
