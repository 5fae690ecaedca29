"""What rules and dashboards ask of a live Prometheus after traffic: every metric is there, every panel shows something."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from infra.alerts import RULES, rules_of
from infra.topology import ALL, GATEWAY
from tests.e2e.running import Running
from tests.e2e.shop import CUSTOMER, EXPERIMENT, ITEM, SURVEY, OpenShop
from tests.metrics import UNSEEN, Known, has_data, metrics_of, queries, some_of_everything

ROOT = Path(__file__).resolve().parents[2]
# Three scrapes see it grow.
TRAFFIC_S = 16
PATIENCE_S = 60

OF_THE_SHOP = Known(f"user_id:{CUSTOMER}", ITEM, SURVEY, EXPERIMENT)


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
                some_of_everything(client, OF_THE_SHOP)
                time.sleep(1)
        yield prometheus


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
        left = {name: query for name, query in left.items() if not has_data(metrics, query)}
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
