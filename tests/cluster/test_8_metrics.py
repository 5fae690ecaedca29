"""The cluster's Prometheus has every metric that a rule or a dashboard names, and every panel shows something after traffic."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.simulator import Shop
from infra.alerts import rules_of
from tests.cluster.conftest import CUSTOMERS, SEED, TENANT, Installed
from tests.metrics import UNSEEN, Known, has_data, metrics_of, queries, some_of_everything

ROOT = Path(__file__).resolve().parents[2]
SCOPES = ("ingest", "read", "personal", "manage", "score", "answers", "models")
# Three scrapes see it grow.
TRAFFIC_S = 20
PATIENCE_S = 90


@pytest.fixture(scope="module")
def prometheus(installed: Installed, challenger: str) -> Iterator[httpx.Client]:
    """After some of everything."""
    with installed.client(installed.key(TENANT, "--kind", "private", "--scopes", *SCOPES)) as client:
        ref = f"user_id:{Shop(seed=SEED, customers=CUSTOMERS).people[0].user_id}"
        items = client.get(f"/v1/profiles/{ref}/recommendations").json()["items"]
        survey = client.get("/v1/surveys").json()["data"][0]["surveyId"]
        experiment = client.get("/v1/experiments").json()["data"][0]["experimentId"]
        known = Known(ref, items[0]["itemId"], survey, experiment)
        end = time.monotonic() + TRAFFIC_S
        while time.monotonic() < end:
            some_of_everything(client, known)
            time.sleep(1)
    with (
        installed.kube.forwarded("service/prometheus", 9090) as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as asked,
    ):
        yield asked


def test_every_metric_of_a_rule_or_a_dashboard_exists(prometheus: httpx.Client) -> None:
    named = {name for rule in rules_of(ROOT) for name in metrics_of(rule["expr"])}
    named |= {name for _, query in queries() for name in metrics_of(query)} - {"ALERTS"}
    known = set(prometheus.get("/api/v1/label/__name__/values").json()["data"])
    assert named - known <= UNSEEN.keys()


@pytest.mark.timeout(400)
def test_every_query_of_every_panel_shows_something(prometheus: httpx.Client) -> None:
    left = {f"{panel}: {query}": query for panel, query in queries()}
    count, end = len(left), time.monotonic() + PATIENCE_S
    while left and time.monotonic() < end:
        left = {name: query for name, query in left.items() if not has_data(prometheus, query)}
        time.sleep(0 if not left else 3)
    print(f"\n{count} queries of the dashboards, {len(left)} without an answer")
    assert not left


def test_every_rule_is_loaded_and_evaluated(prometheus: httpx.Client) -> None:
    groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert loaded.keys() == {rule.get("alert") or rule["record"] for rule in rules_of(ROOT)}
    assert {name: rule["health"] for name, rule in loaded.items() if rule["health"] != "ok"} == {}
