"""What can be set, what is refused and how, and what follows from a value."""

import importlib
import re
from typing import Any

import pytest
import yaml

from chassis.settings import rows_of
from tests.charts.rendering import (
    CHARTS,
    DELIVERED,
    DEPENDENCIES,
    PEOPLE,
    RAPPORT,
    SWITCHES,
    everything_on,
    lint,
    named,
    of_kind,
    refused,
    render,
)

SERVICES = ("gateway", "profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")


@pytest.mark.parametrize(("chart", "file"), DELIVERED)
def test_helm_has_nothing_against_it(chart: str, file: str) -> None:
    done = lint(chart, file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("chart", "switch"), [(chart, switch) for chart, all_ in SWITCHES.items() for switch in all_])
def test_every_switch_changes_what_is_written(chart: str, switch: tuple[str, ...]) -> None:
    before, after = ([each for each in render(chart, *sets) if each["kind"] != "Secret"] for sets in ((), switch))
    assert before != after


def test_all_switches_go_together() -> None:
    written = {each["kind"] for each in render(RAPPORT, *everything_on(RAPPORT), "database.maxConnections=500")}
    assert {"HorizontalPodAutoscaler", "Ingress", "HTTPRoute", "ServiceMonitor", "PrometheusRule", "PriorityClass"} <= written


@pytest.mark.parametrize(
    ("chart", "setting", "said"),
    [
        (RAPPORT, "services.gateway.replica=3", "'/services/gateway': additional properties 'replica' not allowed"),
        (RAPPORT, "servces.gateway.replicas=3", "additional properties 'servces' not allowed"),
        (RAPPORT, "drain.preStopSecond=1", "'/drain': additional properties 'preStopSecond' not allowed"),
        (RAPPORT, "services.scoring.replicas=two", "'/services/scoring/replicas': got string, want integer"),
        (RAPPORT, "archive.enabled=perhaps", "'/archive/enabled': got string, want boolean"),
        (RAPPORT, "oidc.issuer=http://login.example", "'/oidc/issuer': 'http://login.example' does not match pattern"),
        (RAPPORT, "oidc.issuer=https://login.example", "'/oidc/audience': minLength"),
        (RAPPORT, "gateway.type=Nodeport", "'/gateway/type': value must be one of"),
        (RAPPORT, "retention.schedule=daily", "'/retention/schedule': 'daily' does not match pattern"),
        (RAPPORT, "database.existingSecret=", "'/database/existingSecret': minLength"),
        (RAPPORT, "outside.kafka.securty=SSL", "'/outside/kafka': additional properties 'securty' not allowed"),
        (RAPPORT, "outside.kafka.security=TLS", "'/outside/kafka/security': value must be one of"),
        (RAPPORT, "outside.kafka.sasl.usr=rapport", "'/outside/kafka/sasl': additional properties 'usr' not allowed"),
        (RAPPORT, "outside.kafka.ca.secret=ca", "'/outside/kafka/ca': additional properties 'secret' not allowed"),
        (RAPPORT, "outside.kafka.security=SASL_SSL", "'/outside/kafka/sasl/user': minLength"),
        (RAPPORT, "outside.kafka.sasl.user=rapport", "'/outside/kafka/sasl/user': maxLength"),
        (RAPPORT, "outside.kafka.ca.existingSecret=ca", "'/outside/kafka/ca/existingSecret': maxLength"),
        (DEPENDENCIES, "postgres.storge=memory", "'/postgres': additional properties 'storge' not allowed"),
        (DEPENDENCIES, "postgres.size=ten", "'/postgres/size': 'ten' does not match pattern"),
    ],
)
def test_a_mistake_is_refused_with_the_key_s_name(chart: str, setting: str, said: str) -> None:
    assert said in refused(chart, setting)


def test_more_connections_than_postgresql_has_are_refused() -> None:
    said = refused(RAPPORT, "services.profiles.databaseConnections=40")
    assert "may open" in said
    assert "database.maxConnections (200) less database.reservedConnections (10) allows 190" in said


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("values.yaml", ("autoscaling.enabled=true",)),
        ("values-dev.yaml", ("autoscaling.enabled=true",)),
        ("values-production.yaml", ()),
    ],
)
def test_the_connections_suffice_at_the_autoscaler_s_maximum(file: str, settings: tuple[str, ...]) -> None:
    manifests = render(RAPPORT, *settings, file=file)
    most = {each["metadata"]["name"]: each["spec"]["maxReplicas"] for each in of_kind(manifests, "HorizontalPodAutoscaler")}
    assert "gateway" in most
    assert "scoring" in most
    total = 0
    for service in SERVICES:
        replicas = most.get(service) or named(manifests, "Deployment", service)["spec"]["replicas"]
        pool = named(manifests, "ConfigMap", service)["data"][f"RAPPORT_{service.upper()}_DATABASE_CONNECTIONS"]
        total += (replicas + min(replicas, 2)) * int(pool)  # a rollout's new pod, and one that drains
    values: dict[str, Any] = {}
    for name in ("values.yaml", file):
        values |= yaml.safe_load((CHARTS / RAPPORT / name).read_text()).get("database", {})
    assert total < values["maxConnections"] - values["reservedConnections"]


