"""A second version of the model, as an ML engineer brings it: the training job, an evaluation, a promotion."""

import base64
from datetime import datetime, timedelta
from typing import Any

import httpx

from tests.cluster.counting import wait_until_fresh
from tests.cluster.kube import Kube, until
from tests.cluster.loader import Keys


def train_another(kube: Kube, client: httpx.Client, tenant: str, keys: Keys) -> str:
    """The version that the training CronJob registers once the log has changed."""
    kube.ctl("create", "secret", "generic", "rapport-training", f"--from-literal={tenant}={keys.private}")
    _change_history(client, keys.write)
    known = {each["version"] for each in _versions(client)}
    kube.job_of(f"training-{tenant}", "training-1")
    log = kube.job_ended("training-1", patience_s=600)
    (version,) = {each["version"] for each in _versions(client)} - known
    _judge(client, version, as_of=log.split("judged at ")[1].split(",")[0])
    return version


def _versions(client: httpx.Client) -> list[dict[str, Any]]:
    answer = client.get("/v1/models/churn/versions")
    answer.raise_for_status()
    return answer.json()["data"]


def _change_history(client: httpx.Client, write_key: str) -> None:
    """Orders of customers who were not there, a year before the shop's newest event."""
    at = datetime.fromisoformat(client.get("/v1/freshness").json()["now"]) - timedelta(days=300)
    batch = [
        {
            "type": "track",
            "userId": f"newcomer-{number}",
            "event": "Order Completed",
            "messageId": f"newcomer-{number}",
            "timestamp": (at + timedelta(hours=number)).isoformat(),
            "properties": {"order_id": f"newcomer-{number}", "revenue": 20.0, "products": []},
        }
        for number in range(50)
    ]
    headers = {"Authorization": "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()}
    client.post("/v1/batch", json={"batch": batch}, headers=headers).raise_for_status()
    wait_until_fresh(client)


def _judge(client: httpx.Client, version: str, *, as_of: str) -> None:
    """Scores everybody as of the instant that it was not trained up to, and compares with what they did next."""
    page = client.get("/v1/profiles", params={"limit": 1000, "identified": "true"}).json()
    body = {"refs": [each["profileId"] for each in page["data"]], "version": version, "at": as_of}
    answer = client.post("/v1/scores:batch", json=body)
    answer.raise_for_status()
    scored = sum(1 for result in answer.json()["results"] if result["score"])

    def judged() -> bool:
        evaluation = client.post("/v1/models/churn/evaluations", json={"version": version, "asOf": as_of})
        evaluation.raise_for_status()
        return evaluation.json()["rowCount"] >= scored

    until("the evaluation of all scores", judged)
