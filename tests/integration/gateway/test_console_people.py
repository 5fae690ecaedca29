"""People at the console: sign-in through an identity provider, what their role shows them, and the end of their session."""

import asyncio
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from infra.ports import free_port
from infra.postgres import Temporary
from services.gateway.main import Settings
from tests.browser import DESK, Reader, needs_browser, open_browser
from tests.integration.gateway.conftest import Gateway, Keys, running
from tests.provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider

EMAIL, MASKED, PASSPORT = "ada@example.com", "a•••@e•••.com", "X1234567"
CUSTOMER = "/console/customers/user_id:ada"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        yield provider


def with_people(settings: Settings, issuer: str, **more: Any) -> Settings:
    """On a port that is known before, since the provider sends browsers back there."""
    port = free_port()
    people = {"oidc_issuer": issuer, "oidc_audience": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}
    return settings.model_copy(update={"port": port, "public_url": f"http://127.0.0.1:{port}", **people, **more})


@pytest_asyncio.fixture(scope="module")
async def console(settings: Settings, provider: IdentityProvider) -> AsyncIterator[Gateway]:
    async with running(with_people(settings, provider.issuer)) as gateway:
        yield gateway


@asynccontextmanager
async def visitor(gateway: Gateway, **headers: str) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30, headers=headers) as client:
        yield client


async def sign_in(
    client: httpx.AsyncClient, provider: IdentityProvider, tenant: str, /, *roles: str, **changes: Any
) -> httpx.Response:
    """As a browser does it, as far as we answer."""
    provider.person = provider.claims(tenant, *roles, **changes)
    leaving = await client.get("/console/sign-in/provider", params={"to": CUSTOMER})
    assert leaving.status_code == 303, leaving.text
    back = await client.get(leaving.headers["location"])
    return await client.get(back.headers["location"])


@pytest_asyncio.fixture
async def known(console: Gateway, keys: Keys) -> Keys:
    """A tenant with the customer."""
    async with visitor(console, Authorization=f"Bearer {keys.write}") as client:
        assert (await client.post("/v1/identify", json={"userId": "ada"})).status_code == 200
    return keys


async def test_a_viewer_reads_with_personal_values_masked(console: Gateway, provider: IdentityProvider, known: Keys) -> None:
    async with visitor(console) as client:
        led = await client.get(CUSTOMER)
        assert led.headers["location"].startswith("/console/sign-in?to=")
        assert "Sign in with your account" in (await client.get(led.headers["location"])).text
        came = await sign_in(client, provider, known.tenant, "viewer")
        assert (came.status_code, came.headers["location"]) == (303, CUSTOMER)
        page = (await client.get(CUSTOMER)).text
        refused = await client.post(f"{CUSTOMER}/reveal")
        scoring = await client.post(f"{CUSTOMER}/score")
    assert MASKED in page
    assert EMAIL not in page
    assert PASSPORT not in page
    assert "Viewer" in page
    assert refused.status_code == scoring.status_code == 403
    assert "it needs the scope personal, which these have: admin" in refused.text
    assert PASSPORT not in refused.text


async def test_an_administrator_reads_personal_values_and_reveals_sensitive_ones_on_the_record(
    console: Gateway, provider: IdentityProvider, known: Keys
) -> None:
    async with visitor(console) as client:
        await sign_in(client, provider, known.tenant, "admin")
        page = (await client.get(CUSTOMER)).text
        assert EMAIL in page
        assert PASSPORT not in page
        for headers in ({}, {"hx-request": "true"}):
            assert PASSPORT in (await client.post(f"{CUSTOMER}/reveal", headers=headers)).text
        assert PASSPORT not in (await client.get(CUSTOMER)).text
    async with visitor(console, Authorization=f"Bearer {known.private}") as client:
        changes = (await client.get("/v1/audit")).json()["data"]
        assert (await client.get("/v1/audit:verify")).json()["intact"] is True
    assert [(each["actor"], each["action"], each["status"]) for each in changes] == [
        ("sub:248289761001/admin", "RevealSensitive", 200)
    ] * 2
    assert re.fullmatch(r"/console/customers/[0-9a-f-]{36}/reveal", changes[0]["target"])


async def test_the_cookie_is_out_of_reach_and_says_nothing(console: Gateway, provider: IdentityProvider, keys: Keys) -> None:
    async with visitor(console) as client:
        came = await sign_in(client, provider, keys.tenant, "viewer")
        cookie = next(each for each in came.headers.get_list("set-cookie") if each.startswith("rapport_console="))
        assert {"HttpOnly", "Path=/console", "SameSite=lax", "Max-Age=28800"} <= set(cookie.split("; "))
        assert "Secure" not in cookie  # this machine speaks in the clear
        assert keys.tenant not in cookie
        assert "rapport_sign_in" not in client.cookies
        api = await client.get("/v1/segments", headers={"Cookie": cookie.partition(";")[0]})
    assert api.json()["code"] == "MISSING_KEY"


