"""Keys, scopes, pace, and refusals that have nothing to do with what was asked."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from services.gateway.administer import office
from services.gateway.domain import key_id_of
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Gateway, Keys, MakeTenant, counted, running
from tests.integration.gateway.reading import problem_of


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MISSING_KEY"),
        ({"Authorization": "Bearer sk_000000000000_" + "0" * 64}, "INVALID_KEY"),
        ({"Authorization": "Bearer something else"}, "INVALID_KEY"),
        ({"Authorization": "Basic !!!"}, "INVALID_KEY"),
        ({"Authorization": "Basic d2s6"}, "INVALID_KEY"),
        ({"Authorization": "Digest x"}, "MISSING_KEY"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/track"), ("GET", "/v1/profiles"), ("POST", "/v1/surveys")])
async def test_nobody_comes_in_without_a_good_key(
    gateway: Gateway, method: str, path: str, headers: dict[str, str], code: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        answer = await client.request(method, path, headers=headers, content=b"not even JSON" if method == "POST" else None)
    problem_of(answer, 401, code)
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_the_right_id_with_another_secret_is_refused(http: httpx.AsyncClient, keys: Keys) -> None:
    forged = keys.private[:-4] + ("0000" if keys.private[-4:] != "0000" else "1111")
    problem_of(await http.get("/v1/profiles", headers={"Authorization": f"Bearer {forged}"}), 401, "INVALID_KEY")


async def test_a_scope_that_is_missing_is_named(writer: httpx.AsyncClient, http: httpx.AsyncClient) -> None:
    assert "'read'" in problem_of(await writer.get("/v1/profiles"), 403, "MISSING_SCOPE")["detail"]
    assert "'ingest'" in problem_of(await http.post("/v1/track", json={"userId": "a"}), 403, "MISSING_SCOPE")["detail"]


async def test_a_key_works_both_ways(gateway: Gateway, keys: Keys) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        basic = await client.get("/v1/profiles", auth=httpx.BasicAuth(keys.private, ""))
        bearer = await client.get("/v1/profiles", headers={"Authorization": f"Bearer {keys.private}"})
    assert (basic.status_code, bearer.status_code) == (200, 200)


async def test_a_revoked_key_is_refused_within_five_seconds(http: httpx.AsyncClient, keys: Keys, settings: Settings) -> None:
    assert (await http.get("/v1/profiles")).status_code == 200
    async with office(settings.database_url, settings.profiles_target) as (store, _):
        assert await store.revoke(key_id_of(keys.private) or "")
        assert not await store.revoke(key_id_of(keys.private) or "")
    revoked = time.monotonic()
    while (await http.get("/v1/profiles")).status_code == 200:
        assert time.monotonic() - revoked < 6
        await asyncio.sleep(0.2)
    assert time.monotonic() - revoked < 6


async def test_a_tenant_sees_nothing_of_another(http: httpx.AsyncClient, customer: str, make_tenant: MakeTenant) -> None:
    mine = (await http.get(f"/v1/profiles/{customer}")).json()["profileId"]
    await http.post("/v1/surveys", json={"surveyId": "nps", "kind": "NPS", "question": "Well?"})
    condition = {"feature": "orders_count", "operator": "greater", "value": 1}
    await http.post("/v1/segments", json={"key": "regulars", "name": "Regulars", "condition": condition})
    stranger = {"Authorization": f"Bearer {(await make_tenant()).personal}"}
    for ref in (customer, mine):
        for path in ("", "/portrait", "/events", "/segments", "/score", "/recommendations", "/next-best-action"):
            answer = await http.get(f"/v1/profiles/{ref}{path}", headers=stranger)
            problem_of(answer, 404, "UNKNOWN_PROFILE")
        problem_of(await http.post(f"/v1/profiles/{ref}/score", headers=stranger), 404, "UNKNOWN_PROFILE")
        rating = {"ref": ref, "rating": 9}
        problem_of(await http.post("/v1/surveys/nps/answers", json=rating, headers=stranger), 404, "UNKNOWN_PROFILE")
    problem_of(await http.get("/v1/surveys/nps", headers=stranger), 404, "NOT_FOUND")
    problem_of(await http.get("/v1/segments/regulars", headers=stranger), 404, "NOT_FOUND")
    body = {"refs": [customer, mine]}
    scored = (await http.post("/v1/scores:batch", json=body, headers=stranger)).json()["results"]
    assert [result["notScored"]["reason"] for result in scored] == ["UNKNOWN_PROFILE"] * 2
    shown = (await http.post("/v1/recommendations:batch", json=body, headers=stranger)).json()["results"]
    assert [(result["profileId"], result["items"]) for result in shown] == [(None, []), (None, [])]
    computed = (await http.post("/v1/features:compute", json=body, headers=stranger)).json()["rows"]
    assert [row["profileId"] for row in computed] == [None, None]


async def test_a_key_in_haste_is_told_when_to_come_back(settings: Settings, keys: Keys, gateway: Gateway) -> None:
    async with running(settings.model_copy(update={"rate_limit_per_s": 6})) as hasty:
        await counted([gateway, hasty], 2)
        headers = {"Authorization": f"Bearer {keys.private}"}
        async with httpx.AsyncClient(base_url=hasty.url, headers=headers, trust_env=False) as client:
            answers = [await client.get("/v1/profiles") for _ in range(6)]
    assert answers[0].headers["ratelimit-limit"] == "3"
    assert answers[0].headers["ratelimit-remaining"] == "2"
    refused = next(answer for answer in answers if answer.status_code != 200)
    problem_of(refused, 429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-remaining"] == "0"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/profiles/user_id:a/nothing", 404, "ROUTE_NOT_FOUND"),
        ("DELETE", "/v1/profiles", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/track", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/v1/profiles/user_id:a/score", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/profiles/somebody", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles/user_id:a%00b", 400, "MALFORMED_TEXT"),
        ("GET", "/v1/profiles?next=%00", 400, "MALFORMED_TEXT"),
        ("GET", "/v1/profiles?limit=0", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles?limit=1001", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles?limit=many", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles?next=made-up", 400, "INVALID_CURSOR"),
        ("GET", "/v1/profiles/user_id:a/portrait?at=yesterday", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles/user_id:a/portrait?at=2011-01-01T00:00:00", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles/user_id:a/portrait?at=0001-01-01T00:00:00%2B14:00", 400, "INVALID_FIELD"),
        ("GET", "/v1/profiles/user_id:a", 404, "UNKNOWN_PROFILE"),
        ("POST", "/v1/profiles/user_id:a/score", 404, "UNKNOWN_PROFILE"),
        ("POST", "/v1/profiles/somebody/score", 400, "INVALID_FIELD"),
        ("GET", "/v1/segments/High%20Value", 400, "INVALID_FIELD"),
        ("GET", "/v1/segments/none", 404, "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_is_a_problem_with_a_code(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await http.request(method, path)
    problem_of(answer, status, code)
    assert (answer.status_code == 405) == ("allow" in answer.headers)


async def test_a_field_of_a_services_goes_by_its_name_here(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/profiles?next=made-up")).json()["field"] == "next"


async def test_a_user_id_may_hold_a_slash(http: httpx.AsyncClient, writer: httpx.AsyncClient) -> None:
    await writer.post("/v1/identify", json={"userId": "a/b"})
    known = (await http.get("/v1/profiles/user_id%3Aa%2Fb")).json()["profileId"]
    assert (await http.post("/v1/profiles/user_id:a%2Fb/score")).json()["profileId"] == known


async def test_a_request_id_of_the_clients_own_comes_back(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/nothing", headers={"X-Request-Id": "order-7"})
    assert answer.headers["x-request-id"] == answer.json()["requestId"] == "order-7"


async def test_health_needs_no_key_and_tells_whether_it_stops(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        assert (await client.get("/health/live")).json() == {"status": "ok"}
        assert (await client.get("/health/ready")).json() == {"status": "ok"}
        gateway.app.state.ready = False
        stopping = await client.get("/health/ready")
        gateway.app.state.ready = True
        assert (stopping.status_code, stopping.json()) == (503, {"status": "stopping"})
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/")).headers["location"] == "/console"


DOWN: list[Callable[[httpx.AsyncClient], object]] = [
    lambda client: client.get("/v1/profiles"),
    lambda client: client.get("/v1/segments"),
    lambda client: client.get("/v1/surveys"),
    lambda client: client.get("/v1/experiments"),
    lambda client: client.get("/v1/models/churn/serving"),
    lambda client: client.post("/v1/profiles/user_id:a/score"),
    lambda client: client.post("/v1/recommendations:rebuild", json={}),
]


async def test_a_service_that_is_down_is_answered_with_when_to_come_back(settings: Settings, keys: Keys) -> None:
    nowhere = {name: "127.0.0.1:1" for name in Settings.model_fields if name.endswith("_target")}
    async with running(settings.model_copy(update=nowhere)) as gateway:
        headers = {"Authorization": f"Bearer {keys.private}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=30) as client:
            for ask in DOWN:
                answer = await ask(client)  # pyright: ignore[reportGeneralTypeIssues]
                problem_of(answer, 503, "SERVICE_UNAVAILABLE")
                assert answer.headers["retry-after"] == "1"
            sent = await client.post("/v1/track", json={"userId": "a"}, headers={"Authorization": f"Bearer {keys.write}"})
            problem_of(sent, 503, "SERVICE_UNAVAILABLE")
            assert (await client.get("/health/ready")).status_code == 200


async def test_a_line_of_the_log_names_the_route_and_never_the_path(
    http: httpx.AsyncClient, writer: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], keys: Keys
) -> None:
    await http.get("/v1/profiles/user_id:secret-person")
    await http.post("/v1/profiles/user_id:secret-person/score")
    await http.get("/v1/nobody/secret-person")
    await http.get("/v1/surveys/nps/answers?ref=user_id:secret-person")
    await writer.post("/v1/track", json={"userId": "secret-person", "event": "x"})
    lines = capsys.readouterr().out
    assert '"GET /v1/profiles/{ref}"' in lines
    assert '"POST /v1/profiles/{ref}/score"' in lines
    assert '"GET /v1/surveys/{surveyId}/answers"' in lines
    assert '"POST /v1/track"' in lines
    assert keys.tenant in lines
    assert "secret-person" not in lines
    assert keys.private not in lines
