"""Every operation of the published document, and what is hardly HTTP: no answer is a fault of ours, none is without an id."""

import socket
from collections import Counter, defaultdict
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests.fuzz.conftest import Run
from tests.part import Keys, Part

# Nobody runs a model registry or a Prometheus here; that a service behind is busy is no fault either.
MISSING = {"REGISTRY_UNAVAILABLE", "METRICS_UNAVAILABLE"}
# Jobs of their own: once or twice is enough.
SELDOM = {"POST /v1/exports", "POST /v1/recommendations:rebuild", "POST /v1/import-jobs", "POST /v1/matching:run"}
# The server's own answer to what it cannot read as HTTP, a header without a name for one: no request came to be.
NO_HTTP = "Invalid HTTP request received."


def test_no_operation_answers_with_a_fault_of_ours(running: Part, keys: Keys, fuzz: Run) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    found: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in found]
    statuses: Counter[int] = Counter()
    faults: defaultdict[str, list[str]] = defaultdict(list)
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {keys.private}"

        def ask(case: Case) -> None:
            answer = case.call(base_url=running.url, session=session, timeout=60)
            statuses[answer.status_code] += 1
            if "x-request-id" not in answer.headers and answer.text != NO_HTTP:
                faults[case.operation.label].append(f"no request id: {case.as_curl_command()}")
            if answer.status_code >= 500 and answer.json().get("code") not in MISSING:
                faults[case.operation.label].append(
                    f"{answer.status_code} {answer.text[:300]}: {case.as_curl_command()[:1500]}"
                )

        for operation in operations:
            share = 0.3 / len(operations) / 2 / (10 if operation.label in SELDOM else 1)
            fuzz(operation.as_strategy(), share, ask)
            fuzz(operation.as_strategy(GenerationMode.NEGATIVE), share, ask)
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
