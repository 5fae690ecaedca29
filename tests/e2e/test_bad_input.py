"""Bad input at the front door of the whole platform: refused with a code that says why, and nothing of it is kept."""

import gzip
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.e2e.running import Running
from tests.e2e.shop import put, register_model, wait_until_fresh
from tests.e2e.tenants import Tenant, new_key, new_tenant

JSON = {"Content-Type": "application/json"}
NEXT_YEAR = (datetime.now(UTC) + timedelta(days=365)).isoformat()
VICTIM = "bad-input-victim"
TRACK: dict[str, Any] = {"type": "track", "userId": VICTIM, "event": "Order Completed"}


def order(**properties: Any) -> dict[str, Any]:
    return TRACK | {"properties": {"order_id": "1", "revenue": 5} | properties}


# (what is sent, code, field) of events. Each is sent alone and, beside a good one, in a batch.
BAD_EVENTS: dict[str, tuple[bytes, str, str | None]] = {
    "missing ids": (json.dumps({"type": "track", "event": "E"}).encode(), "MISSING_IDENTITY", "userId"),
    "empty id": (json.dumps(TRACK | {"userId": ""}).encode(), "MISSING_IDENTITY", "userId"),
    "1969": (json.dumps(TRACK | {"timestamp": "1969-07-20T20:17:00Z"}).encode(), "TIMESTAMP_OUT_OF_BOUNDS", "timestamp"),
    "next year": (json.dumps(TRACK | {"timestamp": NEXT_YEAR}).encode(), "TIMESTAMP_OUT_OF_BOUNDS", "timestamp"),
    "NUL in a value": (json.dumps(order(city="a\0b")).encode(), "MALFORMED_TEXT", "properties.city"),
    "NUL in an id": (json.dumps(TRACK | {"userId": "a\0b"}).encode(), "MALFORMED_TEXT", "userId"),
    "10,000 properties": (json.dumps(order(**{f"k{each}": 1 for each in range(10_000)})).encode(), "EVENT_TOO_LARGE", None),
    "oversize": (json.dumps(order(note="x" * 33_000)).encode(), "EVENT_TOO_LARGE", None),
    "lone surrogate": (json.dumps(order(city="\ud800")).encode(), "MALFORMED_TEXT", None),
    "negative price": (json.dumps(order(products=[{"price": -1}])).encode(), "NEGATIVE_PRICE", "properties.products[0].price"),
    "negative revenue": (json.dumps(order(revenue=-0.01)).encode(), "NEGATIVE_PRICE", "properties.revenue"),
}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, which must be one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert problem["detail"]
    return problem


