"""Consent over HTTP: the ledger, the purposes, and reads bound to a purpose, each of them."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest

from services.gateway.api import ROUTERS
from services.gateway.api.admission import READS, GuardedRoute
from services.gateway.api.bound import People
from tests.integration.gateway.conftest import Backstage, Gateway, Keys
from tests.integration.gateway.consents_stand_in import FORBIDDEN
from tests.integration.gateway.reading import problem_of
from tests.integration.gateway.stand_ins import CASE_ID

# Routes under a scope that reads people's data, which show nobody: they take no purpose. Each with the reason.
SHOWS_NOBODY: Final[Mapping[str, str]] = {
    "GET /v1/rejections": "events that were refused, and are nobody's",
    "GET /v1/receipts/{messageId}": "what became of a message",
    "GET /v1/quarantine": "events that are held back, and in no profile yet",
    "GET /v1/quarantine/{quarantineId}": "events that are held back, and in no profile yet",
    "GET /v1/tracking-plan": "rules",
    "POST /v1/tracking-plan:infer": "rules, made of shapes",
    "GET /v1/tracking-plan/versions": "rules",
    "GET /v1/tracking-plan/versions/{version}": "rules",
    "GET /v1/tracking-plan/violations": "counts, with a sample of a public property",
    "GET /v1/retention": "a setting",
    "GET /v1/erasures": "the proof that somebody is gone",
    "GET /v1/erasures/{erasureId}": "the proof that somebody is gone",
    "GET /v1/match-runs/{matchRunId}": "counts",
    "GET /v1/identity-rules": "rules",
    "GET /v1/accounts": "companies and households, by their own id",
    "GET /v1/accounts/{account}": "companies and households, by their own id",
    "GET /v1/purposes": "what purposes there are",
    "GET /v1/features": "definitions",
    "GET /v1/feature-sets": "definitions",
    "GET /v1/traits": "definitions",
    "GET /v1/traits/{key}": "definitions",
    "GET /v1/lineage": "definitions",
    "GET /v1/freshness": "counts",
    "POST /v1/features:describe": "figures over many",
    "POST /v1/features:correlate": "figures over many",
    "GET /v1/scores/distribution": "figures over many",
    "GET /v1/segments": "definitions, and counts",
    "GET /v1/segments/{key}": "definitions, and counts",
    "POST /v1/segments:preview": "counts",
    "GET /v1/surveys": "questions",
    "GET /v1/surveys/{surveyId}": "questions",
    "GET /v1/surveys/{surveyId}/results": "figures over many",
    "GET /v1/experiments": "definitions, and counts",
    "GET /v1/experiments/{experimentId}/results": "figures over many",
    "POST /v1/experiments/{experimentId}/assignments": "takes people into an experiment, and tells nothing of them",
    "POST /v1/experiments/{experimentId}/exposures": "records, and answers a count",
    "GET /v1/models/{model}/versions": "models",
    "GET /v1/models/{model}/serving": "models",
    "GET /v1/models/{model}/evaluations": "figures over many",
    "GET /v1/models/{model}/promotions": "decisions on models",
    "POST /v1/rollouts:judge": "figures of a service",
}
REFS: Final = {"refs": ["user_id:ada", "user_id:nobody"]}
BODIES: Final[Mapping[str, Any]] = {
    "POST /v1/profiles:lookup": {"identifiers": [{"namespace": "email", "value": "ada@example.com"}]},
    "POST /v1/profiles/{ref}/score": {},
    "POST /v1/scores:batch": REFS,
    "POST /v1/recommendations:batch": REFS,
    "POST /v1/features:compute": REFS,
}
CONDITION: Final = {"feature": "orders_count", "operator": "greater_or_equal", "value": 3}


def routes() -> dict[str, GuardedRoute]:
    """All that are under a scope that reads people's data, by method and path."""
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, GuardedRoute)]
    return {
        f"{method} {route.path}": route
        for route in found
        for method in route.methods or ()
        if route.need.scope in READS and method in ("GET", "POST")
    }


BOUND: Final = {name: route.need.people for name, route in routes().items() if route.need.people}


