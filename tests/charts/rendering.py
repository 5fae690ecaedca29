"""What the charts write, by a real helm."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

CHARTS: Final = Path(__file__).resolve().parents[2] / "charts"
RAPPORT: Final = "rapport"
DEPENDENCIES: Final = "rapport-dependencies"
NAMESPACE: Final = "shop"
TIMEOUT_S: Final = 60

Manifest = dict[str, Any]

# (chart, values files, the last one counts most) of everything that is delivered.
DELIVERED: Final = (
    (RAPPORT, "values.yaml"),
    (RAPPORT, "values-dev.yaml"),
    (RAPPORT, "values-production.yaml"),
    (RAPPORT, "values-production.yaml values-kafka-strimzi.yaml"),
    (RAPPORT, "values-production.yaml values-kafka-managed.yaml"),
    (DEPENDENCIES, "values.yaml"),
    (DEPENDENCIES, "values-production.yaml"),
)

# With people who sign in.
PEOPLE: Final = ("oidc.issuer=https://login.example", "oidc.audience=rapport", "oidc.publicUrl=https://rapport.example")

# As a user of a Kafka whose certificates are signed by an authority of its own.
KAFKA_USER: Final = (
    "outside.kafka.security=SASL_SSL",
    "outside.kafka.sasl.user=rapport",
    "outside.kafka.sasl.existingSecret=pw",
)
KAFKA_CA: Final = "outside.kafka.ca.existingSecret=authority"

# Each changes what is written. The values that a switch needs beside it are with it.
SWITCHES: Final = {
    RAPPORT: (
        ("codeSync=true",),
        ("autoscaling.enabled=true",),
        ("priority.create=true", "priority.className=rapport"),
        ("archive.enabled=false",),
        ("networkPolicy.enabled=false",),
        ("recompute.enabled=false",),
        ("rescore.enabled=false",),
        ("retention.enabled=false",),
        ("matching.enabled=false",),
        ("migration.contract=true",),
        ("training.tenants={shop,other}",),
        ("journey.enabled=true",),
        ("tracing.endpoint=http://collector:4317",),
        PEOPLE,
        (*PEOPLE, "oidc.existingSecret=rapport-oidc"),
        ("ingress.enabled=true", "ingress.host=a.example", "ingress.tlsSecret=tls", "ingress.className=nginx"),
        ("httpRoute.enabled=true", "httpRoute.gatewayName=edge", "httpRoute.hosts={a.example}"),
        ("serviceMonitor.enabled=true",),
        ("prometheusRule.enabled=true",),
        ("dashboards.enabled=true",),
        ("gateway.type=NodePort", "gateway.nodePort=30080"),
        ("drain.preStopSeconds=0",),
        ("relay.enabled=true",),
        ("relay.enabled=true", "log.source=kafka"),
        ("relay.enabled=true", "log.source=kafka", *KAFKA_USER, KAFKA_CA),
    ),
    DEPENDENCIES: (
        ("postgres.storage=memory", "postgres.size=512Mi"),
        ("mlflow.enabled=false",),
        ("prometheus.enabled=false",),
        ("networkPolicy.enabled=false",),
        ("postgres.enabled=false", "cloudnativepg.enabled=true"),
        ("postgres.enabled=false", "cloudnativepg.enabled=true", "cloudnativepg.backup.objectStore=store"),
        ("postgres.enabled=false", "cloudnativepg.enabled=true", "cloudnativepg.monitoringNamespace=monitoring"),
        ("kafka.enabled=true",),
        ("mlflow.databaseSecret=db", "mlflow.artifacts=s3://models", "mlflow.artifactsSecret=keys"),
    ),
}


def everything_on(chart: str) -> tuple[str, ...]:
    """All switches at once, the optional ones on; those that take something away stay as they are."""
    taking = ("=false", "preStopSeconds=0", "networkPolicy")
    return tuple(one for switch in SWITCHES[chart] if not any(word in switch[0] for word in taking) for one in switch)


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Skips where there is no helm."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("there is no helm in PATH, so the charts can't be rendered")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def _values(chart: str, file: str, settings: Sequence[str]) -> list[str]:
    files = [word for name in file.split() for word in ("--values", str(CHARTS / chart / name))]
    return [*files, *(word for setting in settings for word in ("--set", setting))]


@cache
def _rendered(chart: str, file: str, settings: tuple[str, ...]) -> str:
    done = helm("template", chart, str(CHARTS / chart), "--namespace", NAMESPACE, *_values(chart, file, settings))
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(chart: str, *settings: str, file: str = "values.yaml") -> list[Manifest]:
    """Everything that would be applied, hooks too."""
    return [each for each in yaml.load_all(_rendered(chart, file, settings), Loader=yaml.CSafeLoader) if each]


def refused(chart: str, *settings: str, file: str = "values.yaml") -> str:
    """What helm says of values that it refuses."""
    done = helm("template", chart, str(CHARTS / chart), "--namespace", NAMESPACE, *_values(chart, file, settings))
    assert done.returncode != 0, f"{settings} were taken"
    return done.stderr


def lint(chart: str, file: str) -> "subprocess.CompletedProcess[str]":
    """Helm's own opinion."""
    return helm("lint", "--strict", str(CHARTS / chart), *_values(chart, file, ()))


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """Raises StopIteration where there is none."""
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


def pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """(name, the pod's manifest or template) of everything that makes pods."""
    for each in manifests:
        name = f"{each['kind']} {each['metadata']['name']}"
        match each["kind"]:
            case "Pod":
                yield name, each
            case "Deployment" | "StatefulSet" | "Job":
                yield name, each["spec"]["template"]
            case "CronJob":
                yield name, each["spec"]["jobTemplate"]["spec"]["template"]
            case _:
                pass
