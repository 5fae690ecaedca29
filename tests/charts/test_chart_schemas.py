"""What the charts write is what Kubernetes, the operators and Skaffold publish as their schema."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts.rendering import CHARTS, DEPENDENCIES, RAPPORT, SWITCHES, Manifest, everything_on, render

SCHEMAS: Final = Path(__file__).parent / "schemas"
VERSIONS: Final = ("1.31", "1.32", "1.33", "1.34")
OPERATORS: Final = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "postgresql.cnpg.io/v1")
MORE_CONNECTIONS: Final = "database.maxConnections=500"

kubernetes_validate: Any = pytest.importorskip(
    "kubernetes_validate", reason="there is no kubernetes-validate: run make install-dev"
)
jsonschema: Any = pytest.importorskip("jsonschema", reason="there is no jsonschema: run make install-dev")


def each_way() -> dict[str, list[Manifest]]:
    """Every values file, every switch turned, all together."""
    ways = {f"{chart} {file}": render(chart, file=file) for chart, file in _files()}
    for chart, switches in SWITCHES.items():
        ways |= {f"{chart} {' '.join(switch)}": render(chart, *switch) for switch in switches}
    ways[f"{RAPPORT} all"] = render(RAPPORT, *everything_on(RAPPORT), MORE_CONNECTIONS)
    return ways


def _files() -> Sequence[tuple[str, str]]:
    return [(path.parent.name, path.name) for path in sorted(CHARTS.glob("*/values*.yaml"))]


@cache
def unlike() -> tuple[Manifest, ...]:
    """Most ways write most manifests the same."""
    found = {json.dumps(each, sort_keys=True): each for manifests in each_way().values() for each in manifests}
    return tuple(found.values())


def faults(manifest: Manifest, version: str = VERSIONS[-1]) -> list[str]:
    """What is wrong by the schema. Kinds of operators have schemas of their own."""
    if manifest["apiVersion"] in OPERATORS:
        found = [error.message for error in validator(manifest["kind"].lower()).iter_errors(manifest)]
    else:
        found = _kubernetes_faults(manifest, version)
    return [f"{manifest['kind']} {manifest['metadata']['name']}: {fault}" for fault in found]


def _kubernetes_faults(manifest: Manifest, version: str) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


@cache
def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it_every_way(version: str) -> None:
    ours = [each for each in unlike() if each["apiVersion"] not in OPERATORS]
    assert [fault for manifest in ours for fault in faults(manifest, version)] == []


def test_the_operators_take_it_every_way() -> None:
    theirs = [each for each in unlike() if each["apiVersion"] in OPERATORS]
    assert {each["apiVersion"] for each in theirs} == set(OPERATORS)
    assert [fault for manifest in theirs for fault in faults(manifest)] == []


@pytest.mark.parametrize(
    ("chart", "sets", "kind", "path", "value"),
    [
        (RAPPORT, (), "Deployment", ("spec", "template", "spec", "containrs"), []),
        (RAPPORT, (), "NetworkPolicy", ("spec", "policyTypes"), "Ingress"),
        (RAPPORT, ("serviceMonitor.enabled=true",), "ServiceMonitor", ("spec", "endpoint"), []),
        (RAPPORT, ("prometheusRule.enabled=true",), "PrometheusRule", ("spec", "groups"), {}),
        (RAPPORT, ("httpRoute.enabled=true", "httpRoute.gatewayName=a"), "HTTPRoute", ("spec", "hostnames"), "a"),
        (DEPENDENCIES, ("postgres.enabled=false", "cloudnativepg.enabled=true"), "Cluster", ("spec", "instance"), 3),
    ],
)
def test_a_wrong_manifest_is_noticed(
    chart: str, sets: tuple[str, ...], kind: str, path: tuple[str, ...], value: object
) -> None:
    manifest = next(each for each in render(chart, *sets) if each["kind"] == kind)
    place: Any = manifest
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert faults(manifest) != []


def test_skaffold_takes_its_file() -> None:
    text = (CHARTS.parent / "skaffold.yaml").read_text()
    assert [error.message for error in validator("skaffold").iter_errors(yaml.safe_load(text))] == []


def test_skaffold_builds_every_image_that_the_charts_name() -> None:
    skaffold = yaml.safe_load((CHARTS.parent / "skaffold.yaml").read_text())
    built = {artifact["image"] for artifact in skaffold["build"]["artifacts"]}
    written = json.dumps([*render(RAPPORT, "journey.enabled=true", "training.tenants={a}"), *render(DEPENDENCIES)])
    named = {word.split(":")[0] for word in written.split('"') if word.startswith("rapport/")}
    assert built == named
