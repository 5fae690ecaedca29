"""Every read of a whole platform, for a purpose that its customer denied: CONSENT_DENIED, and nothing of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.e2e.running import Running
from tests.e2e.shop import CUSTOMER, SEGMENT, SURVEY, OpenShop, wait_until_fresh
from tests.e2e.test_tenants import Call, calls
from tests.integration.gateway.test_consents import SHOWS_NOBODY

FORBIDDEN, ALLOWED = "resale", "service"
LISTS = {"GET /v1/profiles", "GET /v1/segments/{key}/members", "GET /v1/surveys/{surveyId}/answers", "GET /v1/cases",
         "GET /v1/accounts/{account}/members"}  # fmt: skip
# Lists in which this customer is not: what is denied is left out of them all the same.
OTHER_LISTS = {"GET /v1/identity-issues", "GET /v1/match-suggestions"}
BATCHES = {"POST /v1/features:compute", "POST /v1/scores:batch", "POST /v1/recommendations:batch", "POST /v1/profiles:lookup"}


@pytest.fixture
def owner(platform: Running, shop: OpenShop) -> Iterator[httpx.Client]:
    with platform.client(shop.key) as client:
        said = {"purpose": FORBIDDEN, "state": "denied", "source": "app/settings", "proofVersion": "terms-1"}
        answer = client.put(f"/v1/profiles/{shop.profile_id}/consents", json=said)
        assert answer.status_code == 200, answer.text
        assert answer.json()["standing"]["allowed"] is False
        yield client


def reads(client: httpx.Client, shop: OpenShop, ref: str) -> list[Call]:
    """Every GET, and every POST that only asks: those under a scope that reads, as the document says."""
    document = client.get("/openapi.json").json()
    found: list[Call] = []
    for call in calls(document, shop, ref):
        words = document["paths"][call.route][call.method]["description"]
        reading = any(f"Scope: `{scope}`" in words for scope in ("read", "personal", "score"))
        if call.route.startswith("/v1/") and call.method in ("get", "post") and reading:
            found.append(call)
    return found


def ask(client: httpx.Client, call: Call, purpose: str) -> httpx.Response:
    params = {"purpose": purpose, **({"limit": "1000"} if call.name in LISTS else {})}
    return client.request(call.method, call.path, params=params, json=call.body)


def complaint(client: httpx.Client, call: Call, shop: OpenShop) -> str:
    """What is wrong with the answer for the forbidden purpose; "" where it is as it should be."""
    answer = ask(client, call, FORBIDDEN)
    told = f"{call.name}: {answer.status_code} {answer.text[:300]}"
    if call.name in SHOWS_NOBODY:
        return "" if answer.status_code == 400 and answer.json()["field"] == "purpose" else told
    if call.name in LISTS:
        allowed = ask(client, call, ALLOWED)
        was_there = shop.profile_id in allowed.text and allowed.json()["withheldCount"] == 0
        is_gone = answer.status_code == 200 and shop.profile_id not in answer.text and answer.json()["withheldCount"] >= 1
        return "" if was_there and is_gone else f"{told} / {allowed.text[:300]}"
    if call.name in OTHER_LISTS:
        return "" if answer.status_code == 200 and "withheldCount" in answer.json() else told
    if call.name in BATCHES:
        allowed = ask(client, call, ALLOWED)
        is_said = answer.status_code == 200 and "CONSENT_DENIED" in answer.text and "PRESENT" not in answer.text
        return "" if is_said and allowed.status_code == 200 and "CONSENT_DENIED" not in allowed.text else told
    is_denied = answer.status_code == 403 and answer.json()["code"] == "CONSENT_DENIED"
    return "" if is_denied and answer.json().keys() <= {"type", "title", "status", "code", "detail", "requestId"} else told


@pytest.mark.parametrize("by", ["profile_id", "user_id"])
def test_no_read_shows_a_customer_for_what_they_denied(platform: Running, shop: OpenShop, owner: httpx.Client, by: str) -> None:
    ref = shop.profile_id if by == "profile_id" else f"user_id:{CUSTOMER}"
    asked = reads(owner, shop, ref)
    print(f"{len(asked)} reads, {sum(call.name not in SHOWS_NOBODY for call in asked)} of people")
    assert [words for call in asked if (words := complaint(owner, call, shop))] == []
    assert {call.name for call in asked} >= LISTS | OTHER_LISTS | BATCHES | set(SHOWS_NOBODY)


def test_the_same_reads_are_answered_for_what_is_allowed(shop: OpenShop, owner: httpx.Client) -> None:
    for call in reads(owner, shop, shop.profile_id):
        if call.name not in SHOWS_NOBODY:
            answer = ask(owner, call, ALLOWED)
            assert answer.status_code == 200, f"{call.name}: {answer.status_code} {answer.text}"


def test_a_trait_and_a_segment_that_are_for_something_are_not_shown_without_it(shop: OpenShop, owner: httpx.Client) -> None:
    trait = {"key": "for_resale", "owner": "shop", "purpose": FORBIDDEN, "definition": {"aggregation": "count"}}
    condition = {"condition": {"inSegment": SEGMENT}}
    segment = {"key": "for_resale", "name": "For resale", "purpose": FORBIDDEN, **condition}
    for path, body in (("/v1/traits", trait), ("/v1/segments", segment)):
        answer = owner.post(path, json=body)
        assert answer.is_success or answer.status_code == 409, answer.text
    values = owner.get(f"/v1/profiles/{shop.profile_id}/traits").json()["data"]
    found: Mapping[str, Any] = {each["key"]: (each["status"], each["value"]) for each in values}
    assert found["for_resale"] == ("CONSENT_DENIED", None)
    assert found[SEGMENT][0] == "PRESENT"
    in_it = f"/v1/segments/{SEGMENT}/members/{shop.profile_id}"
    assert owner.get(in_it).json()["member"] is True
    denied = owner.get(f"/v1/segments/for_resale/members/{shop.profile_id}")
    assert (denied.status_code, denied.json()["code"]) == (403, "CONSENT_DENIED")
    members = owner.get("/v1/segments/for_resale/members", params={"limit": 1000}).json()
    assert shop.profile_id not in str(members["data"])
    assert members["withheldCount"] == 1
    mine = owner.get(f"/v1/profiles/{shop.profile_id}/segments").json()
    assert "for_resale" not in {each["key"] for each in mine["data"]}
    assert mine["withheldCount"] == 1


def test_an_export_leaves_out_who_denied_what_it_is_for(owner: httpx.Client) -> None:
    whole, part = owner.post("/v1/exports"), owner.post("/v1/exports", params={"purpose": FORBIDDEN})
    assert (whole.status_code, part.status_code) == (200, 200), part.text
    assert (whole.json()["withheldCount"], part.json()["withheldCount"]) == (0, 1)
    assert part.json()["eventCount"] < whole.json()["eventCount"]
    assert part.json()["path"] != whole.json()["path"]


def test_a_word_of_segments_shape_holds_for_reads_and_is_told(platform: Running, shop: OpenShop, owner: httpx.Client) -> None:
    call = {
        "userId": CUSTOMER,
        "event": "Segment Consent Preference Updated",
        "timestamp": "2025-01-01T00:00:00Z",
        "context": {"consent": {"categoryPreferences": {"Advertising": False, "Analytics": True}}},
    }
    answer = owner.post("/v1/track", json=call)
    assert answer.json()["receipts"][0]["status"] == "accepted"
    wait_until_fresh(owner)
    path = f"/v1/profiles/user_id:{CUSTOMER}"
    assert owner.get(path, params={"purpose": "Advertising"}).json()["code"] == "CONSENT_DENIED"
    assert owner.get(path, params={"purpose": "Analytics"}).status_code == 200
    assert owner.get(path, params={"purpose": "Analytics", "channel": "sms"}).json()["code"] == "CONSENT_DENIED"
    told = {each["purpose"]: each for each in owner.get(f"{path}/consents").json()["standings"]}
    assert (told["Advertising"]["allowed"], told["Advertising"]["ground"]) == (False, "any_channel")
    assert owner.get(f"/v1/surveys/{SURVEY}/answers", params={"ref": f"user_id:{CUSTOMER}", "purpose": "Advertising"}).json()[
        "code"
    ] == "CONSENT_DENIED"  # fmt: skip
