"""A second shop: a tenant that has one of everything, named as the examples of the OpenAPI document name it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from demo.client import batches_of
from demo.simulator import Shop
from tests.e2e.running import Running
from tests.e2e.tenants import SCOPES, new_key, new_tenant

CUSTOMERS = 200
SEED = 11
PATIENCE_S = 60
CUSTOMER = "12347"
ITEM = "85123A"
HELD_MESSAGE = "till-1"
ACCOUNT = "acme"
PURPOSE = "marketing"
MLFLOW = "/api/2.0"
SEGMENT, SURVEY, EXPERIMENT = "high_value", "nps-2026", "win-back"


@dataclass(frozen=True, slots=True)
class OpenShop:
    """`key` may do everything. `profile_id` is CUSTOMER's."""

    tenant: str
    key: str
    profile_id: str
    case_id: str
    quarantine_id: str
    import_job_id: str
    match_run_id: str
    erasure_id: str


def open_shop(running: Running) -> OpenShop:
    """Fills a fresh tenant with a simulated shop, and takes it once round the loop; its models are the first shop's."""
    tenant = new_tenant(running, clock="events").name
    key = new_key(running, tenant, "ingest", *SCOPES)
    with running.client(key) as client:
        _feed(client)
        profile_id = client.get(f"/v1/profiles/user_id:{CUSTOMER}").json()["profileId"]
        for version in ("1", "2"):
            register_model(running, tenant, version)
            _judge_and_promote(client, version)
        put(client, f"/v1/profiles/{profile_id}/score", {})
        case_id = _ask_and_try(client)
        quarantine_id = _hold(client)
        # A file whose only row is rejected: it changes nothing of the shop.
        imported = client.post("/v1/import-jobs?format=jsonl", content=b'{"type":"track","event":"Seen"}')
        assert imported.status_code == 202, imported.text
        run = client.post("/v1/match-runs", json={})
        assert run.status_code == 202, run.text
        trait = {"key": SEGMENT, "owner": "shop", "purpose": "service", "definition": {"aggregation": "count"}}
        answer = client.post("/v1/traits", json=trait)
        assert answer.is_success, answer.text
        erasure_id = _erase_somebody(client)
    made = (imported.json()["importJobId"], run.json()["matchRunId"], erasure_id)
    return OpenShop(tenant, key, profile_id, case_id, quarantine_id, *made)


def _erase_somebody(client: httpx.Client) -> str:
    """A customer who came and asked to be forgotten; it is done when this returns."""
    call = {"userId": "passing-by", "traits": {"plan": "none"}, "timestamp": "2025-01-01T00:00:00Z"}  # the shop's clock stays
    put(client, "/v1/identify", call)
    wait_until_fresh(client)
    answer = client.post("/v1/profiles/user_id:passing-by:erase", json={"reason": "asked for"})
    assert answer.status_code == 202, answer.text
    erasure_id = answer.json()["erasureId"]
    until("an erasure", lambda: client.get(f"/v1/erasures/{erasure_id}").json()["state"] == "COMPLETED")
    return erasure_id


def _hold(client: httpx.Client) -> str:
    """One event that the shop's plan holds back."""
    plan = {"events": {"Till Opened": {"mode": "quarantine", "schema": {"required": ["till"]}}}}
    assert client.put("/v1/tracking-plan", json=plan).status_code == 200
    till = {"messageId": HELD_MESSAGE, "userId": CUSTOMER, "event": "Till Opened"}
    assert put(client, "/v1/track", till)["receipts"][0]["status"] == "quarantined"
    return client.get("/v1/quarantine").json()["data"][0]["quarantineId"]


def put(client: httpx.Client, path: str, body: Any) -> Any:
    """POSTs, and insists on success."""
    answer = client.post(path, json=body)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


def until(what: str, ask: Callable[[], Any]) -> Any:
    """Asks until the answer is true."""
    end = time.monotonic() + PATIENCE_S
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)
    return answer


def wait_until_fresh(client: httpx.Client) -> Mapping[str, Any]:
    """Until everything that was accepted can be read; the freshness."""

    def fresh() -> Any:
        answer = client.get("/v1/freshness")
        return answer.json() if answer.status_code == 200 and answer.json()["lagEvents"] == 0 else None

    return until("the profiles to catch up", fresh)


