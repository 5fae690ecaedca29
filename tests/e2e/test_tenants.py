"""A stranger: a tenant that knows every id of another one, asks for all of them everywhere, and hears and changes nothing."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.running import Running
from tests.e2e.shop import (
    ACCOUNT,
    CUSTOMER,
    EXPERIMENT,
    HELD_MESSAGE,
    ITEM,
    PURPOSE,
    SEGMENT,
    SURVEY,
    OpenShop,
    put,
    until,
    wait_until_fresh,
)
from tests.e2e.tenants import SCOPES, new_key, new_tenant

REST_S = 3.0
METHODS = ("get", "post", "put", "patch", "delete")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# These say how things are now, for anybody; and an export of a person is itself written down.
ALIVE = {"/v1/freshness", "/health/live", "/health/ready", "/v1/audit"}
CALLS = {"identify", "track", "page", "screen", "group", "alias", "batch", "import"}
# Some operations take several customers, and say of each that nobody is known, or need something else first.
NOBODY = ('"profileId":null', '"recordedCount":0')
DEFINITION = {"definition": {"aggregation": "count"}}
CONDITION = {"condition": {"inSegment": SEGMENT}}


@dataclass(frozen=True, slots=True)
class Call:
    """`route` as in the document, `path` with ids in it."""

    method: str
    route: str
    path: str
    body: Any

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.route}"

    @property
    def asks_for_an_id(self) -> bool:
        """A model goes by its kind, which every tenant has, and a purpose by the name that the caller gives it."""
        return "{" in self.route.replace("{model}", "").replace("{purpose}", "")

    @property
    def is_ingest(self) -> bool:
        return self.route.removeprefix("/v1/") in CALLS

    def ask(self, client: httpx.Client) -> httpx.Response:
        return client.request(self.method, self.path, json=self.body)


def bodies(ref: str) -> Mapping[str, Any]:
    """By operation; whatever names something names the shop's."""
    event = {"userId": CUSTOMER, "event": "Seen", "type": "track"}
    refs = {"refs": [ref]}
    variants = [{"key": "a", "share": 0.5}, {"key": "b", "share": 0.5}]
    outcome = {"hypothesis": "h", "variants": variants, "outcomeEvent": "Seen", "outcomeWindowDays": 7}
    judged = {"service": "scoring", "baselineVersion": "0.1.0", "candidateVersion": "0.2.0", "windowSeconds": 60}
    return {
        **{f"POST /v1/{call}": event for call in ("track", "identify", "page", "screen")},
        "POST /v1/group": event | {"groupId": "g"},
        "POST /v1/alias": {"userId": f"{CUSTOMER}-again", "previousId": CUSTOMER},
        "POST /v1/batch": {"batch": [event]},
        "POST /v1/import": {"batch": [event]},
        "PUT /v1/retention": {"logDays": 365},
        "PUT /v1/tracking-plan": {"events": {"Seen": {}}},
        "POST /v1/quarantine:replay": {},
        "POST /v1/quarantine/{quarantineId}:edit": {"properties": {"till": 1}},
        "POST /v1/import-jobs": event,
        "POST /v1/match-runs": {},
        "POST /v1/match-suggestions/{matchSuggestionId}:accept": {"reason": "because I can"},
        "POST /v1/match-suggestions/{matchSuggestionId}:reject": {"reason": "other"},
        "POST /v1/profiles:lookup": {"identifiers": [{"namespace": "user_id", "value": CUSTOMER}]},
        "POST /v1/profiles/{ref}:link": {"other": ref, "reason": "because I can"},
        "POST /v1/profiles/{ref}:unmerge": {"part": ref, "reason": "because I can"},
        "PUT /v1/identity-rules": {"joining": ["email"]},
        "PUT /v1/profiles/{ref}/consents": {"purpose": "ads", "state": "granted", "source": "stranger"},
        "PUT /v1/purposes/{purpose}": {"legalBasis": "consent"},
        "POST /v1/profiles/{ref}:erase": {"reason": "because I can"},
        "POST /v1/profiles/{ref}/score": {},
        "POST /v1/scores:batch": refs,
        "POST /v1/recommendations:batch": refs,
        "POST /v1/recommendations:rebuild": {},
        "PATCH /v1/items/{itemId}": {"inCatalogue": False},
        "POST /v1/features:compute": refs,
        "POST /v1/features:describe": {"features": ["orders_count"], "segment": SEGMENT},
        "POST /v1/features:correlate": {"features": ["orders_count", "revenue_total"]},
        "POST /v1/traits": {"key": "of_the_stranger", "owner": "me", "purpose": "none", **DEFINITION},
        "PUT /v1/traits/{key}": DEFINITION,
        "POST /v1/segments": {"key": "of_the_stranger", "name": "Mine", **CONDITION},
        "POST /v1/segments:preview": CONDITION,
        "PUT /v1/segments/{key}": CONDITION,
        "POST /v1/surveys": {"surveyId": SURVEY, "kind": "CSAT", "question": "Whose is this?"},
        "POST /v1/surveys/{surveyId}/answers": {"ref": ref, "rating": 3},
        "POST /v1/experiments": {"experimentId": EXPERIMENT} | outcome,
        "POST /v1/experiments/{experimentId}/assignments": refs,
        "POST /v1/experiments/{experimentId}/exposures": refs,
        "POST /v1/models/{model}/evaluations": {"version": "2", "asOf": "2024-12-01T00:00:00Z"},
        "POST /v1/models/{model}:promote": {"version": "1", "reason": "because I can"},
        "POST /v1/models/{model}:rollback": {"reason": "because I can"},
        "POST /v1/rollouts:judge": judged,
    }


