"""Clients of others, unchanged: SDKs for Node, curl as documentations show it, a page in a browser. All is read back."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.part import Keys, Part, part

FILES = Path(__file__).parents[1] / "strangers"
MODULES = Path(__file__).parents[2] / "build" / "strangers"
NODE, NPM, CURL = shutil.which("node"), shutil.which("npm"), shutil.which("curl")
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")

HAPPENED = datetime(2026, 3, 1, 10, 20, 30, 456_000, tzinfo=UTC)
# Segment's correction moves a time by what passed between sending and receiving.
MOVED = timedelta(seconds=60)
PROPERTIES = {
    "revenue": 39.95, "shipping": "2-day", "gift": True, "coupons": ["a", "b"], "size": {"unit": "cm", "height": 3}
}  # fmt: skip
MANY = 137


@pytest.fixture(scope="module")
def running() -> Iterator[Part]:
    with part() as running:
        yield running


@pytest.fixture(scope="module")
def keys(running: Part) -> Keys:
    return running.new_tenant()


@pytest.fixture
def user() -> str:
    return f"u{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def modules() -> Path:
    """The SDKs for Node, as locked, once for each lock."""
    if not (NODE and NPM):
        pytest.skip("Node is not installed: the SDKs for it need node and npm")
    lock = (FILES / "package-lock.json").read_bytes()
    folder = MODULES / hashlib.sha256(lock).hexdigest()[:12]
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FILES / name, folder)
        done = subprocess.run(
            [NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            pytest.skip(f"the SDKs for Node could not be fetched: {done.stderr[-200:]}")
        (folder / "done").touch()
    return folder / "node_modules"


def events_of(running: Part, keys: Keys, user: str, count: int) -> list[dict[str, Any]]:
    """The user's timeline once it has `count` events."""
    end = time.monotonic() + 60
    events: list[dict[str, Any]] = []
    while time.monotonic() < end:
        answer = httpx.get(
            f"{running.url}/v1/profiles/user_id:{user}/events",
            params={"limit": 1000},
            headers={"Authorization": f"Bearer {keys.private}"},
            trust_env=False,
            timeout=30,
        )
        events = [each for each in answer.json().get("data", []) if not each["source"].startswith("rapport.")]
        if len(events) >= count:
            return events
        time.sleep(0.2)
    raise AssertionError(f"{len(events)} of {count} events arrived: {[each['name'] for each in events]}")


def is_when_it_happened(event: dict[str, Any], allowed: timedelta = MOVED) -> bool:
    return abs(datetime.fromisoformat(event["timestamp"]) - HAPPENED) <= allowed


@pytest.mark.parametrize(("script", "source"), [("segment.cjs", "@segment/analytics-node"), ("rudder.cjs", "")])
def test_an_sdk_for_node_is_heard_unchanged(
    running: Part, keys: Keys, user: str, modules: Path, script: str, source: str
) -> None:
    command = [str(NODE), str(FILES / script), running.url, keys.write, user, str(MANY)]
    environment = {**os.environ, "NODE_PATH": str(modules), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    events = events_of(running, keys, user, 5 + MANY)
    assert len(events) == 5 + MANY
    counted = [each["properties"]["number"] for each in events if each["name"] == "Counted"]
    assert sorted(counted) == list(range(MANY))
    by_type = {each["type"]: each for each in events if each["name"] != "Counted"}
    assert set(by_type) == {"identify", "page", "screen", "group", "track"}
    assert [(each["type"], each["timestamp"]) for each in by_type.values() if not is_when_it_happened(each)] == []
    assert (by_type["track"]["name"], by_type["track"]["properties"]) == ("Item Purchased", PROPERTIES)
    assert by_type["page"]["name"] == "Node SDK"
    assert by_type["page"]["properties"]["section"] == "events"
    assert by_type["screen"]["properties"]["items"] == 2
    assert by_type["track"]["source"] == source or not source
    profile = httpx.get(
        f"{running.url}/v1/profiles/anonymous_id:{user}-device", auth=(keys.private, ""), trust_env=False
    ).json()
    assert profile["traits"]["plan"] == "gold"
    assert {each["namespace"] for each in profile["identities"]} >= {"user_id", "anonymous_id"}


def curl(running: Part, keys: Keys, path: str, body: Any, *more: str) -> Any:
    """As both documentations show it: Basic, the write key as user, no password."""
    if not CURL:
        pytest.skip("curl is not installed: its examples need it")
    command = [CURL, "-sS", "--noproxy", "*", "-u", f"{keys.write}:", "--data-binary", "@-", *more, f"{running.url}{path}"]
    done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


JSON = ("-H", "Content-Type: application/json")


@pytest.mark.parametrize("headers", [JSON, ("-H", "Content-Type: text/plain"), ()], ids=["json", "plain", "as curl says"])
def test_the_examples_for_curl_are_taken(running: Part, keys: Keys, user: str, headers: tuple[str, ...]) -> None:
    stamp = {"timestamp": HAPPENED.isoformat().replace("+00:00", "Z"), "userId": user}
    calls = {
        "/v1/identify": {"traits": {"plan": "gold"}, "context": {"ip": "24.5.68.47"}},
        "/v1/track": {"event": "Item Purchased", "properties": PROPERTIES, "context": {"ip": "24.5.68.47"}},
        "/v1/page": {"name": "Home", "properties": {"section": "events"}},
        "/v1/screen": {"name": "Basket"},
        "/v1/group": {"groupId": "company-1", "traits": {"industry": "shipping"}},
        "/v1/alias": {"previousId": f"{user}-before"},
        "/v1/batch": {"batch": [{"type": "track", "event": "Batched", **stamp}], "context": {"locale": "en-GB"}},
    }
    for path, call in calls.items():
        answer = curl(running, keys, path, call if "batch" in call else call | stamp, *headers)
        assert answer["success"] is True, answer
        assert [each["status"] for each in answer["receipts"]] == ["accepted"]
    events = events_of(running, keys, user, len(calls))
    assert len(events) == len(calls)
    assert all(is_when_it_happened(each, timedelta(0)) for each in events)
    bought = next(each for each in events if each["name"] == "Item Purchased")
    assert bought["properties"] == PROPERTIES


@contextmanager
def shop() -> Iterator[str]:
    """A page on an origin of its own."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(FILES)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("Chromium is not installed: the browser's call needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def test_a_page_of_another_origin_sends_as_browser_sdks_do(running: Part, keys: Keys, user: str, tmp_path: Path) -> None:
    with shop() as origin, chromium(tmp_path) as browser:
        browser.set_script_timeout(60)
        browser.get(f"{origin}/page.html?{urlencode({'gateway': running.url, 'key': keys.write, 'user': user})}")
        outcomes = browser.execute_async_script("const done = arguments[0]; window.run().then(done, (e) => done(String(e)));")
        events = events_of(running, keys, user, 5)
    unsigned = outcomes.pop("unsigned")
    assert outcomes.pop("beacon") is True
    assert {name: outcome.get("status") for name, outcome in outcomes.items()} == dict.fromkeys(outcomes, 200), outcomes
    assert all(outcome["body"]["receipts"][0]["status"] == "accepted" for outcome in outcomes.values())
    assert all(outcome["requestId"] for outcome in outcomes.values())
    assert (unsigned["status"], unsigned["body"]["code"]) == (401, "MISSING_KEY")
    assert {each["name"] for each in events} == {"Plain", "Batched", "Basic", "Rudder", "Beacon"}
    assert all(each["properties"] == {"number": 7, "nested": {"list": [1, "two"]}} for each in events)
    assert all(is_when_it_happened(each) for each in events)
