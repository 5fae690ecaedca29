"""Every change leaves a row, nobody's name is in it, and no row can be changed without a trace."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
import pytest_asyncio

from infra.postgres import Temporary
from infra.roles import OWNER
from services.gateway.api.audited import target_of
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Keys
from tests.integration.gateway.reading import problem_of

GUARDED = "UPDATE gateway.audit SET actor = 'nobody' WHERE tenant_id = $1"


@pytest_asyncio.fixture
async def table(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


async def _changes(http: httpx.AsyncClient) -> list[dict[str, object]]:
    answer = await http.get("/v1/audit")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_change_is_written_down_with_who_asked_and_how_it_ended(http: httpx.AsyncClient, keys: Keys) -> None:
    survey = {"surveyId": "nps", "kind": "NPS", "question": "Would you recommend us?"}
    made = await http.post("/v1/surveys", json=survey)
    refused = await http.post("/v1/surveys", json={"surveyId": "nps"})
    assert (made.status_code, refused.status_code) == (200, 400)
    second, first = await _changes(http)
    assert first["actor"] == keys.private[:15]
    assert (first["action"], first["target"], first["status"]) == ("CreateSurvey", "/v1/surveys", 200)
    assert first["requestId"] == made.headers["x-request-id"]
    assert second["status"] == 400


@pytest.mark.parametrize("cursor", ["x", "-1", "0", str(2**63), "9" * 2048])
async def test_a_cursor_that_no_page_gave_is_refused(http: httpx.AsyncClient, cursor: str) -> None:
    problem_of(await http.get("/v1/audit", params={"next": cursor}), 400, "INVALID_CURSOR")
    assert (await http.get("/v1/audit", params={"next": str(2**63 - 1)})).json()["data"] == []


async def test_reads_and_events_leave_nothing(http: httpx.AsyncClient, writer: httpx.AsyncClient) -> None:
    await http.get("/v1/profiles")
    await writer.post("/v1/track", json={"userId": "ada", "event": "Cart Viewed"})
    assert await _changes(http) == []


def test_a_target_shows_what_names_a_thing_and_hides_what_may_name_a_person() -> None:
    profile = "1183da1a-d554-8077-83df-548966fc2d3e"
    path = "/v1/profiles/{ref}:erase"
    assert target_of(path, {"ref": profile}) == f"/v1/profiles/{profile}:erase"
    assert target_of(path, {"ref": "user_id:ada@example.org"}) == path
    assert target_of("/v1/segments/{key}", {"key": "high_value"}) == "/v1/segments/high_value"
    assert target_of("/v1/items/{itemId}", {"itemId": "ada@example.org"}) == "/v1/items/{itemId}"


async def test_neither_the_service_nor_the_owner_can_change_a_row(
    http: httpx.AsyncClient, keys: Keys, table: asyncpg.Connection, platform_database: Temporary
) -> None:
    await http.post("/v1/segments:recompute")
    owner = await asyncpg.connect(platform_database.dsn(OWNER))
    try:
        for connection in (table, owner):
            for statement in (GUARDED, "DELETE FROM gateway.audit WHERE tenant_id = $1"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement, keys.tenant)
    finally:
        await owner.close()
    assert (await http.get("/v1/audit:verify")).json() == {"intact": True, "firstBroken": None}


async def test_a_row_that_was_changed_or_taken_out_is_found(
    http: httpx.AsyncClient, keys: Keys, platform_database: Temporary
) -> None:
    for _ in range(3):
        await http.post("/v1/segments:recompute")
    owner = await asyncpg.connect(platform_database.dsn(OWNER))
    try:
        # As one would who owns the database and wants to hide something.
        for change in (GUARDED + " AND audit_id = 4", "DELETE FROM gateway.audit WHERE tenant_id = $1 AND audit_id = 3"):
            await owner.execute("ALTER TABLE gateway.audit DISABLE TRIGGER audit_is_only_added_to")
            await owner.execute(change, keys.tenant)
            await owner.execute("ALTER TABLE gateway.audit ENABLE TRIGGER audit_is_only_added_to")
            found = (await http.get("/v1/audit:verify")).json()
            assert found == {"intact": False, "firstBroken": 4 if "UPDATE" in change else 3}
    finally:
        await owner.close()


async def test_changes_at_the_same_time_stand_in_one_row_after_another(http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(http.post("/v1/segments:recompute") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await _changes(http)) == 12
    assert (await http.get("/v1/audit:verify")).json()["intact"]
    page = (await http.get("/v1/audit", params={"limit": 5})).json()
    rest = (await http.get("/v1/audit", params={"limit": 1000, "next": page["next"]})).json()
    assert len(page["data"]) + len(rest["data"]) == 12
    assert (await http.get("/v1/audit", params={"next": "x"})).json()["code"] == "INVALID_CURSOR"