def test_every_read_is_bound_or_says_here_why_it_shows_nobody() -> None:
    assert set(routes()) - set(BOUND) == set(SHOWS_NOBODY)
    assert all("{ref}" not in name or people for name, people in BOUND.items())


@pytest.fixture
async def reader(gateway: Gateway, keys: Keys, customer: str, backstage: Backstage) -> Any:
    """A client that may read everything, of a tenant that has a survey and a segment."""
    headers = {"Authorization": f"Bearer {keys.everything}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=30) as client:
        segment = {"key": "high_value", "name": "High value", "condition": CONDITION}
        survey = {"surveyId": "nps", "kind": "NPS", "question": "How likely?"}
        for path, body in (("/v1/segments", segment), ("/v1/surveys", survey)):
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
        yield client


async def ask(client: httpx.AsyncClient, name: str, **params: str) -> httpx.Response:
    method, path = name.split(" ")
    ids = {"ref": "user_id:ada", "account": CASE_ID, "key": "high_value", "surveyId": "nps"}
    return await client.request(method, path.format(**ids), params=params, json=BODIES.get(name))


@pytest.mark.parametrize("name", sorted(BOUND))
async def test_no_read_shows_who_does_not_allow_the_purpose(reader: httpx.AsyncClient, name: str) -> None:
    plain = await ask(reader, name)
    allowed = await ask(reader, name, purpose="service", channel="email")
    denied = await ask(reader, name, purpose=FORBIDDEN)
    if plain.status_code != 200:  # the stand-in has no such thing: the refusal must be that of consent all the same
        assert BOUND[name] is People.IN_PATH
    else:
        assert allowed.status_code == 200, allowed.text
    match BOUND[name]:
        case People.IN_PATH:
            problem_of(denied, 403, "CONSENT_DENIED")
        case People.IN_BODY:
            assert denied.text.count("CONSENT_DENIED") >= 1
            assert "CONSENT_DENIED" not in allowed.text + plain.text
        case _:
            if name == "GET /v1/profiles/{ref}/segments":
                return
            assert len(plain.json()["data"]) >= 1
            assert allowed.json()["data"] == plain.json()["data"]
            assert denied.json()["data"] == []
            assert denied.json()["withheldCount"] == len(plain.json()["data"])


@pytest.mark.parametrize("name", sorted(SHOWS_NOBODY))
async def test_what_shows_nobody_takes_no_purpose(reader: httpx.AsyncClient, name: str) -> None:
    method, path = name.split(" ")
    path = path.replace("{", "").replace("}", "")
    assert (
        problem_of(await reader.request(method, path, params={"purpose": "service"}), 400, "INVALID_FIELD")["field"]
        == "purpose"
    )


async def test_of_several_each_one_is_answered_and_the_denied_ones_are_not_asked_for(
    reader: httpx.AsyncClient, backstage: Backstage
) -> None:
    computed = (await reader.post("/v1/features:compute", params={"purpose": FORBIDDEN}, json=REFS)).json()
    ada, nobody = computed["rows"]
    assert (ada["ref"], ada["newestEvent"]) == ("user_id:ada", None)
    assert {(cell["status"], cell["value"]) for cell in ada["values"]} == {("CONSENT_DENIED", None)}
    assert {cell["status"] for cell in nobody["values"]} == {"NOT_FOUND"}
    scored = (await reader.post("/v1/scores:batch", params={"purpose": FORBIDDEN}, json=REFS)).json()["results"]
    assert [(each["score"], each["notScored"]["reason"]) for each in scored] == [
        (None, "CONSENT_DENIED"),
        (None, "UNKNOWN_PROFILE"),
    ]
    found = (await reader.post("/v1/recommendations:batch", params={"purpose": FORBIDDEN}, json=REFS)).json()["results"]
    assert [(each["status"], each["items"]) for each in found] == [("CONSENT_DENIED", []), ("NOT_FOUND", [])]


async def test_an_export_is_for_its_purpose(reader: httpx.AsyncClient, backstage: Backstage) -> None:
    whole = await reader.post("/v1/exports")
    part = await reader.post("/v1/exports", params={"purpose": "research", "channel": "web"})
    assert (whole.json()["withheldCount"], part.json()["withheldCount"]) == (0, 1)
    assert (await reader.post("/v1/exports", params={"channel": "web"})).status_code == 400


async def test_an_unknown_person_is_unknown_as_before(reader: httpx.AsyncClient) -> None:
    for purpose in ("service", FORBIDDEN):
        answer = await reader.get("/v1/profiles/user_id:nobody", params={"purpose": purpose})
        problem_of(answer, 404, "UNKNOWN_PROFILE")


@pytest.mark.parametrize(
    ("query", "field"),
    [("purpose=", "purpose"), ("purpose=a&purpose=b", "purpose"), ("channel=sms", "purpose"),
     ("purpose=a&channel=sms&channel=email", "channel"), ("purpose=a&channel=fog", "channel")],
)  # fmt: skip
async def test_a_purpose_that_is_not_clear_is_refused(reader: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await reader.get(f"/v1/profiles/user_id:ada?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] == field


async def test_without_a_purpose_nobody_is_asked(reader: httpx.AsyncClient, backstage: Backstage) -> None:
    before = len(backstage.consents.asked)
    assert (await reader.get("/v1/profiles/user_id:ada")).status_code == 200
    assert (await reader.post("/v1/scores:batch", json=REFS)).status_code == 200
    assert len(backstage.consents.asked) == before


async def test_what_somebody_says_is_recorded_and_told(reader: httpx.AsyncClient, backstage: Backstage) -> None:
    path = "/v1/profiles/user_id:ada/consents"
    said = {"purpose": "ads", "channel": "sms", "state": "granted", "source": "checkout", "proofVersion": "terms-2026-03"}
    answer = await reader.put(path, json=said | {"timestamp": "2026-01-01T00:00:00Z"})
    assert answer.status_code == 200, answer.text
    standing = answer.json()["standing"]
    assert (standing["allowed"], standing["state"], standing["ground"], standing["legalBasis"]) == (
        True, "granted", "any_channel", None,
    )  # fmt: skip
    told = backstage.consents.told[-1]
    assert (told.purpose, told.channel, told.source, told.proof_version) == ("ads", "sms", "checkout", "terms-2026-03")
    assert told.timestamp.ToJsonString() == "2026-01-01T00:00:00Z"
    listed = (await reader.get(path)).json()
    assert (listed["standings"][0]["record"]["state"], listed["data"][0]["state"]) == ("denied", "denied")
    assert (listed["hasMore"], listed["next"]) == (True, "more")
    for wrong in (
        {"state": "perhaps"},
        {"channel": "fog"},
        {"source": "Ada said so"},
        {"purpose": ""},
        {"proofVersion": "a b"},
    ):
        assert (await reader.put(path, json=said | wrong)).status_code == 400
    problem_of(await reader.put("/v1/profiles/user_id:nobody/consents", json=said), 404, "UNKNOWN_PROFILE")


async def test_purposes_are_declared(reader: httpx.AsyncClient) -> None:
    put = await reader.put("/v1/purposes/direct%20mail", json={"description": "Catalogues.", "legalBasis": "consent"})
    assert (put.json()["key"], put.json()["legalBasis"]) == ("direct mail", "consent")
    assert (await reader.get("/v1/purposes")).json()["data"] == [put.json()]
    assert (await reader.put("/v1/purposes/ads", json={"legalBasis": "because"})).status_code == 400


async def test_a_segment_says_what_it_is_for(reader: httpx.AsyncClient) -> None:
    draft = {"key": "reachable", "name": "Reachable", "condition": CONDITION, "purpose": "ads", "channel": "sms"}
    made = (await reader.post("/v1/segments", json=draft)).json()
    assert (made["purpose"], made["channel"]) == ("ads", "sms")
    kept = (await reader.put("/v1/segments/reachable", json={"condition": CONDITION})).json()
    assert (kept["purpose"], kept["channel"]) == ("ads", "sms")
    changed = (await reader.put("/v1/segments/reachable", json={"condition": CONDITION, "purpose": "news"})).json()
    assert (changed["purpose"], changed["channel"]) == ("news", None)
