"""The README's fourteen calls, as they stand there, against a platform that has just been started."""

import shlex
import time
import uuid
from pathlib import Path

import httpx

from tests.e2e.running import Running

README = Path(__file__).resolve().parents[2] / "README.md"
CUSTOMER = "ada"  # a new one in each run
# Until the profile of the first call can be read.
PATIENCE_S = 20


def calls(running: Running) -> list[list[str]]:
    """The words of each line that begins with curl."""
    values = {"$W": running.write_key, "$K": running.private_key, "$U": running.url, CUSTOMER: f"{CUSTOMER}-{uuid.uuid4().hex}"}
    found: list[list[str]] = []
    for line in README.read_text().splitlines():
        if line.strip().startswith("curl "):
            words = shlex.split(line)
            for name, value in values.items():
                words = [word.replace(name, value) for word in words]
            found.append(words[1:])
    return found


def as_curl(client: httpx.Client, words: list[str]) -> httpx.Response:
    """`-u user: [-X method] URL [-d body]`, with the content type that curl gives a body."""
    options = {words[at]: words[at + 1] for at in range(len(words) - 1) if words[at] in ("-u", "-X", "-d")}
    [url] = [word for word in words if word.startswith("http")]
    assert len(words) == 1 + 2 * len(options), f"this test does not know all of: {words}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if "-d" in options else {}
    auth = httpx.BasicAuth(options["-u"].removesuffix(":"), "")
    method = options.get("-X", "POST" if "-d" in options else "GET")
    return client.request(method, url, content=options.get("-d"), headers=headers, auth=auth)


def test_the_fourteen_calls_of_the_readme_are_answered(platform: Running) -> None:
    asked = calls(platform)
    assert len(asked) == 14
    before = clock(platform)
    end = time.monotonic() + PATIENCE_S
    with httpx.Client(trust_env=False, timeout=30) as client:
        for words in asked:
            while (answer := as_curl(client, words)).status_code == 404 and time.monotonic() < end:
                time.sleep(0.2)  # events are readable a moment after they are accepted
            assert answer.status_code in (200, 202), f"{words[2:]}: {answer.status_code} {answer.text}"
            assert answer.json()
    with platform.client() as client:  # other tests count customers, and this one is on the way out
        while any(each["state"] != "COMPLETED" for each in client.get("/v1/erasures").json()["data"]):
            assert time.monotonic() < end + PATIENCE_S, "the customer of these calls is not forgotten"
            time.sleep(0.2)
    assert clock(platform) == before, "the calls moved the shop's clock, and made all its customers late"


def clock(platform: Running) -> str:
    with platform.client() as client:
        return client.get("/v1/freshness").json()["now"]
