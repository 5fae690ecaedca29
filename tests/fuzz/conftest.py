"""All seven services, for whatever can be made up: `RAPPORT_FUZZ_INPUTS` inputs in all, a thousand where nothing is said."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from tests.part import WHOLE, Keys, Part, part

INPUTS = int(os.environ.get("RAPPORT_FUZZ_INPUTS", "1000"))
USUAL = 1000

Run = Callable[[SearchStrategy[Any], float, Callable[[Any], None]], int]


@pytest.fixture(scope="session")
def running() -> Iterator[Part]:
    with part(WHOLE) as running:
        yield running


@pytest.fixture(scope="session")
def keys(running: Part) -> Keys:
    return running.new_tenant()


@pytest.fixture(scope="session")
def client(running: Part, keys: Keys) -> Iterator[httpx.Client]:
    """With a key that may do everything."""
    with httpx.Client(base_url=running.url, auth=(keys.private, ""), trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def fuzz() -> Run:
    """`fuzz(strategy, share, ask)` asks with that share of all inputs; how many that were. The usual thousand never change."""

    def run(strategy: SearchStrategy[Any], share: float, ask: Callable[[Any], None]) -> int:
        count = max(1, round(INPUTS * share))

        @settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            derandomize=INPUTS <= USUAL,
            suppress_health_check=cast(Any, list(HealthCheck)),
        )
        @given(case=strategy)
        def each(case: Any) -> None:
            ask(case)

        with suppress(Unsatisfiable):  # an operation that takes nothing cannot be asked wrongly
            each()
        return count

    return run


@pytest.fixture(scope="session", autouse=True)
def _logs(running: Part) -> Iterator[None]:
    """At the end: no bug in any log, and no line of a request without its id."""
    yield
    wrong = [complaint for name in running.pids for complaint in complaints(name, running.log(name).read_text())]
    print(*wrong[:40], sep="\n")
    assert wrong == []


def complaints(service: str, text: str) -> list[str]:
    """What is wrong with a log: lines that are no JSON, requests without an id, tracebacks."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found.append(f"{service}: not JSON: {line[:300]}")
            continue
        if ("route" in entry or "status" in entry) and not entry.get("request_id"):
            found.append(f"{service}: no request id: {line[:300]}")
        if "exception" in entry or entry.get("level") == "error":
            found.append(f"{service}: {line[:3000]}")
    return found
