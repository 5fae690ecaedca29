"""Each route once, from HTTP through gRPC and back: every field of the answer has its name and its shape."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Backstage, Gateway, Keys
from tests.integration.gateway.more_stand_ins import CASE_ID
from tests.integration.gateway.reading import problem_of

NOON = "2011-09-10T12:00:00Z"
TREE = {
    "allOf": [
        {"feature": "orders_count", "operator": "greater_or_equal", "value": 3.0},
        {"not": {"feature": "days_since_last_order", "operator": "band", "value": [30.0, 90.0]}},
        {"anyOf": [{"trait": "plan", "operator": "one_of", "value": ["gold", "blue"]}, {"inSegment": "active"}]},
        {"trait": "plan", "operator": "present"},
        {"trait": "plan", "operator": "equal", "value": "gold"},
    ]
}
TWO_VARIANTS = [{"key": "control", "share": 0.5}, {"key": "voucher", "share": 0.5}]


@pytest.fixture
async def ada(http: httpx.AsyncClient, customer: str) -> str:
    """Her profile id."""
    return (await http.get(f"/v1/profiles/{customer}")).json()["profileId"]


async def answered(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await http.request(method, path, **({} if body is None else {"json": body}))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_profile_is_told(http: httpx.AsyncClient, ada: str) -> None:
    assert await answered(http, "GET", f"/v1/profiles/{ada}") == {
        "profileId": ada,
        "firstSeen": NOON,
        "lastSeen": None,
        "eventCount": 1,
        "identified": True,
        "traits": {"plan": "gold"},
        "identities": [{"namespace": "user_id", "nodeId": ada, "since": None}],
    }


async def test_profiles_come_in_pages(http: httpx.AsyncClient, writer: httpx.AsyncClient) -> None:
    for each in range(5):
        await writer.post("/v1/identify", json={"userId": f"u{each}"})
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = (await http.get("/v1/profiles", params=params)).json()
        assert page["totalCount"] == 5
        seen += [profile["profileId"] for profile in page["data"]]
        params["next"] = page["next"]
    assert (page["hasMore"], page["next"]) == (False, None)
    assert len(set(seen)) == 5


async def test_personal_values_are_only_for_keys_with_their_scope(http: httpx.AsyncClient, customer: str, keys: Keys) -> None:
    portrait = await answered(http, "GET", f"/v1/profiles/{customer}/portrait?at=2011-09-09T00:00:00Z")
    assert portrait["at"] == "2011-09-09T00:00:00Z"
    assert [entry["name"] for entry in portrait["blocks"][0]["entries"]] == ["plan"]
    assert portrait["blocks"][1] == {"name": "social", "empty": True, "entries": []}
    trusted = await http.get(f"/v1/profiles/{customer}/portrait", headers={"Authorization": f"Bearer {keys.personal}"})
    shown = {entry["name"]: entry["value"] for entry in trusted.json()["blocks"][0]["entries"]}
    assert shown == {"plan": "gold", "email": "ada@example.com", "passport": "•••"}


async def test_a_timeline_and_memberships_are_told(http: httpx.AsyncClient, customer: str) -> None:
    events = await answered(http, "GET", f"/v1/profiles/{customer}/events")
    assert events["data"][0]["properties"] == {"revenue": 12.5}
    memberships = await answered(http, "GET", f"/v1/profiles/{customer}/segments")
    active = {"key": "active", "name": "Active", "family": "life_cycle", "since": NOON}
    assert memberships == {"data": [active], "withheldCount": 0}


SCORE = {
    "model": "churn",
    "version": "7",
    "probability": 0.62,
    "percentile": 88.0,
    "reasons": [
        {"feature": "days_since_last_order", "text": "last order 143 days ago", "contribution": 0.8, "value": 143.0},
        {"feature": "mean_order_interval_days", "text": "no usual interval", "contribution": -0.1, "value": None},
    ],
    "asOf": NOON,
    "scored": NOON,
    "newestEvent": None,
    "featureDigest": "f" * 64,
    "logisticProbability": 0.6,
    "features": {"orders_count": 3.0},
}


async def test_a_score_is_told_the_same_way_by_every_route(http: httpx.AsyncClient, ada: str, customer: str) -> None:
    result = {"ref": customer, "profileId": ada, "score": SCORE, "notScored": None}
    assert await answered(http, "POST", f"/v1/profiles/{customer}/score") == result
    assert await answered(http, "POST", f"/v1/profiles/{customer}/score", {}) == result
    assert await answered(http, "GET", f"/v1/profiles/{customer}/score?model=churn") == result
    batch = await answered(http, "POST", "/v1/scores:batch", {"refs": [customer, "user_id:nobody"]})
    refused = {"reason": "UNKNOWN_PROFILE", "message": "nobody is known by this reference"}
    assert batch["results"] == [
        result,
        {"ref": "user_id:nobody", "profileId": None, "score": None, "notScored": refused},
    ]


async def test_scores_that_are_asked_together_travel_together(
    http: httpx.AsyncClient, customer: str, ada: str, backstage: Backstage
) -> None:
    backstage.scoring.calls.clear()
    ask = [http.post(f"/v1/profiles/{each}/score") for each in [customer, ada, "user_id:nobody"] * 10]
    named = [http.post(f"/v1/profiles/{customer}/score", json={"version": "8", "at": NOON}) for _ in range(5)]
    broken = [http.post(f"/v1/profiles/{customer}/score", json={"model": "unknown"}) for _ in range(5)]
    answers = await asyncio.gather(*ask, *named, *broken)
    assert [answer.status_code for answer in answers] == [200, 200, 404] * 10 + [200] * 5 + [404] * 5
    assert [answer.json()["score"]["version"] for answer in answers[30:35]] == ["8"] * 5
    assert len(backstage.scoring.calls) < 20


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model": 7}', b'{"modle": "churn"}', b'{"at": "soon"}', b'{"model":"\\ud800"}']
)
async def test_a_bad_question_for_a_score_is_refused(http: httpx.AsyncClient, customer: str, body: bytes) -> None:
    answer = await http.post(f"/v1/profiles/{customer}/score", content=body)
    assert answer.json()["code"] in ("MALFORMED_JSON", "INVALID_FIELD", "UNKNOWN_FIELD")
    assert answer.status_code == 400


async def test_recommendations_are_told(http: httpx.AsyncClient, ada: str, customer: str) -> None:
    item = {"itemId": "85123A", "name": "WHITE MUG", "score": 0.9, "reason": "popular", "stage": "popular"}
    one = await answered(http, "GET", f"/v1/profiles/{customer}/recommendations?limit=5&strategy=popular")
    assert one == {"profileId": ada, "modelBuilt": NOON, "items": [item]}
    many = await answered(http, "POST", "/v1/recommendations:batch", {"refs": ["user_id:nobody", customer, ada], "limit": 5})
    assert [result["profileId"] for result in many["results"]] == [None, ada, ada]
    assert [len(result["items"]) for result in many["results"]] == [0, 1, 1]
    action = await answered(http, "GET", f"/v1/profiles/{customer}/next-best-action")
    assert (action["actions"][0]["name"], action["churnProbability"]) == ("nothing", None)
    rebuilt = await answered(http, "POST", "/v1/recommendations:rebuild", {"at": NOON})
    assert rebuilt == {"itemCount": 1, "customerCount": 2, "at": NOON}
    changed = await answered(http, "PATCH", "/v1/items/85123A", {"inCatalogue": False})
    assert changed == {"itemId": "85123A", "inCatalogue": False}


async def test_features_are_told(http: httpx.AsyncClient, ada: str, customer: str) -> None:
    declared = await answered(http, "GET", "/v1/features")
    assert declared["features"][0]["aggregation"] == "count_distinct"
    computed = await answered(http, "POST", "/v1/features:compute", {"refs": [customer, "user_id:nobody"]})
    assert computed["features"] == ["orders_count"]
    assert computed["rows"] == [
        {"ref": customer, "profileId": ada, "newestEvent": None, "values": [{"status": "PRESENT", "value": "12.50"}]},
        {"ref": "user_id:nobody", "profileId": None, "newestEvent": None, "values": [{"status": "NOT_FOUND", "value": None}]},
    ]
    freshness = await answered(http, "GET", "/v1/freshness")
    assert (freshness["p50Seconds"], freshness["now"], freshness["lagEvents"]) == (0.25, NOON, 0)
    exported = await answered(http, "POST", "/v1/exports", {})
    assert exported == {"path": "/archive", "eventCount": 3, "digest": "d" * 64, "through": NOON, "withheldCount": 0}
    spread = await answered(http, "GET", "/v1/scores/distribution")
    assert (spread["binCounts"], spread["newest"]) == ([1] * 10, None)


async def test_a_segment_comes_back_as_it_was_given(http: httpx.AsyncClient, customer: str) -> None:
    made = await answered(http, "POST", "/v1/segments", {"key": "good", "name": "Good", "condition": TREE})
    assert (made["condition"], made["version"], made["family"]) == (TREE, 1, "custom")
    changed = await answered(http, "PUT", "/v1/segments/good", {"condition": {"inSegment": "active"}})
    assert (changed["condition"], changed["version"]) == ({"inSegment": "active"}, 2)
    assert (await answered(http, "GET", "/v1/segments"))["data"] == [changed]
    assert await answered(http, "POST", "/v1/segments:preview", {"condition": TREE}) == {
        "memberCount": 1,
        "profileCount": 2,
        "at": NOON,
    }
    assert (await answered(http, "POST", "/v1/segments:recompute"))["profileCount"] == 2
    assert (await answered(http, "GET", "/v1/segments/good/members"))["data"] == [{"profileId": CASE_ID, "since": NOON}]
    why = await answered(http, "GET", f"/v1/segments/good/members/{customer}")
    assert why["findings"] == [{"condition": "orders_count >= 3", "value": "3", "held": True, "depth": 0}]


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"inSegment": "active"}
    for _ in range(depth):
        condition = {"not": condition}
    return condition


@pytest.mark.parametrize(
    ("condition", "code", "field"),
    [
        ({}, "INVALID_FIELD", "condition"),
        ({"inSegment": "a", "feature": "b", "operator": "present"}, "INVALID_FIELD", "condition"),
        ({"featur": "orders_count"}, "UNKNOWN_FIELD", "condition.featur"),
        ({"feature": "orders_count", "operator": "like", "value": 1}, "INVALID_FIELD", "condition"),
        ({"allOf": []}, "INVALID_FIELD", "condition.allOf"),
        (
            {"allOf": [{"inSegment": "a"}, {"trait": "x\0y", "operator": "present"}]},
            "MALFORMED_TEXT",
            "condition.allOf.1.trait",
        ),
        (nested(30), "INVALID_FIELD", "condition"),
        (nested(400), None, None),
    ],
)
async def test_a_bad_condition_is_refused_where_it_is_bad(
    http: httpx.AsyncClient, condition: Any, code: str | None, field: str | None
) -> None:
    answer = await http.post("/v1/segments:preview", json={"condition": condition})
    assert answer.status_code == 400, answer.text
    if code:
        assert problem_of(answer, 400, code)["field"] == field


async def test_a_survey_goes_all_the_way(http: httpx.AsyncClient, ada: str, customer: str, keys: Keys) -> None:
    survey = {"surveyId": "nps", "kind": "NPS", "question": "Would you recommend us?"}
    made = await answered(http, "POST", "/v1/surveys", survey)
    assert made == {**survey, "created": NOON, "answerCount": 0}
    said = {"ref": customer, "rating": 3, "comment": "too slow", "answered": NOON}
    submitted = await answered(http, "POST", "/v1/surveys/nps/answers", said)
    assert (submitted["caseId"], submitted["answer"]["profileId"], submitted["answer"]["comment"]) == (CASE_ID, ada, None)
    problem_of(await http.post("/v1/surveys/nps/answers", json={**said, "rating": 11}), 400, "RATING_OUT_OF_SCALE")
    assert (await answered(http, "GET", "/v1/surveys/nps/answers"))["data"][0]["comment"] is None
    trusted = {"Authorization": f"Bearer {keys.personal}"}
    answers = (await http.get(f"/v1/surveys/nps/answers?ref={customer}", headers=trusted)).json()
    assert answers["data"][0]["comment"] == "too slow"
    results = await answered(http, "GET", "/v1/surveys/nps/results")
    assert (results["kind"], results["overall"]["value"]) == ("NPS", None)
    assert results["segments"][0]["segment"] == "active"
    assert await answered(http, "GET", "/v1/surveys/nps") == made
    assert (await answered(http, "GET", "/v1/surveys"))["data"] == [made]
    assert (await answered(http, "GET", "/v1/cases?open=true"))["openCount"] == 1
    assert (await answered(http, "POST", f"/v1/cases/{CASE_ID}:close"))["closed"] == NOON


async def test_an_experiment_goes_all_the_way(http: httpx.AsyncClient, ada: str, customer: str) -> None:
    draft = {"experimentId": "win-back", "hypothesis": "x", "variants": TWO_VARIANTS, "outcomeEvent": "Order Completed"}
    made = await answered(http, "POST", "/v1/experiments", {**draft, "outcomeWindowDays": 30, "margin": 0.01})
    assert made["variants"] == TWO_VARIANTS
    assert len((await answered(http, "GET", "/v1/experiments"))["data"]) == 1
    refs = {"refs": [customer, "user_id:nobody", ada]}
    assignments = (await answered(http, "POST", "/v1/experiments/win-back/assignments", refs))["assignments"]
    assert [(each["ref"], each["profileId"], each["variant"]) for each in assignments] == [
        (customer, ada, "control"),
        ("user_id:nobody", None, None),
        (ada, ada, "control"),
    ]
    assert await answered(http, "POST", "/v1/experiments/win-back/exposures", refs) == {"recordedCount": 1}
    nobody = {"refs": ["user_id:nobody"]}
    assert await answered(http, "POST", "/v1/experiments/win-back/exposures", nobody) == {"recordedCount": 0}
    results = await answered(http, "GET", "/v1/experiments/win-back/results")
    assert (results["verdict"], results["effect"], results["at"]) == ("not_enough_data", None, NOON)


async def test_a_model_goes_all_the_way(http: httpx.AsyncClient, keys: Keys, backstage: Backstage) -> None:
    assert (await answered(http, "GET", "/v1/models/churn/versions"))["data"][0]["aliases"] == ["champion"]
    assert (await answered(http, "GET", "/v1/models/churn/serving"))["promoted"] == NOON
    evaluation = await answered(http, "POST", "/v1/models/churn/evaluations", {"version": "7", "asOf": NOON})
    assert (evaluation["rowCount"], evaluation["verdict"], evaluation["aucRecent"]) == (10, "better", None)
    assert (await answered(http, "GET", "/v1/models/churn/evaluations"))["data"] == [evaluation]
    promoted = await answered(http, "POST", "/v1/models/churn:promote", {"version": "7", "reason": "better"})
    assert promoted["fromVersion"] is None
    assert keys.private.startswith(promoted["actor"])
    assert (await answered(http, "POST", "/v1/models/churn:rollback", {"reason": "worse"}))["kind"] == "rollback"
    assert (await answered(http, "GET", "/v1/models/churn/promotions"))["data"][0]["kind"] == "promotion"
    question = {"service": "scoring", "baselineVersion": "0.1.0", "candidateVersion": "0.2.0", "windowSeconds": 60}
    verdict = await answered(http, "POST", "/v1/rollouts:judge", question)
    assert (verdict["verdict"], verdict["candidate"], verdict["baseline"]["p99Seconds"]) == ("not_enough_data", None, None)


async def test_a_field_that_is_not_known_is_refused_by_name(http: httpx.AsyncClient) -> None:
    body = {"surveyId": "x", "kind": "NPS", "question": "?", "colour": "red"}
    assert problem_of(await http.post("/v1/surveys", json=body), 400, "UNKNOWN_FIELD")["field"] == "colour"
    missing = await http.post("/v1/surveys", json={"surveyId": "x", "kind": "NPS"})
    assert problem_of(missing, 400, "MISSING_FIELD")["field"] == "question"
    problem_of(
        await http.post("/v1/surveys", content=b"{", headers={"Content-Type": "application/json"}), 400, "MALFORMED_JSON"
    )
    problem_of(await http.post("/v1/surveys", json={**body, "question": "a\0b", "colour": None}), 400, "MALFORMED_TEXT")


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("/v1/surveys", b'{"surveyId":"x","kind":"NPS","question":"\\ud800"}', "MALFORMED_TEXT"),
        ("/v1/surveys", b'{"surveyId":"x","kind":"NPS","question":"\xff"}', "MALFORMED_JSON"),
        ("/v1/segments:preview", b'{"condition":{"trait":"a","operator":"equal","value":"\\ud800"}}', "MALFORMED_TEXT"),
        ("/v1/segments:preview", b'{"condition":{"trait":"a","operator":"equal","value":NaN}}', "INVALID_FIELD"),
        ("/v1/recommendations:batch", b'{"refs":["user_id:a"],"limit":' + b"9" * 5000 + b"}", "MALFORMED_JSON"),
        ("/v1/recommendations:batch", b'{"refs":["user_id:a"],"limit":' + b"9" * 400 + b"}", "INVALID_FIELD"),
        ("/v1/recommendations:batch", b'{"refs":["user_id:a"],"includePurchased":1}', "INVALID_FIELD"),
        ("/v1/scores:batch", b'{"refs":["user_id:\\udfff"]}', "MALFORMED_TEXT"),
        ("/v1/surveys/nps/answers", b'{"ref":"user_id:a","rating":"9"}', "INVALID_FIELD"),
        ("/v1/surveys/nps/answers", b'{"ref":"user_id:a","rating":true}', "INVALID_FIELD"),
    ],
)
async def test_json_that_cannot_be_stored_is_refused(http: httpx.AsyncClient, path: str, content: bytes, code: str) -> None:
    problem_of(await http.post(path, content=content, headers={"Content-Type": "application/json"}), 400, code)


async def test_gzip_and_limits_hold_for_every_body(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    problem_of(await http.post("/v1/surveys", content=b" " * (501 * 1024), headers=headers), 413, "BODY_TOO_LARGE")
    deep = b'{"condition":' + b'{"not":' * 50_000
    answer = await http.post("/v1/segments:preview", content=deep, headers=headers)
    problem_of(answer, 400, "MALFORMED_JSON")
    assert (await http.post("/v1/scores:batch", json={"refs": ["user_id:a"] * 1001})).status_code == 400


async def test_what_was_answered_under_an_idempotency_key_is_said_again(
    http: httpx.AsyncClient, customer: str, backstage: Backstage
) -> None:
    await http.post("/v1/surveys", json={"surveyId": "nps", "kind": "NPS", "question": "?"})
    before = backstage.feedback.answers
    body, headers = {"ref": customer, "rating": 9}, {"Idempotency-Key": "order-7"}
    first, again = [await http.post("/v1/surveys/nps/answers", json=body, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert backstage.feedback.answers == before + 1
    other = await http.post("/v1/surveys/nps/answers", json={**body, "rating": 8}, headers=headers)
    problem_of(other, 409, "IDEMPOTENCY_MISMATCH")
    problem_of(await http.post("/v1/surveys", json={}, headers={"Idempotency-Key": "a b"}), 400, "INVALID_FIELD")


async def test_a_failure_does_not_use_an_idempotency_key_up(http: httpx.AsyncClient, customer: str) -> None:
    headers = {"Idempotency-Key": "once"}
    answer = {"ref": customer, "rating": 9}
    problem_of(await http.post("/v1/surveys/late/answers", json=answer, headers=headers), 404, "NOT_FOUND")
    await http.post("/v1/surveys", json={"surveyId": "late", "kind": "NPS", "question": "?"})
    assert (await http.post("/v1/surveys/late/answers", json=answer, headers=headers)).status_code == 200


async def test_concurrent_requests_under_one_idempotency_key_are_done_once(
    http: httpx.AsyncClient, customer: str, backstage: Backstage
) -> None:
    await http.post("/v1/surveys", json={"surveyId": "nps", "kind": "NPS", "question": "?"})
    before = backstage.feedback.answers
    ask = [
        http.post("/v1/surveys/nps/answers", json={"ref": customer, "rating": 9}, headers={"Idempotency-Key": "k"})
        for _ in range(8)
    ]
    answers = await asyncio.gather(*ask)
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert backstage.feedback.answers == before + 1


async def test_the_document_is_public_and_names_every_code(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
    assert "RATE_LIMITED" in document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
