"""Traits, lineage and figures over HTTP."""

import httpx
import pytest_asyncio

from tests.integration.gateway.conftest import Backstage
from tests.integration.gateway.stand_ins import CASE_ID
from tests.integration.gateway.test_answers import NOON, answered


@pytest_asyncio.fixture
async def ada(http: httpx.AsyncClient, customer: str) -> str:
    """Her profile id."""
    return (await http.get(f"/v1/profiles/{customer}")).json()["profileId"]


TRAIT = {
    "key": "wine_spend",
    "owner": "team-cellar",
    "purpose": "marketing",
    "definition": {"aggregation": "sum", "value": {"number": "price", "times": "quantity"}, "windowDays": 90},
}


async def test_a_trait_is_made_changed_read_and_ended(http: httpx.AsyncClient, ada: str, customer: str) -> None:
    made = await answered(http, "POST", "/v1/traits", TRAIT)
    assert (made["version"], made["status"], made["created"]) == (1, "ACTIVE", NOON)
    assert made["definition"] == TRAIT["definition"]
    again = await http.post("/v1/traits", json=TRAIT)
    assert (again.status_code, again.json()["field"]) == (409, "key")
    changed = await answered(http, "PUT", "/v1/traits/wine_spend", {"definition": {"aggregation": "count"}})
    assert (changed["version"], changed["definition"]) == (2, {"aggregation": "count"})
    assert [each["key"] for each in (await answered(http, "GET", "/v1/traits"))["data"]] == ["wine_spend"]
    assert (await answered(http, "GET", "/v1/traits/wine_spend"))["versions"][0]["version"] == 2
    values = await answered(http, "GET", f"/v1/profiles/{customer}/traits")
    value = {"key": "wine_spend", "version": 1, "status": "PRESENT", "value": "12.50", "unit": ""}
    assert values == {"profileId": ada, "at": NOON, "data": [value]}
    assert await answered(http, "DELETE", "/v1/traits/wine_spend") == {"key": "wine_spend"}
    assert (await http.get("/v1/traits/wine_spend")).status_code == 404


async def test_a_wrong_definition_says_where(http: httpx.AsyncClient) -> None:
    unknown = await http.post("/v1/traits", json=TRAIT | {"definition": {"aggregation": "sum", "colour": "red"}})
    assert (unknown.status_code, unknown.json()["field"]) == (400, "definition")
    assert "colour" in unknown.json()["detail"]
    empty = await http.post("/v1/traits", json=TRAIT | {"definition": {}})
    assert (empty.status_code, empty.json()["field"]) == (400, "definition.aggregation")


async def test_lineage_names_the_segments_and_models_that_use_a_feature(http: httpx.AsyncClient) -> None:
    condition = {"feature": "orders_90d", "operator": "greater", "value": 3}
    await answered(http, "POST", "/v1/segments", {"key": "loyal", "name": "Loyal", "condition": condition})
    [found] = (await answered(http, "GET", "/v1/lineage?feature=orders_90d"))["data"]
    assert (found["kind"], found["set"], found["version"], found["events"]) == ("feature", "churn", None, ["Order Completed"])
    assert found["segments"] == [{"key": "loyal", "version": 1, "directly": True}]
    assert isinstance(found["models"], list)
    assert (await answered(http, "GET", "/v1/lineage?event=Order%20Completed"))["data"][0]["name"] == "orders_count"
    for query in ("", "?feature=a&event=b"):
        assert (await http.get(f"/v1/lineage{query}")).status_code == 400


async def test_features_of_a_segment_are_described_and_correlated(http: httpx.AsyncClient, backstage: Backstage) -> None:
    condition = {"feature": "orders_90d", "operator": "greater", "value": 3}
    await answered(http, "POST", "/v1/segments", {"key": "regular", "name": "Regular", "condition": condition})
    found = await answered(http, "POST", "/v1/features:describe", {"features": ["orders_count"], "segment": "regular"})
    assert (found["profileCount"], found["sampled"], found["data"][0]["median"], found["data"][0]["variance"]) == (
        3,
        False,
        2,
        None,
    )
    assert (list(backstage.catalogue.described.profile_ids), backstage.catalogue.described.everybody) == ([CASE_ID], False)
    await answered(http, "POST", "/v1/features:describe", {"features": ["orders_count"]})
    assert backstage.catalogue.described.everybody
    pairs = await answered(http, "POST", "/v1/features:correlate", {"features": ["orders_count", "revenue_total"]})
    assert [(each["method"], each["coefficient"], each["absent"]) for each in pairs["data"]] == [
        ("PEARSON", 0.5, None),
        ("SPEARMAN", None, "NOT_ENOUGH_DATA"),
    ]
    assert "cause" in pairs["note"]
    missing = await http.post("/v1/features:describe", json={"features": ["orders_count"], "segment": "nobody"})
    assert missing.status_code == 404
