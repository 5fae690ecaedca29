"""A key's life: replaced with an overlap, refused everywhere soon after it was revoked, at a pace of its own."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from services.gateway.administer import office
from services.gateway.domain import Kind, Pace, key_id_of
from services.gateway.main import Settings
from services.gateway.usecases import create_key, rotate_key
from tests.integration.gateway.conftest import Gateway, Keys, counted, running
from tests.integration.gateway.reading import problem_of
from tests.integration.gateway.test_administer import administer

FRESH_S = 5.0
EVENT = {"userId": "ada", "event": "x"}


async def status_of(gateway: Gateway, key: str) -> int:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        return (await client.get("/v1/profiles", auth=(key, ""))).status_code


async def test_a_revoked_key_is_refused_by_every_replica_within_five_seconds(settings: Settings, keys: Keys) -> None:
    async with running(settings) as one, running(settings) as another, running(settings) as third:
        replicas = (one, another, third)
        assert [await status_of(each, keys.private) for each in replicas] == [200] * 3
        async with office(settings.database_url, settings.profiles_target) as (store, _):
            assert await store.revoke(key_id_of(keys.private) or "")
        revoked = time.monotonic()
        while statuses := [await status_of(each, keys.private) for each in replicas]:
            if statuses == [401] * 3:
                break
            assert time.monotonic() - revoked < FRESH_S + 0.5
            await asyncio.sleep(0.1)


async def test_a_key_that_is_replaced_is_good_until_its_time_and_the_new_one_at_once(
    gateway: Gateway, settings: Settings, keys: Keys
) -> None:
    assert await status_of(gateway, keys.personal) == 200
    async with office(settings.database_url, settings.profiles_target) as (store, _):
        old_id = key_id_of(keys.personal) or ""
        key, text, until = await rotate_key(store, old_id, timedelta(seconds=7))
        assert (key.scopes, key.kind, key.tenant_id) == ((await store.get(old_id)).scopes, Kind.PRIVATE, keys.tenant)
    assert await status_of(gateway, text) == 200
    assert await status_of(gateway, keys.personal) == 200
    while await status_of(gateway, keys.personal) == 200:
        assert datetime.now(UTC) < until + timedelta(seconds=1)
        await asyncio.sleep(0.1)
    assert datetime.now(UTC) >= until - timedelta(seconds=0.5)
    assert await status_of(gateway, text) == 200


async def test_a_key_is_rotated_and_listed_by_command(settings: Settings, gateway: Gateway, keys: Keys) -> None:
    old_id = key_id_of(keys.private) or ""
    code, output = await administer(settings, "rotate-key", old_id, "--overlap-hours", "2")
    text, about, until = output.splitlines()
    assert code == 0
    assert f"its id is {key_id_of(text)}" in about
    assert re.fullmatch(rf"key {old_id}: good until 20[-0-9]+ [:0-9]+Z", until)
    assert await status_of(gateway, text) == 200
    listed = (await administer(settings, "list-keys", keys.tenant))[1]
    assert re.search(rf"{old_id}  .*read.*  good until 20.*  (never|last) used", listed)
    assert text not in listed
    for words, wanted in ((["--overlap-hours", "-1"], "0 to 90 days"), ([], "")):
        code, output = await administer(settings, "rotate-key", old_id, *words)
        assert (code == 2) == bool(wanted)
        assert wanted in output
    await administer(settings, "revoke-key", old_id)
    assert "there is no good key" in (await administer(settings, "rotate-key", old_id))[1]


async def test_a_key_has_a_pace_of_its_own(settings: Settings, gateway: Gateway, keys: Keys) -> None:
    await counted([gateway], 1)
    code, output = await administer(
        settings, "create-key", keys.tenant, "--kind", "private", "--scopes", "read", "--requests-per-s", "2"
    )
    assert code == 0
    assert "  2 requests/s" in (await administer(settings, "list-keys", keys.tenant))[1]
    async with httpx.AsyncClient(base_url=gateway.url, auth=(output.splitlines()[0], ""), trust_env=False) as client:
        answers = [await client.get("/v1/profiles") for _ in range(4)]
    assert answers[0].headers["ratelimit-limit"] == "2"
    problem_of(next(answer for answer in answers if answer.status_code != 200), 429, "RATE_LIMITED")


async def test_who_has_sent_too_many_events_waits_until_they_are_paid_off(
    settings: Settings, gateway: Gateway, keys: Keys
) -> None:
    await counted([gateway], 1)
    async with office(settings.database_url, settings.profiles_target) as (store, _):
        _, text = await create_key(store, keys.tenant, Kind.WRITE, (), Pace(events_per_s=20))
    async with httpx.AsyncClient(base_url=gateway.url, auth=(text, ""), trust_env=False) as client:
        many = {"batch": [{"type": "track", **EVENT}] * 50}
        assert (await client.post("/v1/batch", json=many)).status_code == 200
        refused = await client.post("/v1/batch", json=many)
        problem_of(refused, 429, "RATE_LIMITED")
        assert refused.headers["retry-after"] == "2"
        await asyncio.sleep(1.7)
        assert (await client.post("/v1/track", json=EVENT)).status_code == 200


async def test_replicas_share_a_keys_pace(settings: Settings, keys: Keys) -> None:
    limited = settings.model_copy(update={"rate_limit_per_s": 30})
    async with running(limited) as one, running(limited) as another:
        await counted([one, another], 3)  # the session's own is the third
        async with httpx.AsyncClient(base_url=one.url, auth=(keys.private, ""), trust_env=False) as client:
            assert (await client.get("/v1/profiles")).headers["ratelimit-limit"] == "10"


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain;charset=UTF-8", "application/json"])
@pytest.mark.parametrize("path", ["/v1/track", "/v1/t"])
async def test_a_browser_may_sign_in_the_body(gateway: Gateway, keys: Keys, content_type: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        headers = {"Content-Type": content_type, "Origin": "https://shop.example"}
        signed = await client.post(path, json=EVENT | {"writeKey": keys.write}, headers=headers)
        assert signed.json()["receipts"][0]["status"] == "accepted"
        problem_of(await client.post(path, json=EVENT, headers=headers), 401, "MISSING_KEY")
        problem_of(await client.post(path, json=EVENT | {"writeKey": "wk_none"}, headers=headers), 401, "INVALID_KEY")
        problem_of(await client.post(path, json=EVENT | {"writeKey": 7}, headers=headers), 401, "MISSING_KEY")
        problem_of(await client.post(path, content=b"{", headers=headers), 401, "MISSING_KEY")
        batch = {"batch": [EVENT | {"type": "track"}], "writeKey": keys.write, "sentAt": "2026-01-01T00:00:00Z"}
        assert (await client.post("/v1/b", json=batch, headers=headers)).json()["receipts"][0]["status"] == "accepted"


async def test_only_pages_of_allowed_origins_may_read_what_was_answered(settings: Settings, keys: Keys) -> None:
    allowed = settings.model_copy(update={"allowed_origins": "https://shop.example, https://app.example/"})
    async with running(allowed) as gateway, httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        for origin, expected in (
            ("https://shop.example", True),
            ("https://app.example", True),
            ("https://evil.example", False),
        ):
            preflight = await client.options("/v1/track", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
            answer = await client.post("/v1/track", json=EVENT | {"writeKey": keys.write}, headers={"Origin": origin})
            for each in (preflight, answer):
                assert each.headers.get("access-control-allow-origin") == (origin if expected else None)
                assert each.headers["vary"] == "Origin"
            assert ("retry-after" in answer.headers.get("access-control-expose-headers", "")) == expected
