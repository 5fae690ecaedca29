"""Every operation of the published document, and what is hardly HTTP: no answer is a fault of ours, none is without an id."""

import json
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests.fuzz.conftest import Run, seeds
from tests.part import Keys, Part

# Nobody runs a model registry or a Prometheus here; that a service behind is busy is no fault either.
MISSING = {"REGISTRY_UNAVAILABLE", "METRICS_UNAVAILABLE"}
# Jobs of their own, or a reading of all that was ever changed: seldom is enough.
SELDOM = {
    "POST /v1/exports", "POST /v1/recommendations:rebuild", "POST /v1/import-jobs", "POST /v1/matching:run",
    "GET /v1/audit:verify",
}  # fmt: skip
# The server's own answer to what it cannot read as HTTP, a header without a name for one: no request came to be.
NO_HTTP = "Invalid HTTP request received."
# A case takes longer to make than to answer: each is sent as it is and then altered, a place at a time.
ALTERED = 3
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, 2**31, 2**63, 10**30, 1e308, float("nan"), [], {}, [[]], {"": None},
    "", "\x00", " ", "null", "a" * 300, "\ud800", "\U0001f600", "../..", "1,2", "%", "user_id:ada", "ada@example.com",
    "00000000-0000-0000-0000-000000000001", "2026-02-30T25:00:00Z", "2026-01-01T00:00:00Z",
)  # fmt: skip


def altered(sent: requests.PreparedRequest, authorization: str, chance: Random) -> requests.PreparedRequest:
    """With one value of its body, its query or its path replaced, added or gone, and with the key in any case."""
    changed = sent.copy()
    changed.headers["Authorization"] = authorization
    body: Any = None
    with suppress(ValueError, TypeError, RecursionError):
        body = json.loads(cast(Any, sent.body))
    if body is not None and chance.random() < 0.7:
        changed.body = json.dumps(_with_another(body, chance)).encode()
        changed.headers["Content-Length"] = str(len(changed.body))
        return changed
    url = urlsplit(str(sent.url))
    parts = url.path.split("/")  # "", "v1", a collection, and perhaps what is asked of it
    query = [part.partition("=")[::2] for part in url.query.split("&") if part]
    value = quote(str(chance.choice(VALUES)), safe="", errors="surrogatepass")
    if len(parts) > 3 and chance.random() < 0.4:
        parts[chance.randrange(3, len(parts))] = value
    elif query and chance.random() < 0.7:
        place = chance.randrange(len(query))
        query[place] = (query[place][0], value)
    else:
        query.append((chance.choice(("limit", "pageSize", "pageToken", "at", "purpose", value)), value))
    changed.url = url._replace(path="/".join(parts), query="&".join("=".join(pair) for pair in query)).geturl()
    return changed


def _with_another(value: Any, chance: Random) -> Any:
    """The same, but for one value in it."""
    places = list(_places(value))
    if not places:
        return chance.choice(VALUES)
    inside, key = chance.choice(places)
    if chance.random() < 0.2:
        del inside[key]
    else:
        inside[key] = chance.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for key, each in inner:
        yield value, key
        yield from _places(each)


def test_no_operation_answers_with_a_fault_of_ours(running: Part, keys: Keys, fuzz: Run) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    found: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in found]
    statuses: Counter[int] = Counter()
    faults: defaultdict[str, list[str]] = defaultdict(list)
    authorization = f"Bearer {keys.private}"
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = authorization

        def send(label: str, sent: requests.PreparedRequest) -> None:
            answer = session.send(sent, timeout=60)
            statuses[answer.status_code] += 1
            told = f"{sent.method} {sent.url} {sent.body!r:.1500}"
            if "x-request-id" not in answer.headers and answer.text != NO_HTTP:
                faults[label].append(f"no request id: {told}")
            if answer.status_code >= 500 and answer.json().get("code") not in MISSING:
                faults[label].append(f"{answer.status_code} {answer.text[:300]}: {told}")

        def ask(made: tuple[Case, int]) -> None:
            case, seed = made
            sent = session.prepare_request(requests.Request(**case.as_transport_kwargs(base_url=running.url)))
            send(case.operation.label, sent)
            chance = Random(seed)
            for _ in range(ALTERED):
                send(case.operation.label, altered(sent, authorization, chance))

        for operation in operations:
            share = 0.3 / len(operations) / 2 / (10 if operation.label in SELDOM else 1)
            for strategy in (operation.as_strategy(), operation.as_strategy(GenerationMode.NEGATIVE)):
                fuzz(st.tuples(strategy, seeds), share, ask, each=1 + ALTERED)
    print(f"{len(operations)} operations, {statuses.total()} calls: {dict(sorted(statuses.items()))}")
    assert {label: found[:2] for label, found in faults.items()} == {}


fields = st.binary(max_size=30).map(lambda each: each.replace(b"\n", b"").replace(b"\r", b""))
names = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Authorization", b"X-Request-Id", b"traceparent", b"Idempotency-Key", b"Origin",
     b"Content-Encoding", b"Expect", b"Connection", b"Cookie", b"Host"]
)  # fmt: skip
paths = (
    st.sampled_from([b"/v1/track", b"/v1/batch", b"/v1/profiles", b"/", b"/v1/profiles/%ff", b"*", b"/%2e%2e/x", b"//"])
    | fields
)


@st.composite
def hardly_http(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"POST", b"GET", b"OPTIONS", b"HEAD", b"TRACE", b"PATCH", b"x"]))
    headers = draw(st.lists(st.tuples(names, fields | st.sampled_from([b"0", b"5", b"-1", b"chunked", b"gzip"])), max_size=4))
    head = method + b" " + draw(paths) + b" HTTP/1.1\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return head + b"\r\n" + draw(st.binary(max_size=20))


def test_what_is_hardly_http_is_answered_or_ended_and_the_next_is_served(running: Part, fuzz: Run) -> None:
    statuses: Counter[bytes] = Counter()

    def ask(raw: bytes) -> None:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65_536):
                answer += chunk
        statuses[answer[9:12]] += 1
        assert not answer[9:12].startswith(b"5"), (raw, answer)

    fuzz(hardly_http(), 0.1, ask)
    print({key.decode(): count for key, count in statuses.items()})
    health: Any = httpx.get(f"{running.url}/health/ready", trust_env=False)
    assert health.status_code == 200
