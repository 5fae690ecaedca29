"""What rules and dashboards ask of a live Prometheus after traffic: every metric is there, every panel shows something."""

import math
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.alerts import RULES, rules_of
from infra.dashboards import dashboards
from infra.topology import ALL, GATEWAY
from tests.e2e.running import Running
from tests.e2e.shop import CUSTOMER, EXPERIMENT, ITEM, SURVEY, OpenShop

ROOT = Path(__file__).resolve().parents[2]
# Three scrapes see it grow.
TRAFFIC_S = 16
PATIENCE_S = 60

# Metric -> why traffic cannot make it.
UNSEEN = {"rapport_scoring_model_load_failures_total": "a promoted model that cannot be loaded; the panel shows 0 without it"}

_METRIC = re.compile(r"\b(?:rapport[_:][a-zA-Z0-9_:]+|process_[a-z_]+|up|ALERTS)\b(?=[\s\[{)]|$)")


def metrics_of(expression: str) -> set[str]:
    """The names of all series that a query reads."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))


def queries() -> Iterator[tuple[str, str]]:
    """(dashboard and panel, query) of all panels."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m")


@pytest.fixture(scope="module")
def metrics(platform: Running, shop: OpenShop) -> Iterator[httpx.Client]:
    """Prometheus, after some of everything."""
    url = f"http://127.0.0.1:{platform.port + 22}"
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as prometheus:
        try:
            prometheus.get("/-/ready").raise_for_status()
        except httpx.TransportError:
            pytest.skip("this platform runs without Prometheus; its output says why.")
        with platform.client(shop.key) as client:
            end = time.monotonic() + TRAFFIC_S
            while time.monotonic() < end:
                _some_of_everything(client)
                time.sleep(1)
        yield prometheus


def _some_of_everything(client: httpx.Client) -> None:
    ref = f"user_id:{CUSTOMER}"
    visitor = f"user_id:v{uuid.uuid4().hex[:8]}"
    event: dict[str, Any] = {"userId": CUSTOMER, "event": "Product Viewed", "properties": {}}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/track", event),
        ("POST", "/v1/batch", {"batch": [event | {"type": "track"}, {"type": "track", "userId": CUSTOMER}]}),
        ("GET", f"/v1/profiles/{ref}", None),
        ("GET", f"/v1/profiles/{ref}/segments", None),
        ("POST", f"/v1/profiles/{ref}/score", {}),
        ("POST", "/v1/scores:batch", {"refs": [ref, visitor]}),
        ("GET", f"/v1/profiles/{ref}/recommendations", None),
        ("GET", f"/v1/profiles/{ref}/next-best-action", None),
        ("POST", "/v1/recommendations:rebuild", {}),
        ("PATCH", f"/v1/items/{ITEM}", {"inCatalogue": False}),
        ("PATCH", f"/v1/items/{ITEM}", {"inCatalogue": True}),
        ("POST", "/v1/segments:recompute", {}),
        ("POST", f"/v1/surveys/{SURVEY}/answers", {"ref": ref, "rating": 2}),
        ("POST", f"/v1/experiments/{EXPERIMENT}/assignments", {"refs": [ref]}),
        ("POST", f"/v1/experiments/{EXPERIMENT}/exposures", {"refs": [ref]}),
        ("GET", f"/v1/experiments/{EXPERIMENT}/results", None),
    ]
    for method, path, body in asked:
        answer = client.request(method, path, json=body)
        assert answer.status_code in (200, 503), f"{path}: {answer.status_code} {answer.text}"


def _has_data(prometheus: httpx.Client, query: str) -> bool:
    answer = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return any(not math.isnan(float(each["value"][1])) for each in answer["data"]["result"])


def test_every_metric_of_a_rule_or_a_dashboard_exists(metrics: httpx.Client) -> None:
    named = {name for rule in rules_of(ROOT) for name in metrics_of(rule["expr"])}
    named |= {name for _, query in queries() for name in metrics_of(query)} - {"ALERTS"}
    known = set(metrics.get("/api/v1/label/__name__/values").json()["data"])
    assert len(named) > 40
    assert named - known <= UNSEEN.keys()


def test_every_query_of_every_panel_shows_something(metrics: httpx.Client) -> None:
    left = {f"{panel}: {query}": query for panel, query in queries()}
    assert len(left) > 90
    end = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < end:
        left = {name: query for name, query in left.items() if not _has_data(metrics, query)}
        time.sleep(0 if not left else 2)
    assert not left


def test_every_rule_is_loaded_and_evaluated(metrics: httpx.Client) -> None:
    groups = metrics.get("/api/v1/rules").json()["data"]["groups"]
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert loaded.keys() == {rule.get("alert") or rule["record"] for rule in rules_of(ROOT)}
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / RULES).glob("*.yaml")]
    assert len(groups) == sum(len(file["groups"]) for file in files)
    assert {name: rule["health"] for name, rule in loaded.items() if rule["health"] != "ok"} == {}


def test_a_job_is_the_noun_of_its_service(metrics: httpx.Client) -> None:
    answer = metrics.get("/api/v1/query", params={"query": "max by (job) (up) == 1"}).json()
    assert {each["metric"]["job"] for each in answer["data"]["result"]} == {GATEWAY, *ALL}


def test_names_are_found_in_a_query() -> None:
    query = 'sum(rate(rapport_a_total{job="up", b=~"rapport_c"}[5m])) / rapport:d:rate5m or up > process_e_bytes'
    assert metrics_of(query) == {"rapport_a_total", "rapport:d:rate5m", "up", "process_e_bytes"}