def calls(document: Mapping[str, Any], shop: OpenShop, ref: str) -> Iterator[Call]:
    """Every operation: reads first, then what asks for an id, then what makes something, events last."""
    body_of = bodies(ref)
    ids = {
        "ref": ref, "account": f"group_id:{ACCOUNT}",
        "key": SEGMENT, "surveyId": SURVEY, "experimentId": EXPERIMENT, "caseId": shop.case_id, "itemId": ITEM,
        "importJobId": shop.import_job_id, "matchRunId": shop.match_run_id, "matchSuggestionId": shop.match_run_id,
        "model": "churn", "quarantineId": shop.quarantine_id, "messageId": HELD_MESSAGE, "version": "1",
        "erasureId": shop.erasure_id, "purpose": PURPOSE,
    }  # fmt: skip
    found: list[Call] = []
    for route, operations in document["paths"].items():
        for method in (method for method in METHODS if method in operations):
            body = body_of.get(f"{method.upper()} {route}")
            needs_body = "requestBody" in operations[method]
            assert (body is not None) == needs_body, f"say here what a stranger would send: {method.upper()} {route}"
            found.append(Call(method, route, route.format(**ids), body))
    yield from sorted(found, key=lambda call: (call.method != "get", not call.asks_for_an_id, call.is_ingest))


@pytest.fixture(scope="module")
def document(platform: Running) -> Mapping[str, Any]:
    with platform.client() as client:
        return client.get("/openapi.json").json()


@pytest.fixture
def stranger(platform: Running) -> Iterator[httpx.Client]:
    """A key that may do everything, for a tenant that has nothing."""
    tenant = new_tenant(platform, clock="events").name
    with platform.client(new_key(platform, tenant, "ingest", *SCOPES)) as client:
        yield client


def reads(document: Mapping[str, Any], shop: OpenShop, client: httpx.Client) -> dict[str, Any]:
    """What the shop's own key is answered, by operation."""
    answers = {call.name: call.ask(client) for call in calls(document, shop, shop.profile_id) if call.method == "get"}
    # Lineage is asked of one thing or the other, and has no answer to neither. Who calls everything lets the held event go, and
    # gives the segment a purpose that the customer did not allow.
    refused = {name for name, answer in answers.items() if answer.status_code != 200}
    assert refused <= {"GET /v1/lineage", "GET /v1/quarantine/{quarantineId}", "GET /v1/segments/{key}/members/{ref}"}, refused
    return {
        name: answer.json()
        for name, answer in answers.items()
        if name.removeprefix("GET ") not in ALIVE and name not in refused
    }