async def test_behind_https_the_cookies_are_kept_to_it(settings: Settings, provider: IdentityProvider) -> None:
    away = with_people(settings, provider.issuer, public_url="https://rapport.example")
    async with running(away) as gateway, visitor(gateway) as client:
        leaving = await client.get("/console/sign-in/provider")
    assert "Secure" in leaving.headers["set-cookie"]
    assert parse_qs(urlsplit(leaving.headers["location"]).query)["redirect_uri"] == [
        "https://rapport.example/console/sign-in/callback"
    ]


async def test_signing_out_ends_the_session_for_who_kept_the_cookie_and_in_every_process(
    console: Gateway, settings: Settings, provider: IdentityProvider, keys: Keys
) -> None:
    async with running(with_people(settings, provider.issuer)) as second, visitor(console) as client:
        await sign_in(client, provider, keys.tenant, "viewer")
        kept = {"Cookie": f"rapport_console={client.cookies['rapport_console']}"}
        async with visitor(second, **kept) as elsewhere:
            assert (await elsewhere.get("/console")).status_code == 200
            foreign = await client.post("/console/sign-out", headers={"Sec-Fetch-Site": "cross-site"})
            assert foreign.status_code == 403
            assert (await elsewhere.get("/console")).status_code == 200
            assert (await client.post("/console/sign-out")).status_code == 303
            assert (await elsewhere.get("/console")).status_code == 303


async def test_a_session_ends_by_itself_and_the_database_has_only_its_digest(
    console: Gateway, provider: IdentityProvider, keys: Keys, platform_database: Temporary
) -> None:
    async with visitor(console) as client:
        await sign_in(client, provider, keys.tenant, "viewer")
        connection = await asyncpg.connect(platform_database.dsn("rapport_gateway"))
        try:
            rows = await connection.fetch("SELECT * FROM gateway.sessions WHERE tenant_id = $1", keys.tenant)
            assert len(rows) == 1
            text = str([dict(row) for row in rows])
            assert client.cookies["rapport_console"] not in text
            assert "Private" not in text
            assert "example" not in text
            assert (await client.get("/console")).status_code == 200
            await connection.execute("UPDATE gateway.sessions SET expires = now() WHERE tenant_id = $1", keys.tenant)
            assert (await client.get("/console")).status_code == 303
        finally:
            await connection.close()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"state": "another"}, 401),
        ({"code": "made-up"}, 401),
        ({"iss": "https://elsewhere.example"}, 401),
        ({"error": "access_denied"}, 401),
        ({"code": ""}, 401),
    ],
)
async def test_an_answer_that_is_not_ours_signs_nobody_in(
    console: Gateway, provider: IdentityProvider, keys: Keys, changed: dict[str, str], status: int
) -> None:
    provider.person = provider.claims(keys.tenant, "admin")
    async with visitor(console) as client:
        leaving = await client.get("/console/sign-in/provider")
        back = httpx.URL((await client.get(leaving.headers["location"])).headers["location"])
        answer = await client.get(back.copy_merge_params(changed))
        assert answer.status_code == status, answer.text
        assert "Sign in with your account" in answer.text
        assert (await client.get("/console")).status_code == 303


async def test_the_answer_counts_only_in_the_browser_that_asked_and_once(
    console: Gateway, provider: IdentityProvider, keys: Keys
) -> None:
    provider.person = provider.claims(keys.tenant, "admin")
    async with visitor(console) as client, visitor(console) as victim:
        leaving = await client.get("/console/sign-in/provider")
        back = (await client.get(leaving.headers["location"])).headers["location"]
        assert (await victim.get(back)).status_code == 401
        # Another verifier than the challenge was made of.
        errand = client.cookies["rapport_sign_in"]
        tampered = re.sub(r"verifier=[^&]*", "verifier=guessed", errand)
        assert (await victim.get(back, headers={"Cookie": f"rapport_sign_in={tampered}"})).status_code == 401
        assert (await client.get(back)).status_code == 401  # the code is used up


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"nonce": "of another sign-in"}, 401, "answers another sign-in"),
        ({"azp": "another-client"}, 401, "issued to another client"),
        ({"exp": 1}, 401, "has expired"),
        ({"aud": "another-client"}, 401, "another audience"),
        ({"tenant": "nobody-here"}, 403, "names no tenant"),
        ({"roles": ["root"]}, 403, "none of the roles"),
    ],
)
async def test_who_is_not_let_in_reads_why(
    console: Gateway, provider: IdentityProvider, keys: Keys, changes: dict[str, Any], status: int, said: str
) -> None:
    async with visitor(console) as client:
        answer = await sign_in(client, provider, keys.tenant, "viewer", **changes)
        assert answer.status_code == status
        assert said in answer.text
        assert (await client.get("/console")).status_code == 303


