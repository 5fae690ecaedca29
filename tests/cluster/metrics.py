"""Questions to the cluster's Prometheus, and to one pod's own metrics."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.kube import Kube


def ask(kube: Kube, query: str) -> list[dict[str, Any]]:
    """The vector that a query gives: label sets with a value."""
    with kube.forwarded("service/prometheus", 9090) as url:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30, trust_env=False)
    answer.raise_for_status()
    return [{**each["metric"], "value": float(each["value"][1])} for each in answer.json()["data"]["result"]]


def calls_of(url: str, metric: str) -> float:
    """The sum of a counter's series in the text of one pod's /metrics."""
    text = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and sample.labels.get("method", "") not in ("Check", "Watch")
    )