def reads_at_rest(document: Mapping[str, Any], shop: OpenShop, client: httpx.Client) -> dict[str, Any]:
    """Once nothing of it changes by itself any more: facts may still be on their way, and the timer of segments may be due."""
    wait_until_fresh(client)
    put(client, "/v1/segments:recompute", None)
    known = reads(document, shop, client)

    def is_at_rest() -> bool:
        nonlocal known
        time.sleep(REST_S)
        before, known = known, reads(document, shop, client)
        return known == before

    until("the shop to be at rest", is_at_rest)
    return known


def secrets_of(shop: OpenShop, known: Mapping[str, Any]) -> set[str]:
    """What nobody but the shop can know: every id that its reads show, and some of its texts."""
    ids = set(UUID.findall(str(known)))
    assert {shop.profile_id, shop.case_id} <= ids
    # How many depends on who is in which segment, which goes by ids that each installation keys for itself.
    assert len(ids) > 100
    texts = {shop.tenant, "_".join(shop.key.split("_")[:2]), "much too late", "A voucher brings", "WHITE HANGING HEART"}
    assert [text for text in texts - {shop.tenant} if text not in str(known)] == []
    return ids | texts


def leaks(answer: httpx.Response, call: Call, secrets: set[str]) -> list[str]:
    """What an answer holds of the shop, but for what the stranger has just said itself."""
    told, said = answer.text + str(answer.headers), f"{call.path} {call.body}"
    if call.route == "/v1/audit":  # the paths that the stranger itself has asked for
        told = re.sub(r'"target":"[^"]*"', "", told)
    if call.route in ("/v1/purposes", "/v1/profiles/{ref}/consents"):  # the names that it has given its own
        told = re.sub(r'"(key|purpose)":"[^"]*"', "", told)
    return [secret for secret in secrets if secret in told and secret not in said]


def complaints(answer: httpx.Response, call: Call, secrets: set[str]) -> list[str]:
    """What is wrong with what a stranger was answered."""
    found = [f"{call.name} told of {secret}" for secret in leaks(answer, call, secrets)]
    missing = answer.status_code == 404 or any(words in answer.text for words in NOBODY)
    if answer.status_code >= 500 or (call.asks_for_an_id and not missing):
        found.append(f"{call.name} answered {answer.status_code}: {answer.text}")
    return found


@pytest.mark.parametrize("by", ["profile_id", "user_id"])
def test_a_stranger_with_all_the_ids_hears_and_changes_nothing(
    platform: Running, shop: OpenShop, document: Mapping[str, Any], stranger: httpx.Client, by: str
) -> None:
    ref = shop.profile_id if by == "profile_id" else f"user_id:{CUSTOMER}"
    with platform.client(shop.key) as owner:
        before = reads_at_rest(document, shop, owner)
        secrets = secrets_of(shop, before)
        asked = list(calls(document, shop, ref))
        wrong = [complaint for call in asked for complaint in complaints(call.ask(stranger), call, secrets)]
        print(f"{len(asked)} operations, {len(secrets)} secrets")
        assert wrong == []
        wait_until_fresh(stranger)
        assert reads(document, shop, owner) == before


def test_the_same_user_id_is_another_person_for_another_tenant(
    platform: Running, shop: OpenShop, document: Mapping[str, Any], stranger: httpx.Client
) -> None:
    with platform.client(shop.key) as owner:
        secrets = secrets_of(shop, reads(document, shop, owner))
    sent = stranger.post("/v1/identify", json={"userId": CUSTOMER, "traits": {"plan": "none"}})
    assert sent.json()["receipts"][0]["status"] == "accepted"
    wait_until_fresh(stranger)
    mine = stranger.get(f"/v1/profiles/user_id:{CUSTOMER}").json()
    assert mine["profileId"] != shop.profile_id
    assert mine["traits"] == {"plan": "none"}
    for call in calls(document, shop, f"user_id:{CUSTOMER}"):
        if call.method == "get":
            assert leaks(call.ask(stranger), call, secrets) == [], call.name
