"""The console in a real browser: Debian's Chromium, on a desk and on a phone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.browser import DESK, PHONE, Reader, needs_browser, open_browser

CUSTOMER = "customer-00001"
ROWS = "table.customers th[scope=row] a"
BLOCKS = ("Basic", "Consumption", "Behaviour", "Psychology", "Social")

pytestmark = needs_browser

Start = Callable[[tuple[int, int]], Reader]


@pytest.fixture(scope="module")
def start(platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`reader = start(PHONE)`: a fresh browser that has never been here."""
    with ExitStack() as stack:

        def begin(size: tuple[int, int]) -> Reader:
            browser = open_browser(size, tmp_path_factory.mktemp("chromium"))
            stack.callback(browser.quit)
            return Reader(browser, platform.url)

        yield begin


@pytest.fixture(scope="module")
def desk(platform, start: Start) -> Reader:
    """Signed in, with a wide window."""
    reader = start(DESK)
    reader.sign_in(platform.private_key)
    reader.sees("Overview")
    return reader


@pytest.fixture(scope="module")
def phone(platform, start: Start) -> Reader:
    """Signed in, on a phone."""
    reader = start(PHONE)
    reader.sign_in(platform.private_key)
    reader.sees("Overview")
    return reader


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the log of its browsers is empty."""
    yield
    for name in ("desk", "phone"):
        if name in request.fixturenames:
            assert request.getfixturevalue(name).troubles() == []


def open_customer(reader: Reader) -> None:
    reader.open("/console/customers")
    reader.write("#id", CUSTOMER)
    reader.click(".finder button")
    reader.sees("Portrait")


def test_a_wrong_key_gets_a_sentence_and_the_right_one_a_page(platform, start: Start) -> None:
    reader = start(DESK)
    reader.sign_in("sk_" + "0" * 12 + "_" + "0" * 64)
    reader.sees("This key is unknown or revoked.")
    reader.sign_in(platform.private_key)
    reader.sees("Overview", platform.tenant)
    reader.click(".who button")
    reader.sees("Private key")
    reader.open("/console/customers")
    reader.sees("Private key")
    # The browser itself logs the 401 that a wrong key is answered with.
    assert [line for line in reader.troubles() if "401" not in line] == []


def test_the_overview_shows_the_whole_loop(platform, desk: Reader) -> None:
    desk.open("/console")
    desk.sees("Who they are", "Who may leave", "The model that serves", "What they say", "What worked", "Promotions")
    report = platform.report
    desk.sees(f"version {report['churn.model_version']}", f"{report['churn.auc']:.3f}", "NPS, 95% interval", "Why this verdict")
    assert desk.all(".trouble") == []
    desk.until(lambda: len(desk.all("[data-chart] canvas")) == 2)
    assert desk.run("return document.querySelectorAll('svg.interval .span').length") >= 3


def test_the_figures_of_freshness_come_anew(desk: Reader) -> None:
    desk.open("/console")
    desk.run("document.querySelector('#freshness').dataset.seen = 'before'; htmx.trigger('#freshness', 'every')")
    desk.until(lambda: desk.run("return document.querySelector('#freshness').dataset.seen === undefined"))


def test_a_customer_is_found_by_the_user_id_and_shown_whole(desk: Reader) -> None:
    open_customer(desk)
    desk.sees(*BLOCKS, "Risk of leaving", "Next best action", "Segments", "Recommended", "Timeline")
    assert desk.all(".trouble") == []
    assert CUSTOMER not in desk.browser.current_url
    desk.click(".memberships summary")
    desk.until(lambda: desk.all(".findings li"))


def test_the_timeline_goes_on(desk: Reader) -> None:
    open_customer(desk)
    before = len(desk.all("ol.events > li"))
    desk.click("ol.events .more a")
    desk.until(lambda: len(desk.all("ol.events > li")) > before + 1)


def test_scoring_now_renews_the_score(desk: Reader) -> None:
    open_customer(desk)
    desk.run("document.querySelector('#score').dataset.seen = 'before'")
    desk.click("#score button")
    desk.until(lambda: desk.run("return document.querySelector('#score').dataset.seen === undefined"))
    desk.sees("Risk of leaving")
    assert desk.all(".trouble") == []


def test_an_id_that_nobody_has_is_answered_in_place(desk: Reader) -> None:
    desk.open("/console/customers")
    desk.write("#id", "nobody-at-all")
    desk.click(".finder button")
    desk.sees("Nobody is known by this id.")


def test_more_customers_come_and_a_segment_is_chosen(desk: Reader) -> None:
    desk.open("/console/customers")
    first = len(desk.all(ROWS))
    desk.click("table.customers .more a")
    desk.until(lambda: len(desk.all(ROWS)) == 2 * first)
    Select(desk.browser.find_element(By.ID, "segment")).select_by_value("active")
    desk.until(lambda: "segment=active" in desk.browser.current_url and "In it since" in desk.text)
    assert "In it since" in desk.text
    desk.browser.back()
    desk.sees("Last seen")


@pytest.mark.parametrize("page", ["overview", "customers", "customer", "sign-in"])
def test_no_page_is_wider_than_a_phone(phone: Reader, page: str) -> None:
    if page == "customer":
        open_customer(phone)
        for summary in phone.all("summary"):
            summary.click()
    else:
        phone.open({"overview": "/console", "customers": "/console/customers", "sign-in": "/console/sign-in"}[page])
    phone.sees("Rapport")
    assert phone.overflow() == []


def test_the_dark_is_dark_and_its_charts_are_drawn(desk: Reader) -> None:
    desk.open("/console")
    desk.until(lambda: len(desk.all("[data-chart] canvas")) == 2)
    brightness = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => +a + +b)"
    assert int(desk.run(brightness)) > 600
    preference = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    desk.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    try:
        desk.until(lambda: int(desk.run(brightness)) < 120)
        assert len(desk.all("[data-chart] canvas")) == 2
    finally:
        desk.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_speaks_chinese(desk: Reader) -> None:
    desk.open("/console?lang=zh")
    desk.sees("谁可能离开", "生命周期")
    assert desk.run("return document.documentElement.lang") == "zh-Hans"
    desk.open("/console?lang=en")
    desk.sees("Who may leave")


@pytest.mark.parametrize("path", ["/console", "/console/customers"])
def test_a_page_can_be_read_without_seeing_it(desk: Reader, path: str) -> None:
    desk.open(path)
    assert desk.run("return document.title")
    assert desk.run("return document.querySelectorAll('h1').length") == 1
    assert desk.run("return document.querySelectorAll('main, nav, header').length") >= 3
    unnamed = """
        const named = (each) => each.labels?.length || each.ariaLabel || each.textContent.trim();
        return [...document.querySelectorAll("input:not([type=hidden]), select, button, a, [role=img]")]
          .filter((each) => !named(each)).map((each) => each.outerHTML);
    """
    assert desk.run(unnamed) == []
