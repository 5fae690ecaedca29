"""Receipts, tracking plans and the quarantine over HTTP."""

from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Backstage, Keys
from tests.integration.gateway.plans_stand_in import HELD, RULE
from tests.integration.gateway.reading import problem_of

NOON = "2011-09-10T12:00:00Z"
SCHEMA = {"type": "object", "required": ["order_id"], "properties": {"order_id": {"type": "string"}}}
PLAN = {"mode": "quarantine", "unplanned": "observe", "events": {"Order Paid": {"schema": SCHEMA, "mode": "reject"}}}


def as_personal(keys: Keys) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys.personal}"}


async def test_a_receipt_is_told_by_a_message_id_with_a_slash_in_it(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/receipts/shop%2F1")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["messageId"], told["duplicateCount"], told["lastDuplicate"], told["hasMore"]) == ("shop/1", 2, NOON, False)
    nothing = dict.fromkeys(("decided", "planVersion", "event", "rule", "quarantineId", "expires"))
    assert told["fates"] == [
        {"status": "accepted", "received": NOON, "type": None, "reason": None, "field": None, "message": None, **nothing},
        {
            "status": "rejected", "received": NOON, "type": "track", "reason": "MISSING_FIELD", "field": "event",
            "message": "m", **nothing,
        },
    ]  # fmt: skip


async def test_a_message_that_never_came_is_not_found(http: httpx.AsyncClient) -> None:
    problem_of(await http.get("/v1/receipts/never"), 404, "NOT_FOUND")
    problem_of(await http.get(f"/v1/receipts/{'x' * 256}"), 400, "INVALID_FIELD")


async def test_a_write_key_may_not_ask_for_receipts(writer: httpx.AsyncClient) -> None:
    problem_of(await writer.get("/v1/receipts/m"), 403, "MISSING_SCOPE")


async def test_a_plan_is_put_as_it_is_and_told_again(http: httpx.AsyncClient) -> None:
    problem_of(await http.get("/v1/tracking-plan"), 404, "NOT_FOUND")
    put = await http.put("/v1/tracking-plan", json=PLAN)
    assert put.status_code == 200, put.text
    assert put.json() == {"version": 1, "created": NOON, "plan": PLAN}
    await http.put("/v1/tracking-plan", json={"events": {}})
    assert (await http.get("/v1/tracking-plan")).json() == {"version": 2, "created": NOON, "plan": {"events": {}}}
    assert (await http.get("/v1/tracking-plan/versions/1")).json()["plan"] == PLAN
    page = (await http.get("/v1/tracking-plan/versions")).json()
    assert page["data"] == [{"version": 2, "created": NOON}, {"version": 1, "created": NOON}]
    problem_of(await http.get("/v1/tracking-plan/versions/7"), 404, "NOT_FOUND")


async def test_a_wrong_schema_is_a_problem_whose_field_is_the_place(http: httpx.AsyncClient) -> None:
    wrong: dict[str, Any] = {"events": {"Order Paid": {"schema": {"properties": {"order_id": {"type": "objekt"}}}}}}
    problem = problem_of(await http.put("/v1/tracking-plan", json=wrong), 400, "INVALID_FIELD")
    assert problem["field"] == "/events/Order Paid/schema/properties/order_id/type"
    problem_of(await http.put("/v1/tracking-plan", json={"event": {}}), 400, "UNKNOWN_FIELD")
    problem_of(await http.put("/v1/tracking-plan", json={"mode": "drop"}), 400, "INVALID_FIELD")


@pytest.mark.parametrize(("value", "code"), [('"\\ud800"', "MALFORMED_TEXT"), ("NaN", "INVALID_FIELD")])
async def test_what_utf_8_or_json_cannot_hold_is_refused_by_its_field(http: httpx.AsyncClient, value: str, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    plan = f'{{"events":{{"A":{{"schema":{{"const":{value}}}}}}}}}'
    problem_of(await http.put("/v1/tracking-plan", content=plan, headers=headers), 400, code)
    edited = f'{{"properties":{{"a":{value}}}}}'
    problem = problem_of(await http.post(f"/v1/quarantine/{HELD}:edit", content=edited, headers=headers), 400, code)
    assert problem["field"] == "properties"


async def test_a_plan_is_inferred(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/tracking-plan:infer")
    assert answer.json() == {
        "plan": {"mode": "observe", "events": {"Order Paid": {"schema": {"type": "object"}}}},
        "eventCount": 7,
        "since": NOON,
    }


async def test_violations_are_told_with_a_value_only_where_there_is_one_to_show(http: httpx.AsyncClient) -> None:
    shown, hidden = (await http.get("/v1/tracking-plan/violations")).json()["data"]
    assert (shown["path"], shown["value"], shown["rule"], shown["mode"], shown["count"]) == (
        "properties.price", "free", RULE, "observe", 3,
    )  # fmt: skip
    assert (hidden["path"], hidden["value"], hidden["expected"], hidden["found"]) == (
        "properties.email", None, "of type number", "string",
    )  # fmt: skip


async def test_the_quarantine_is_told_with_personal_properties_only_for_keys_with_their_scope(
    http: httpx.AsyncClient, keys: Keys
) -> None:
    page = (await http.get("/v1/quarantine", params={"limit": 1})).json()
    assert (page["data"][0]["quarantineId"], page["data"][0]["expires"], page["hasMore"]) == (HELD, NOON, True)
    assert (await http.get(f"/v1/quarantine/{HELD}")).json()["properties"] == {"price": "free"}
    trusted = await http.get(f"/v1/quarantine/{HELD}", headers=as_personal(keys))
    assert trusted.json()["properties"] == {"price": "free", "email": "ada@example.com"}
    problem_of(await http.get(f"/v1/quarantine/{'0b' * 16}"), 404, "NOT_FOUND")
    problem_of(await http.get("/v1/quarantine/x"), 400, "INVALID_FIELD")


async def test_what_waits_is_replayed_edited_and_discarded(http: httpx.AsyncClient, keys: Keys, backstage: Backstage) -> None:
    refused = problem_of(await http.post(f"/v1/quarantine/{HELD}:replay"), 409, "PLAN_VIOLATION")
    assert refused["field"] == "/properties/unit_price"
    edited = {"properties": {"unit_price": 5}}
    assert (await http.post(f"/v1/quarantine/{HELD}:edit", json=edited)).json() == {"outcome": "replayed"}
    await http.post(f"/v1/quarantine/{HELD}:edit", json=edited, headers=as_personal(keys))
    assert [each.with_personal for each in backstage.plans.edits[-2:]] == [False, True]
    assert backstage.plans.edits[-1].properties == b'{"unit_price":5}'
    assert (await http.post(f"/v1/quarantine/{HELD}:discard")).json() == {"outcome": "discarded"}


async def test_all_that_waits_is_replayed_call_by_call(http: httpx.AsyncClient) -> None:
    first = (await http.post("/v1/quarantine:replay")).json()
    assert first == {"replayedCount": 2, "supersededCount": 0, "waitingCount": 1, "hasMore": True, "next": "go-on"}
    last = (await http.post("/v1/quarantine:replay", json={"next": first["next"]})).json()
    assert (last["hasMore"], last["next"]) == (False, None)


HELD_CALL = {"userId": "ada", "event": "Held", "messageId": "held-1"}


async def test_a_held_event_is_answered_well_with_the_rule_that_held_it(writer: httpx.AsyncClient) -> None:
    answer = await writer.post("/v1/track", json=HELD_CALL)
    assert answer.status_code == 200
    (receipt,) = answer.json()["receipts"]
    assert receipt == {
        "messageId": "held-1", "status": "quarantined", "reason": "PLAN_VIOLATION", "field": "properties.price",
        "message": "must be of type number", "planVersion": 3, "rule": RULE,
    }  # fmt: skip
    (again,) = (await writer.post("/v1/track", json=HELD_CALL)).json()["receipts"]
    assert (again["status"], again["firstReceived"]) == ("duplicate", NOON)


async def test_a_rejected_call_says_what_its_receipt_is_asked_for_by(writer: httpx.AsyncClient) -> None:
    problem = problem_of(await writer.post("/v1/track", json={"event": "x", "messageId": "mine"}), 400, "MISSING_IDENTITY")
    assert problem["messageId"] == "mine"
    problem = problem_of(await writer.post("/v1/track", content=b"{"), 400, "MALFORMED_JSON")
    assert problem["messageId"] == "derived-00"