@pytest.mark.parametrize("to", ["https://elsewhere.example", "//elsewhere.example", "/console/../v1", "/console\\x"])
async def test_the_way_back_leads_nowhere_else(console: Gateway, provider: IdentityProvider, keys: Keys, to: str) -> None:
    provider.person = provider.claims(keys.tenant, "viewer")
    async with visitor(console) as client:
        leaving = await client.get("/console/sign-in/provider", params={"to": to})
        back = await client.get(leaving.headers["location"])
        assert (await client.get(back.headers["location"])).headers["location"] == "/console"


async def test_keys_open_no_console_where_people_sign_in_for_themselves(console: Gateway, keys: Keys) -> None:
    async with visitor(console) as client:
        answer = await client.post("/console/sign-in", data={"key": keys.everything, "to": "/console"})
        assert answer.status_code == 403
        assert (await client.get("/console")).status_code == 303


async def test_without_a_provider_there_is_no_way_to_one(gateway: Gateway) -> None:
    async with visitor(gateway) as client:
        assert "Private key" in (await client.get("/console/sign-in")).text
        assert (await client.get("/console/sign-in/provider")).status_code == 404
        assert (await client.get("/console/sign-in/callback?code=1&state=2")).status_code == 404


async def test_while_the_provider_is_down_readers_read_on_and_others_are_told(settings: Settings, keys: Keys) -> None:
    with identity_provider() as provider:
        async with running(with_people(settings, provider.issuer)) as gateway, visitor(gateway) as client:
            await sign_in(client, provider, keys.tenant, "viewer")
            errand = await client.get("/console/sign-in/provider")
            back = (await client.get(errand.headers["location"])).headers["location"]
            provider.stop()
            assert (await client.get("/console")).status_code == 200
            async with visitor(gateway, Cookie=f"rapport_sign_in={client.cookies['rapport_sign_in']}") as other:
                refused = await other.get(back)
    assert refused.status_code == 503
    assert "the identity provider does not answer" in refused.text


# A provider that others wrote, and a browser


@contextmanager
def foreign_provider(*people: str) -> Iterator[str]:
    """oidc-provider-mock, a small server on Authlib, in a process of its own; its issuer."""
    port = free_port()
    claims = [word for person in people for word in ("--user-claims", person)]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), *claims]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    issuer = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                assert time.monotonic() < end, "the provider did not come up"
                time.sleep(0.2)
        yield issuer
    finally:
        process.terminate()
        process.wait(10)


def at_the_browser(url: str, issuer: str, folder: Path) -> None:
    """A viewer and an administrator come, read and go."""
    browser = open_browser(DESK, folder)
    try:
        reader = Reader(browser, url)
        enter(reader, issuer, "viewer-1")
        reader.sees("Viewer", MASKED)
        assert EMAIL not in reader.text
        assert reader.all("#portrait-card form") == []
        kept = browser.get_cookie("rapport_console")
        assert kept is not None
        leave(reader)
        # Whoever kept the cookie is not let in again.
        browser.add_cookie({"name": "rapport_console", "value": kept["value"], "path": "/console"})
        reader.open(CUSTOMER)
        reader.sees("Sign in with your account")
        enter(reader, issuer, "admin-1")
        reader.sees("Administrator", EMAIL)
        assert PASSPORT not in reader.text
        reader.click("#portrait-card form button")
        reader.sees(PASSPORT)
        leave(reader)
        # The provider's own page lacks its style sheet and its icon here.
        assert [line for line in reader.troubles() if url in line] == []
    finally:
        browser.quit()


def enter(reader: Reader, issuer: str, subject: str) -> None:
    reader.open(CUSTOMER)
    reader.click("main a.button")
    reader.until(lambda: reader.browser.current_url.startswith(issuer))
    reader.click(f"button[name=sub][value='{subject}']")
    reader.sees("Portrait")


def leave(reader: Reader) -> None:
    reader.click(".who form button")
    reader.sees("Sign in with your account")


@needs_browser
async def test_a_viewer_and_an_administrator_sign_in_at_a_browser(settings: Settings, keys: Keys, tmp_path: Path) -> None:
    assert shutil.which("chromium")
    people = [f'{{"sub":"{role}-1","tenant":"{keys.tenant}","roles":["{role}"]}}' for role in ("viewer", "admin")]
    with foreign_provider(*people) as issuer:
        async with running(with_people(settings, issuer)) as gateway:
            async with visitor(gateway, Authorization=f"Bearer {keys.write}") as client:
                assert (await client.post("/v1/identify", json={"userId": "ada"})).status_code == 200
            await asyncio.to_thread(at_the_browser, gateway.url, issuer, tmp_path)