@pytest.fixture
def writer(platform: Running, tenant: Tenant) -> Any:
    with platform.client(tenant.write_key) as client:
        yield client


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_a_bad_event_is_refused_alone_and_rejected_beside_a_good_one(
    writer: httpx.Client, client: httpx.Client, name: str
) -> None:
    event, code, field = BAD_EVENTS[name]
    problem = refused(writer.post("/v1/track", content=event, headers=JSON), 400, code)
    assert field is None or problem["field"] == field
    good = f"good-{uuid.uuid4().hex}"
    body = b'{"batch":[%b,%b]}' % (event, json.dumps({"type": "page", "userId": good}).encode())
    answer = writer.post("/v1/batch", content=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    receipts = answer.json()["receipts"]
    assert [(each["status"], each.get("reason")) for each in receipts] == [("rejected", code), ("accepted", None)]
    wait_until_fresh(client)
    assert client.get(f"/v1/profiles/user_id:{good}").status_code == 200
    refused(client.get(f"/v1/profiles/user_id:{VICTIM}"), 404, "UNKNOWN_PROFILE")
    assert code in {each["reason"] for each in client.get("/v1/rejections").json()["data"]}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/v1/track", b'{"userId":', {}, 400, "MALFORMED_JSON"),
        ("/v1/batch", b'{"batch":[{]}', {}, 400, "MALFORMED_JSON"),
        ("/v1/track", b'{"userId":"\xff"}', {}, 400, "MALFORMED_TEXT"),
        ("/v1/batch", b'{"batch":[' + b" " * 512_001 + b"]}", {}, 413, "BODY_TOO_LARGE"),
        ("/v1/batch", gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}, 413, "BODY_TOO_LARGE"),
    ],
    ids=["malformed", "malformed batch", "no UTF-8", "oversize batch", "oversize when unpacked"],
)
def test_a_body_that_cannot_be_read_is_refused(
    writer: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    refused(writer.post(path, content=body, headers=JSON | headers), status, code)


def test_a_wrong_key_and_a_wrong_scope_are_refused(platform: Running, tenant: Tenant, writer: httpx.Client) -> None:
    forged = tenant.write_key[:-4] + ("0000" if tenant.write_key[-4:] != "0000" else "1111")
    with platform.client(forged) as nobody, platform.client(new_key(platform, tenant.name, "read")) as reader:
        refused(nobody.post("/v1/track", json=TRACK), 401, "INVALID_KEY")
        refused(reader.post("/v1/track", json=TRACK), 403, "MISSING_SCOPE")
        refused(reader.post("/v1/surveys", json={"surveyId": "s", "kind": "NPS", "question": "?"}), 403, "MISSING_SCOPE")
    refused(writer.get("/v1/profiles"), 403, "MISSING_SCOPE")


def test_a_segment_of_an_unknown_field_or_in_a_circle_is_refused(client: httpx.Client) -> None:
    unknown = {"feature": "shoe_size", "operator": "greater", "value": 43}
    problem = refused(
        client.post("/v1/segments", json={"key": "odd", "name": "Odd", "condition": unknown}), 400, "UNKNOWN_FEATURE"
    )
    assert problem["field"].startswith("condition")
    many = {"feature": "orders_count", "operator": "greater", "value": 3}
    put(client, "/v1/segments", {"key": "hen", "name": "Hen", "condition": many})
    put(client, "/v1/segments", {"key": "egg", "name": "Egg", "condition": {"inSegment": "hen"}})
    answer = client.put("/v1/segments/hen", json={"condition": {"not": {"inSegment": "egg"}}})
    assert answer.status_code in (400, 409)
    refused(answer, answer.status_code, "CIRCULAR_SEGMENT")
    refused(client.get("/v1/segments/odd"), 404, "NOT_FOUND")


def test_an_answer_of_11_to_an_nps_question_is_refused(client: httpx.Client, writer: httpx.Client) -> None:
    put(writer, "/v1/identify", {"userId": "answers"})
    wait_until_fresh(client)
    put(client, "/v1/surveys", {"surveyId": "nps", "kind": "NPS", "question": "How likely are you to recommend us?"})
    answer = client.post("/v1/surveys/nps/answers", json={"ref": "user_id:answers", "rating": 11})
    assert refused(answer, 400, "RATING_OUT_OF_SCALE")["field"] == "rating"
    assert client.get("/v1/surveys/nps").json()["answerCount"] == 0


def test_neither_a_model_of_other_features_nor_one_that_does_not_exist_is_promoted(platform: Running) -> None:
    other = "0" * 64
    tenant = new_tenant(platform)
    register_model(platform, tenant.name, "1", feature_digest=other)
    with platform.client(tenant.private_key) as client:
        strange = client.post("/v1/models/churn:promote", json={"version": "1", "reason": "it is new"})
        detail = refused(strange, 409, "FEATURE_DIGEST_MISMATCH")["detail"]
        assert other in detail
        assert platform.report["churn.feature_digest"] in detail
        missing = client.post("/v1/models/churn:promote", json={"version": "99", "reason": "it is newer still"})
        refused(missing, 404, "UNKNOWN_MODEL_VERSION")
        assert client.get("/v1/models/churn/promotions").json()["data"] == []
