"""What the platform says while something under it is away: MLflow, or PostgreSQL while everybody asks."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from tests.e2e.running import Running
from tests.e2e.shop import CUSTOMER, EXPERIMENT, SEGMENT, SURVEY, OpenShop, put, until
from tests.e2e.test_kill import wait_for_return

REF = f"user_id:{CUSTOMER}"
# One question for each service, and one event.
QUESTIONS = [
    ("POST", "/v1/track", {"userId": "somebody", "event": "Outage Test"}),
    ("GET", f"/v1/profiles/{REF}/portrait", None),
    ("GET", f"/v1/segments/{SEGMENT}", None),
    ("POST", f"/v1/profiles/{REF}/score", {}),
    ("GET", f"/v1/profiles/{REF}/recommendations", None),
    ("GET", f"/v1/surveys/{SURVEY}/results", None),
    ("POST", f"/v1/experiments/{EXPERIMENT}/assignments", {"refs": [REF]}),
]
UNAVAILABLE = {"SERVICE_UNAVAILABLE", "DATABASE_UNAVAILABLE"}
STEADY_S = 2.0


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that takes connections and never answers, which is worse than one that is gone."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Asker(threading.Thread):
    """Asks the same question again and again, and keeps the answers."""

    def __init__(self, platform: Running, shop: OpenShop, method: str, path: str, body: object) -> None:
        super().__init__(daemon=True)
        self._client = platform.client(shop.key)
        self._question = method, path, body
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        method, path, body = self._question
        with self._client as client:
            while not self.ending.is_set():
                answer = client.request(method, path, json=body)
                self.statuses[answer.status_code] += 1
                if answer.status_code != 200 and not is_patience(answer):
                    self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
                self.ending.wait(0.02)


def is_patience(answer: httpx.Response) -> bool:
    """Asks to come back."""
    return answer.status_code == 503 and "retry-after" in answer.headers and answer.json()["code"] in UNAVAILABLE


@pytest.mark.timeout(180)
def test_while_postgresql_starts_again_everybody_is_asked_for_patience_and_nobody_sees_a_fault(
    platform: Running, shop: OpenShop
) -> None:
    askers = [Asker(platform, shop, *question) for question in QUESTIONS]
    for asker in askers:
        asker.start()
    time.sleep(STEADY_S)
    pid = platform.pid("postgres")
    os.kill(pid, signal.SIGINT)  # a fast shutdown: every session is ended
    wait_for_return(platform, "postgres", pid)
    with platform.client(shop.key) as client:
        for method, path, body in QUESTIONS:
            until(path, lambda method=method, path=path, body=body: client.request(method, path, json=body).status_code == 200)
    time.sleep(STEADY_S)
    for asker in askers:
        asker.ending.set()
    for asker in askers:
        asker.join(70)
    print("; ".join(f"{path} {dict(asker.statuses)}" for (_, path, _), asker in zip(QUESTIONS, askers, strict=True)))
    assert [wrong for asker in askers for wrong in asker.wrong] == []
    assert all(asker.statuses[200] > 5 for asker in askers)


@pytest.mark.timeout(180)
def test_while_mlflow_does_not_answer_scores_go_on_even_from_a_scoring_that_has_just_started(
    platform: Running, shop: OpenShop
) -> None:
    with platform.client(shop.key) as client, frozen(platform.pid("mlflow")):
        before = put(client, f"/v1/profiles/{REF}/score", {})["score"]
        pid = platform.pid("scoring")
        os.kill(pid, signal.SIGKILL)
        wait_for_return(platform, "scoring", pid)
        # The gateway tries once a second to be connected again.
        until("a score", lambda: client.post(f"/v1/profiles/{REF}/score", json={}).status_code != 503)
        after = put(client, f"/v1/profiles/{REF}/score", {})["score"]
        assert (after["version"], after["probability"]) == (before["version"], before["probability"])
        started = time.monotonic()
        other = "1" if before["version"] == "2" else "2"
        refused = client.post("/v1/models/churn:promote", json={"version": other, "reason": "while nobody can check it"})
        assert (refused.status_code, refused.json()["code"]) == (503, "REGISTRY_UNAVAILABLE"), refused.text
        assert time.monotonic() - started < 30
        assert put(client, f"/v1/profiles/{REF}/score", {})["score"]["version"] == before["version"]


@pytest.mark.timeout(180)
def test_mlflow_comes_back_after_a_kill(platform: Running, shop: OpenShop) -> None:
    pid = platform.pid("mlflow")
    os.kill(pid, signal.SIGKILL)
    with platform.client(shop.key) as client:
        assert put(client, f"/v1/profiles/{REF}/score", {})["score"]

        def versions() -> bool:
            with suppress(LookupError, psutil.NoSuchProcess):
                return platform.pid("mlflow") != pid and client.get("/v1/models/churn/versions").status_code == 200
            return False

        until("the registry to answer again", versions)