def test_development_s_postgresql_has_the_connections_that_the_chart_counts_with() -> None:
    ours = yaml.safe_load((CHARTS / RAPPORT / "values-dev.yaml").read_text())["database"]["maxConnections"]
    container = named(render(DEPENDENCIES), "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    assert f"max_connections={ours}" in container["args"]


def test_production_s_postgresql_has_the_connections_that_the_chart_counts_with() -> None:
    ours = yaml.safe_load((CHARTS / RAPPORT / "values-production.yaml").read_text())["database"]["maxConnections"]
    cluster = named(render(DEPENDENCIES, file="values-production.yaml"), "Cluster", "postgres")
    assert cluster["spec"]["postgresql"]["parameters"]["max_connections"] == str(ours)


def test_a_changed_setting_rolls_the_pods_of_its_service_only() -> None:
    before, after = (render(RAPPORT, *settings) for settings in ((), ("services.feedback.settings.case_hours=12",)))
    changed = {
        service
        for service in SERVICES
        if named(before, "Deployment", service)["spec"]["template"] != named(after, "Deployment", service)["spec"]["template"]
    }
    assert changed == {"feedback"}
    assert named(after, "ConfigMap", "feedback")["data"]["RAPPORT_FEEDBACK_CASE_HOURS"] == "12"


def test_every_setting_is_one_that_its_service_has() -> None:
    for service in SERVICES:
        settings = importlib.import_module(f"services.{service}.main").Settings
        written = named(render(RAPPORT), "ConfigMap", service)["data"]
        assert set(written) <= {name for name, _, _ in rows_of(settings)}, service


@pytest.mark.parametrize(("pre_stop", "unready", "grace"), [(5, 2, 15), (0, 0, 1), (30, 10, 60)])
def test_a_pod_s_grace_period_covers_its_drain(pre_stop: int, unready: int, grace: int) -> None:
    sets = (f"drain.preStopSeconds={pre_stop}", f"drain.unreadySeconds={unready}", f"drain.graceSeconds={grace}")
    spec = named(render(RAPPORT, *sets), "Deployment", "profiles")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > pre_stop + unready + grace
    hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert hook == pre_stop


def test_no_rollout_takes_a_pod_away_before_the_next_is_ready() -> None:
    for deployment in of_kind(render(RAPPORT), "Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_services_are_found_by_name_without_an_address_of_their_own() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(render(RAPPORT), "Service")}
    assert {name for name, spec in services.items() if spec.get("clusterIP") == "None"} == {"gateway-pods", *SERVICES[1:]}
    assert services["gateway"]["type"] == "ClusterIP"


def test_custom_resources_are_written_on_request_only() -> None:
    assert not {each["apiVersion"] for each in render(RAPPORT)} & {
        "monitoring.coreos.com/v1",
        "gateway.networking.k8s.io/v1",
        "postgresql.cnpg.io/v1",
    }


def test_the_notes_name_the_next_command() -> None:
    notes = (CHARTS / RAPPORT / "templates" / "NOTES.txt").read_text()
    assert re.search(r"helm test \{\{ .Release.Name \}\}", notes)


def test_the_gateway_is_told_of_the_identity_provider_and_has_the_secret_from_a_secret() -> None:
    manifests = render(RAPPORT, *PEOPLE, "oidc.existingSecret=rapport-oidc", "oidc.rolesClaim=realm_access.roles")
    told = named(manifests, "ConfigMap", "gateway")["data"]
    assert told["RAPPORT_GATEWAY_OIDC_ISSUER"] == "https://login.example"
    assert told["RAPPORT_GATEWAY_OIDC_ROLES_CLAIM"] == "realm_access.roles"
    (container,) = named(manifests, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}
    assert secrets["RAPPORT_GATEWAY_OIDC_CLIENT_SECRET"] == {"name": "rapport-oidc", "key": "client-secret"}
    others = [each for each in of_kind(manifests, "ConfigMap") if each["metadata"]["name"] in SERVICES[1:]]
    assert "OIDC" not in str(others)
