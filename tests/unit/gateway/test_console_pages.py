"""The console's pages over real HTTP, with real gRPC behind them."""

import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest
import pytest_asyncio

from services.gateway.domain import Kind, Scope
from services.gateway.keyring import FRESH_S
from tests.unit.gateway.console_backend import EMPTY, Backend, running
from tests.unit.gateway.console_people import ADA, PEOPLE
from tests.unit.gateway.console_services import SHOP

BOUGHT = PEOPLE[1]
STRANGER = PEOPLE[4]
UNSCORED = PEOPLE[5]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def backend() -> AsyncIterator[Backend]:
    async with running() as started:
        yield started


def visitor(backend: Backend, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=30, headers=headers)


async def sign_in(client: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    answer = await client.post("/console/sign-in", data={"key": key, "to": "/console"})
    assert answer.status_code == 303, answer.text
    return client


@pytest_asyncio.fixture
async def reader(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in with every scope but `personal`."""
    scopes = set(Scope) - {Scope.PERSONAL, Scope.INGEST}
    async with visitor(backend) as client:
        yield await sign_in(client, backend.keys.make(SHOP, scopes))


async def text_of(client: httpx.AsyncClient, path: str, status: int = 200) -> str:
    """What a reader sees of a page, without its marks."""
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", answer.text)))


# The door


async def test_whoever_is_not_signed_in_is_led_to_the_form_and_back(backend: Backend) -> None:
    async with visitor(backend) as client:
        asked = await client.get("/console/customers")
        assert (asked.status_code, asked.headers["location"]) == (303, "/console/sign-in?to=/console/customers")
        form = {"key": backend.keys.make(SHOP, [Scope.READ]), "to": "/console/customers"}
        entered = await client.post("/console/sign-in", data=form)
        assert entered.headers["location"] == "/console/customers"
        assert (await client.get("/console/sign-in")).headers["location"] == "/console"


async def test_the_cookie_is_out_of_reach_and_says_nothing(backend: Backend) -> None:
    key = backend.keys.make(SHOP, [Scope.READ])
    async with visitor(backend) as client:
        answer = await client.post("/console/sign-in", data={"key": key})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert key not in cookie
    assert key.split("_")[2] not in cookie


@pytest.mark.parametrize("key", ["", "nonsense", "sk_000000000001_" + "f" * 64, "x" * 5000, "\x00", "钥匙"])
async def test_a_wrong_key_is_refused_in_a_plain_sentence(backend: Backend, key: str) -> None:
    async with visitor(backend) as client:
        answer = await client.post("/console/sign-in", data={"key": key})
    assert answer.status_code == 401
    assert "This key is unknown or revoked." in answer.text or "Please enter a key." in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_write_key_may_not_read(backend: Backend) -> None:
    async with visitor(backend) as client:
        answer = await client.post("/console/sign-in", data={"key": backend.keys.make(SHOP, [Scope.INGEST], Kind.WRITE)})
    assert answer.status_code == 403
    assert "This key may not read." in answer.text


async def test_a_revoked_key_ends_its_sessions(backend: Backend) -> None:
    key = backend.keys.make(SHOP, [Scope.READ])
    async with visitor(backend) as client:
        await sign_in(client, key)
        backend.keys.revoke(key)
        backend.passed_s += FRESH_S + 1
        assert (await client.get("/console")).headers["location"] == "/console/sign-in"


async def test_signing_out_ends_the_session_for_the_cookie_too(backend: Backend) -> None:
    async with visitor(backend) as client:
        await sign_in(client, backend.keys.make(SHOP, [Scope.READ]))
        token = client.cookies["rapport_console"]
        await client.post("/console/sign-out")
        client.cookies.set("rapport_console", token)
        stolen = await client.get("/console")
    assert stolen.status_code == 303


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/consoles", "/console/../v1", "/console\\@evil"])
async def test_the_form_leads_nowhere_else(backend: Backend, to: str) -> None:
    async with visitor(backend) as client:
        answer = await client.post("/console/sign-in", data={"key": backend.keys.make(SHOP, [Scope.READ]), "to": to})
    assert answer.headers["location"] == "/console"


@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-out", f"/console/customers/{BOUGHT.profile_id}/score"])
async def test_a_form_from_another_site_is_refused(backend: Backend, path: str) -> None:
    async with visitor(backend, origin="https://evil.example") as client:
        answer = await client.post(path, data={"key": backend.keys.make(SHOP, [Scope.READ])})
    assert answer.status_code == 403
    assert "another site" in answer.text


async def test_every_answer_forbids_inline_scripts_frames_and_caches(backend: Backend, reader: httpx.AsyncClient) -> None:
    for path in ("/console", "/console/customers", "/console/nowhere", "/console/sign-in"):
        answer = await reader.get(path)
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_a_large_form_is_refused(backend: Backend) -> None:
    async with visitor(backend) as client:
        answer = await client.post("/console/sign-in", data={"key": "x" * 10_000})
    assert answer.status_code == 413


async def test_htmx_is_led_to_the_form_by_a_header(backend: Backend) -> None:
    async with visitor(backend, **{"hx-request": "true"}) as client:
        answer = await client.get("/console/freshness")
    assert answer.headers["hx-redirect"] == "/console/sign-in"


# Overview


async def test_the_overview_shows_every_part_of_the_loop(reader: httpx.AsyncClient) -> None:
    page = await text_of(reader, "/console")
    for expected in (
        "1,452 17 rejected, 3 duplicates", "182 ms 99% within 1.9 s", "Lost 39 61%", "Champions", "Big spenders",
        "mean risk of 52 scored customers", "shop.churn version 3 @champion", "0.842 0.823–0.861",
        "Recency rule 0.791", "Off by 2.1% on average", "+27 NPS, 95% interval +20 to +34", "At risk 118 −6",
        "New 1 not enough data: one answer", "14 cases of unhappy customers are open.",
        "Better +8.4 percentage points (95% interval +3.1 to +13.7)", "Not enough data", "Promoted 2 → 3", "Rolled back 3 → 2",
    ):  # fmt: skip
        assert expected in page, expected


async def test_a_newcomer_reads_in_words_what_is_missing(backend: Backend) -> None:
    async with visitor(backend) as client:
        page = await text_of(await sign_in(client, backend.keys.make(EMPTY, Scope)), "/console")
    for expected in (
        "No customers yet.", "No members yet", "Nobody is scored yet.", "No model is promoted.", "No evaluation yet",
        "No survey yet.", "No experiment yet.", "Nothing has been promoted yet.", "no event yet",
    ):  # fmt: skip
        assert expected in page, expected


@pytest.mark.parametrize("service", ["profiles", "segmentation", "scoring", "feedback", "evaluation"])
async def test_a_service_that_is_down_costs_only_its_own_blocks(
    backend: Backend, reader: httpx.AsyncClient, service: str
) -> None:
    await backend.stop(service)
    try:
        page = await text_of(reader, "/console")
    finally:
        await backend.start(service)
    blocks = {
        "profiles": "182 ms", "segmentation": "Big spenders", "scoring": "@champion", "feedback": "NPS, 95%",
        "evaluation": "0.842",
    }  # fmt: skip
    assert f"This cannot be shown now: {service} does not answer." in page
    assert [name for name, text in blocks.items() if text not in page] == [service]


async def test_freshness_comes_alone_for_htmx(reader: httpx.AsyncClient) -> None:
    answer = await reader.get("/console/freshness", headers={"hx-request": "true"})
    assert answer.text.strip().startswith("<section")
    assert "1,452" in answer.text


# Customers


async def test_all_customers_are_found_page_by_page(reader: httpx.AsyncClient) -> None:
    found: list[str] = []
    path = "/console/customers"
    while path:
        page = (await reader.get(path)).text
        found += re.findall(r'<tr>\s*<th scope="row"><a href="/console/customers/([^"]+)"', page)
        more = re.search(r'hx-get="(/console/customers/rows[^"]+)"', page)
        path = unescape(more.group(1)) if more else ""
    assert found == [person.profile_id for person in PEOPLE]


async def test_a_segment_shows_its_members_only(reader: httpx.AsyncClient) -> None:
    page = (await reader.get("/console/customers?segment=active")).text
    found = set(re.findall(r'<th scope="row"><a href="/console/customers/([^"]+)"', page))
    assert found == {person.profile_id for person in PEOPLE if person.stage == "active"}


async def test_the_list_stays_without_figures_where_they_cannot_be_had(backend: Backend, reader: httpx.AsyncClient) -> None:
    await backend.stop("profiles")
    try:
        page = await text_of(reader, "/console/customers?segment=active")
    finally:
        await backend.start("profiles")
    member = next(person for person in PEOPLE if person.stage == "active")
    assert f"{member.profile_id[:8]} – – –" in page


@pytest.mark.parametrize("sought", ["ada@example.com", PEOPLE[0].profile_id, "device-0", ADA, f"  {PEOPLE[0].profile_id} "])
async def test_a_customer_is_found_by_any_id(reader: httpx.AsyncClient, sought: str) -> None:
    answer = await reader.post("/console/customers/find", data={"id": sought})
    assert answer.headers["location"] == f"/console/customers/{PEOPLE[0].profile_id}"


@pytest.mark.parametrize("sought", ["nobody", "", "x" * 400, "\x00", "'; DROP TABLE", "<script>alert(1)</script>"])
async def test_an_unknown_id_is_answered_in_words(reader: httpx.AsyncClient, sought: str) -> None:
    whole = await reader.post("/console/customers/find", data={"id": sought})
    part = await reader.post("/console/customers/find", data={"id": sought}, headers={"hx-request": "true"})
    for answer in (whole, part):
        assert answer.status_code == 200
        assert "Nobody is known by this id." in answer.text or "Please enter an id." in answer.text
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize("query", ["next=%00", "next=" + "x" * 3000])
async def test_a_made_up_address_is_refused_in_a_sentence(reader: httpx.AsyncClient, query: str) -> None:
    answer = await reader.get(f"/console/customers?{query}")
    assert answer.status_code == 400


# One customer


async def test_a_customer_is_shown_with_all_that_is_known(reader: httpx.AsyncClient) -> None:
    page = await text_of(reader, f"/console/customers/{BOUGHT.profile_id}")
    for expected in (
        "Basic", "Consumption", "Behaviour", "Psychology", "Social Nothing is known yet.", "Plan standard",
        "NPS rating 9 (on 2025-03-18)", "Last seen 1 Apr 2025", "usually every 25", "raises the risk",
        "Model churn, version 3", "Active RFM" if BOUGHT.stage == "active" else "Lost", "Brass table lamp",
        "bought with Oak writing desk by 41 customers", "Do nothing", "x 0.10 x", "Order", "Stoneware mug",
        "2 ids were found to be the same person.",
    ):  # fmt: skip
        assert expected in page, expected


async def test_what_comes_from_outside_is_never_taken_for_markup(reader: httpx.AsyncClient) -> None:
    page = (await reader.get(f"/console/customers/{BOUGHT.profile_id}")).text
    assert "Wool &lt;b&gt;throw&lt;/b&gt;" in page


async def test_personal_values_need_their_scope(backend: Backend, reader: httpx.AsyncClient) -> None:
    path = f"/console/customers/{BOUGHT.profile_id}"
    hidden = await text_of(reader, path)
    assert "ada@example.com" not in hidden
    assert "a•••@e•••.com" in hidden
    assert "2 personal values are masked: seeing them needs the scope personal." in hidden
    async with visitor(backend) as client:
        shown = await text_of(await sign_in(client, backend.keys.make(SHOP, Scope)), path)
    assert "ada@example.com" in shown
    assert "are masked" not in shown


async def test_what_is_sensitive_is_shown_to_nobody_who_does_not_ask(backend: Backend, reader: httpx.AsyncClient) -> None:
    path = f"/console/customers/{BOUGHT.profile_id}"
    hidden = await text_of(reader, path)
    assert "X1234567" not in hidden
    assert "Reveal" not in hidden
    assert (await reader.post(f"{path}/reveal")).status_code == 403
    async with visitor(backend) as client:
        shown = await text_of(await sign_in(client, backend.keys.make(SHOP, Scope)), path)
    assert "X1234567" not in shown
    assert "Reveal what is sensitive" in shown


async def test_what_a_key_may_not_ask_it_may_not_see(backend: Backend) -> None:
    path = f"/console/customers/{BOUGHT.profile_id}"
    async with visitor(backend) as client:
        await sign_in(client, backend.keys.make(SHOP, [Scope.READ]))
        page = await text_of(client, path)
        refused = await client.post(f"{path}/score")
    assert page.count("Your key may not see this: it lacks the scope score.") == 2
    assert "Score now" not in page
    assert refused.status_code == 403


async def test_the_timeline_goes_back_to_the_first_event(reader: httpx.AsyncClient) -> None:
    page = (await reader.get(f"/console/customers/{BOUGHT.profile_id}")).text
    lines = page.count("<time datetime")
    while more := re.search(r'hx-get="(/console/customers/[^"]+/events\?next=[^"]+)"', page):
        page = (await reader.get(unescape(more.group(1)))).text
        lines += page.count("<li class=")
    assert lines > len(BOUGHT.events)
    assert "Home" in page


async def test_scoring_now_answers_with_a_score_or_why_there_is_none(reader: httpx.AsyncClient) -> None:
    htmx = {"hx-request": "true"}
    before = await text_of(reader, f"/console/customers/{UNSCORED.profile_id}")
    assert "Not scored yet." in before
    scored = await reader.post(f"/console/customers/{UNSCORED.profile_id}/score", headers=htmx)
    assert "Model churn, version 3" in scored.text
    never = await reader.post(f"/console/customers/{STRANGER.profile_id}/score", headers=htmx)
    assert "Not scored: this customer never bought anything." in never.text
    plain = await reader.post(f"/console/customers/{UNSCORED.profile_id}/score")
    assert plain.headers["location"] == f"/console/customers/{UNSCORED.profile_id}"


async def test_why_somebody_is_in_a_segment_is_told_condition_by_condition(reader: httpx.AsyncClient) -> None:
    page = await text_of(reader, f"/console/customers/{BOUGHT.profile_id}/segments/{BOUGHT.stage}")
    assert "Holds: days_since_last_order < 90 here: 41.2" in page
    assert "Does not hold: orders_count >= 3 here: 2" in page


async def test_what_a_customer_allows_is_shown_with_its_reason(reader: httpx.AsyncClient) -> None:
    page = await text_of(reader, f"/console/customers/{BOUGHT.profile_id}")
    for words in (
        "advertising",
        "not allowed",
        "said for all channels",
        "terms-2026-03",
        "service · SMS",
        "a grant of its own",
    ):
        assert words in page, words


@pytest.mark.parametrize("service", ["segmentation", "scoring", "recommendation"])
async def test_a_customer_stays_readable_while_a_service_is_down(
    backend: Backend, reader: httpx.AsyncClient, service: str
) -> None:
    await backend.stop(service)
    try:
        page = await text_of(reader, f"/console/customers/{BOUGHT.profile_id}")
    finally:
        await backend.start(service)
    blocks = {"segmentation": "Life cycle", "scoring": "usually every 25", "recommendation": "popular among active customers"}
    assert f"This cannot be shown now: {service} does not answer." in page
    assert "Plan standard" in page
    assert [name for name, text in blocks.items() if text not in page] == [service]


@pytest.mark.parametrize("ref", ["nobody", "user_id:nobody", "00000000-0000-0000-0000-000000000000", "user_id:a%2Fb"])
async def test_an_unknown_customer_is_a_page_with_a_sentence(reader: httpx.AsyncClient, ref: str) -> None:
    assert "Not found: nobody is known by this reference." in await text_of(reader, f"/console/customers/{ref}", 404)


async def test_another_tenants_customer_is_nobody(backend: Backend) -> None:
    async with visitor(backend) as client:
        await sign_in(client, backend.keys.make(EMPTY, Scope))
        assert (await client.get(f"/console/customers/{BOUGHT.profile_id}")).status_code == 404


# Languages and files


async def test_the_console_speaks_chinese_and_remembers_it(reader: httpx.AsyncClient) -> None:
    assert "谁可能离开" in await text_of(reader, "/console?lang=zh")
    assert "时间线" in await text_of(reader, f"/console/customers/{BOUGHT.profile_id}")
    await reader.get("/console?lang=en")
    assert "Who may leave" in await text_of(reader, "/console")


async def test_files_are_packed_kept_for_ever_and_asked_for_once(reader: httpx.AsyncClient) -> None:
    page = (await reader.get("/console")).text
    addresses = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(addresses) == 5
    for address in addresses:
        answer = await reader.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        again = await reader.get(address, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
    assert (await reader.get("/console/static/vendor/README.md")).status_code == 404
    assert (await reader.get("/console/static/../pages.py")).status_code == 404


async def test_a_page_that_is_not_there_says_so(reader: httpx.AsyncClient) -> None:
    assert "there is no such page" in await text_of(reader, "/console/nowhere", 404)
