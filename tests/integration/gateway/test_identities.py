"""Who is who, from HTTP through gRPC and back."""

from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Backstage
from tests.integration.gateway.more_stand_ins import CASE_ID


async def _answered(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await http.request(method, path, **({} if body is None else {"json": body}))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_address_is_looked_up_in_a_body(http: httpx.AsyncClient) -> None:
    asked = {"identifiers": [{"namespace": "email", "value": value} for value in ("ada@example.com", "bob@example.com")]}
    found = await _answered(http, "POST", "/v1/profiles:lookup", asked)
    assert found["data"] == [
        {"namespace": "email", "profileId": CASE_ID, "status": "FOUND"},
        {"namespace": "email", "profileId": None, "status": "NOT_FOUND"},
    ]


async def test_an_address_stands_in_no_url(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/profiles/email:ada@example.com/identity-graph")
    assert answer.status_code == 400
    assert "ada" not in answer.text


async def test_two_are_linked_and_parted_with_a_reason(http: httpx.AsyncClient, backstage: Backstage) -> None:
    body = {"other": "user_id:b", "reason": "one person", "messageId": "m1"}
    assert await _answered(http, "POST", "/v1/profiles/user_id:a:link", body) == {"profileId": CASE_ID}
    said = backstage.identities.told[-1]
    assert (said.ref, said.other_ref, said.reason, said.message_id) == ("user_id:a", "user_id:b", "one person", "m1")
    body = {"part": "anonymous_id:x", "from": "user_id:b", "reason": "two persons"}
    parted = await _answered(http, "POST", f"/v1/profiles/{CASE_ID}:unmerge", body)
    assert parted == {"profileId": CASE_ID, "partedProfileId": CASE_ID}
    said = backstage.identities.told[-1]
    assert (said.ref, said.part, getattr(said, "from"), said.reason) == (CASE_ID, "anonymous_id:x", "user_id:b", "two persons")


@pytest.mark.parametrize(
    "body", [{"part": "user_id:b"}, {"part": "email:a@b.c", "reason": "x"}, {"part": "user_id:b", "reason": ""}]
)
async def test_an_unmerge_says_what_and_why(http: httpx.AsyncClient, body: Any) -> None:
    assert (await http.post("/v1/profiles/user_id:a:unmerge", json=body)).status_code == 400


async def test_the_graph_and_the_issues_are_told(http: httpx.AsyncClient) -> None:
    graph = await _answered(http, "GET", f"/v1/profiles/{CASE_ID}/identity-graph")
    assert graph["nodes"][0]["namespace"] == "email"
    assert graph["nodes"][0]["personal"] == ""
    assert graph["links"][0]["refused"] == "unmerged"
    assert graph["rulings"][0]["inForce"] is True
    issues = await _answered(http, "GET", "/v1/identity-issues")
    assert (issues["data"][0]["kind"], issues["hasMore"], issues["next"]) == ("shared", True, "more")


async def test_rules_are_put_and_told_without_the_values(http: httpx.AsyncClient) -> None:
    asked = {"joining": ["email"], "blocked": [{"namespace": "email", "value": "info@shop.example"}]}
    rules = await _answered(http, "PUT", "/v1/identity-rules", asked)
    assert (rules["joining"], rules["blockedCount"], rules["maxIdentifiers"]) == (["email"], 1, 100)
    assert await _answered(http, "GET", "/v1/identity-rules") == rules
    assert (await http.put("/v1/identity-rules", json={"joining": ["user_id"]})).status_code == 400


async def test_accounts_are_told(http: httpx.AsyncClient) -> None:
    listed = await _answered(http, "GET", "/v1/accounts?kind=household")
    assert (listed["data"][0]["kind"], listed["data"][0]["traits"]) == ("household", {"industry": "mugs"})
    account = await _answered(http, "GET", "/v1/accounts/group_id:flat%2F4")
    assert account["groupId"] == "group_id:flat/4"
    members = await _answered(http, "GET", f"/v1/accounts/{CASE_ID}/members")
    assert members["data"][0]["profileId"] == CASE_ID
    mine = await _answered(http, "GET", f"/v1/profiles/{CASE_ID}/accounts")
    assert mine["data"][0]["groupId"] == "flat 4"
    assert (await http.get("/v1/accounts/acme")).status_code == 400