def _feed(client: httpx.Client) -> None:
    shop = Shop(seed=SEED, customers=CUSTOMERS)
    product = {"product_id": ITEM, "name": "WHITE HANGING HEART", "price": 2.55, "quantity": 6}
    for number in range(4):
        at = shop.decision_at - timedelta(days=60 * number + 30)
        properties = {"order_id": f"53636{number}", "revenue": 15.3, "products": [product]}
        call = {"userId": CUSTOMER, "event": "Order Completed", "properties": properties, "timestamp": at.isoformat()}
        put(client, "/v1/track", call)
    put(client, "/v1/group", {"userId": CUSTOMER, "groupId": ACCOUNT, "timestamp": at.isoformat()})
    for _, body in batches_of(shop.calls()):
        answer = client.post("/v1/batch", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
    wait_until_fresh(client)


def register_model(running: Running, tenant: str, version: str, **tags: str) -> None:
    """The files of the first shop's model as the next version of the tenant's; `tags` go before the true ones."""
    name, folder = f"{tenant}.churn", running.state / "models" / "simulator.churn" / running.report["churn.model_version"]
    true = {"digest": running.report["churn.digest"], "feature_digest": running.report["churn.feature_digest"]}
    pairs = [{"key": key, "value": value} for key, value in (true | tags).items()]
    with running.mlflow() as mlflow:
        run = put(mlflow, f"{MLFLOW}/mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]
        place = f"{run['artifact_uri']}/model"
        for file in ("bundle.json", "model.ubj"):
            path = f"{MLFLOW}/mlflow-artifacts/artifacts/{place.removeprefix('mlflow-artifacts:/')}/{file}"
            mlflow.put(path, content=(folder / file).read_bytes()).raise_for_status()
        if mlflow.get(f"{MLFLOW}/mlflow/registered-models/get", params={"name": name}).status_code == 404:
            put(mlflow, f"{MLFLOW}/mlflow/registered-models/create", {"name": name})
        body = {"name": name, "source": place, "run_id": run["run_id"], "tags": pairs}
        created = put(mlflow, f"{MLFLOW}/mlflow/model-versions/create", body)
    assert created["model_version"]["version"] == version


def _judge_and_promote(client: httpx.Client, version: str) -> None:
    """Scores those who have bought as of 90 days before the newest event, and compares with what they did next."""
    as_of = (datetime.fromisoformat(client.get("/v1/freshness").json()["now"]) - timedelta(days=91)).isoformat()
    refs = [f"user_id:{person.user_id}" for person in Shop(seed=SEED, customers=CUSTOMERS).people]
    results = put(client, "/v1/scores:batch", {"refs": refs, "version": version, "at": as_of})["results"]
    scored = sum(1 for result in results if result["score"])
    path, body = "/v1/models/churn/evaluations", {"version": version, "asOf": as_of}
    until("the evaluation of all scores", lambda: put(client, path, body)["rowCount"] >= scored)
    put(client, "/v1/models/churn:promote", {"version": version, "reason": "for the tests"})

    def serves() -> bool:
        answer = client.get("/v1/models/churn/serving")
        return answer.status_code == 200 and answer.json()["version"] == version

    until(f"version {version} to serve", serves)


def _ask_and_try(client: httpx.Client) -> str:
    """A segment, a survey with an unhappy answer, an experiment; the id of the case."""
    ref = f"user_id:{CUSTOMER}"
    condition = {"feature": "orders_count", "operator": "greater_or_equal", "value": 3}
    put(client, "/v1/segments", {"key": SEGMENT, "name": "High value", "condition": condition})
    put(client, "/v1/surveys", {"surveyId": SURVEY, "kind": "NPS", "question": "How likely are you to recommend us?"})
    answer = put(client, f"/v1/surveys/{SURVEY}/answers", {"ref": ref, "rating": 1, "comment": "much too late"})
    experiment = {
        "experimentId": EXPERIMENT,
        "hypothesis": "A voucher brings customers at risk back.",
        "variants": [{"key": "control", "share": 0.5}, {"key": "voucher", "share": 0.5}],
        "outcomeEvent": "Order Completed",
        "outcomeWindowDays": 30,
    }
    put(client, "/v1/experiments", experiment)
    put(client, f"/v1/experiments/{EXPERIMENT}/assignments", {"refs": [ref]})
    put(client, f"/v1/experiments/{EXPERIMENT}/exposures", {"refs": [ref]})
    put(client, "/v1/recommendations:rebuild", {})
    return answer["caseId"]
