"""What rules and dashboards ask of Prometheus, and traffic that gives them something to show."""

import math
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from infra.dashboards import dashboards

# Metric -> why traffic cannot make it.
UNSEEN = {
    "rapport_scoring_model_load_failures_total": "a promoted model that cannot be loaded; the panel shows 0 without it",
    "rapport_log_reader_dead_events_total": "of a reader that follows Kafka",
    "rapport_profiles_relay_lag_events": "of the relay, which there is with Kafka",
    "rapport_profiles_relay_active": "of the relay, which there is with Kafka",
}

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


@dataclass(frozen=True, slots=True)
class Known:
    """What a tenant has: a customer as "user_id:...", an item, a survey, an experiment."""

    ref: str
    item: str
    survey: str
    experiment: str


def some_of_everything(client: httpx.Client, known: Known) -> None:
    """Requests that leave a trace in every metric. The key may do everything."""
    ref = known.ref
    visitor = f"user_id:v{uuid.uuid4().hex[:8]}"
    event: dict[str, Any] = {"userId": ref.removeprefix("user_id:"), "event": "Product Viewed", "properties": {}}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/track", event),
        ("POST", "/v1/batch", {"batch": [event | {"type": "track"}, {"type": "track", "userId": event["userId"]}]}),
        ("GET", f"/v1/profiles/{ref}", None),
        ("GET", f"/v1/profiles/{ref}/segments", None),
        ("POST", f"/v1/profiles/{ref}/score", {}),
        ("POST", "/v1/scores:batch", {"refs": [ref, visitor]}),
        ("GET", f"/v1/profiles/{ref}/recommendations", None),
        ("GET", f"/v1/profiles/{ref}/next-best-action", None),
        ("POST", "/v1/recommendations:rebuild", {}),
        ("PATCH", f"/v1/items/{known.item}", {"inCatalogue": False}),
        ("PATCH", f"/v1/items/{known.item}", {"inCatalogue": True}),
        ("POST", "/v1/segments:recompute", {}),
        ("POST", f"/v1/surveys/{known.survey}/answers", {"ref": ref, "rating": 2, "comment": "much too late"}),
        ("POST", f"/v1/experiments/{known.experiment}/assignments", {"refs": [ref]}),
        ("POST", f"/v1/experiments/{known.experiment}/exposures", {"refs": [ref]}),
        ("GET", f"/v1/experiments/{known.experiment}/results", None),
    ]
    for method, path, body in asked:
        answer = client.request(method, path, json=body)
        assert answer.status_code in (200, 503), f"{path}: {answer.status_code} {answer.text}"


def has_data(prometheus: httpx.Client, query: str) -> bool:
    """Whether a query gives a number that is one."""
    answer = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return any(not math.isnan(float(each["value"][1])) for each in answer["data"]["result"])
