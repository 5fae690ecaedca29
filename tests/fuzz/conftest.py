"""All seven services, for whatever can be made up: `RAPPORT_FUZZ_INPUTS` inputs in all, a thousand where nothing is said."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol, cast

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from tests.part import WHOLE, Keys, Part, part

INPUTS = int(os.environ.get("RAPPORT_FUZZ_INPUTS", "1000"))
USUAL = 1000
# Hypothesis remembers what it has made, to make nothing twice: a million would not fit into memory.
SLICE = 2_000
# Of what is made up past Hypothesis: one choice, where many would take long.
seeds = st.integers(0, 2**64 - 1)


class Run(Protocol):
    """Asks with a share of all inputs, of which a case makes `each`; how many that were. The usual thousand never change."""

    def __call__(self, strategy: SearchStrategy[Any], share: float, ask: Callable[[Any], None], each: int = 1) -> int: ...


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


class Told:
    """How far it is, twice a minute."""

    def __init__(self) -> None:
        self.count = 0
        self._began = self._last = time.monotonic()

    def add(self, count: int) -> None:
        self.count += count
        now = time.monotonic()
        if now > self._last + 30:
            self._last = now
            print(f"{self.count:,} of {INPUTS:,} inputs, {self.count / (now - self._began):,.0f}/s", flush=True)


@pytest.fixture(scope="session")
def fuzz() -> Run:
    told = Told()

    def run(strategy: SearchStrategy[Any], share: float, ask: Callable[[Any], None], each: int = 1) -> int:
        count = max(1, round(INPUTS * share / each))

        def asked(case: Any) -> None:
            told.add(each)
            ask(case)

        for first in range(0, count, SLICE):
            with suppress(Unsatisfiable):  # an operation that takes nothing cannot be asked wrongly
                _given(strategy, min(SLICE, count - first), asked)()
        return count * each

    return run


def _given(strategy: SearchStrategy[Any], count: int, each: Callable[[Any], None]) -> Callable[[], None]:
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        derandomize=INPUTS <= USUAL,
        suppress_health_check=cast(Any, list(HealthCheck)),
    )
    @given(case=strategy)
    def asked(case: Any) -> None:
        each(case)

    return asked


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
