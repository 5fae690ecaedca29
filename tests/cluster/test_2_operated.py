"""Operated under traffic: restarts, evictions, upgrade, rollback and promotion fail no request; the database loses none."""

import time

import pytest

from tests.cluster.conftest import FULL, TAG, Installed
from tests.cluster.counting import lost_and_doubled
from tests.cluster.kube import SERVICES, is_ready, until
from tests.cluster.loader import Keys, Load, why

ROUNDS = 5 if FULL else 1
ON_THE_PATH = ("gateway", "profiles", "scoring")
OTHERS = tuple(service for service in SERVICES if service not in ON_THE_PATH)
RECOVERED_WITHIN_S = 30
PATIENCE = pytest.mark.timeout(1800 if FULL else 900)


def nothing_failed(load: Load, phase: str) -> None:
    calls = load.of(phase)
    print(f"\n{load.table()}")
    assert len(calls) > 100
    assert not any(call.failed for call in calls), why(calls)


@PATIENCE
def test_rolling_restarts_fail_no_request(installed: Installed, load: Load) -> None:
    restarts = 0
    with load.phase("restarts"):
        for _ in range(ROUNDS):
            for service in ON_THE_PATH:
                installed.kube.restart(service)
            installed.kube.restart(*OTHERS)
            restarts += len(SERVICES)
    print(f"\n{restarts} rolling restarts")
    nothing_failed(load, "restarts")


@PATIENCE
def test_the_eviction_of_each_pod_fails_no_request(installed: Installed, load: Load) -> None:
    kube = installed.kube
    with load.phase("evictions"):
        for service in SERVICES if FULL else ON_THE_PATH:
            for pod in kube.ready_pods(service):
                kube.evict(pod)
                kube.rolled_out(service)
    nothing_failed(load, "evictions")


@PATIENCE
def test_an_upgrade_and_its_rollback_fail_no_request(installed: Installed, load: Load) -> None:
    kube = installed.kube
    before = kube.get("deployment", "gateway")["metadata"]["generation"]
    with load.phase("upgrade"):
        installed.upgrade("--set", "logLevel=warning")
        kube.rolled_out(*SERVICES)
    assert kube.get("deployment", "gateway")["metadata"]["generation"] > before, "the upgrade changed nothing"
    nothing_failed(load, "upgrade")
    with load.phase("rollback"):
        kube.helm("rollback", "rapport", "--wait", "--timeout", "6m")
        kube.rolled_out(*SERVICES)
    nothing_failed(load, "rollback")


@PATIENCE
def test_a_promotion_fails_no_request(installed: Installed, load: Load, keys: Keys, challenger: str) -> None:
    with installed.client(keys.private) as client, load.phase("promotion"):
        first = client.get("/v1/models/churn/serving").json()["version"]
        for path, body, served in (("promote", {"version": challenger}, challenger), ("rollback", {}, first)):
            client.post(f"/v1/models/churn:{path}", json={**body, "reason": "under traffic"}).raise_for_status()
            until(f"{served} to serve", lambda: client.get("/v1/models/churn/serving").json()["version"] == served)  # noqa: B023
            time.sleep(3)
    nothing_failed(load, "promotion")


@PATIENCE
def test_the_end_of_the_database_loses_nothing_and_is_answered_with_when_to_come_back(
    installed: Installed, load: Load, keys: Keys
) -> None:
    kube = installed.kube
    old = kube.pods("postgres")[0]["metadata"]["uid"]
    with load.phase("database"):
        kube.ctl("delete", "pod", "postgres-0", "--wait=false")
        until("PostgreSQL's return", lambda: any(p["metadata"]["uid"] != old and is_ready(p) for p in kube.pods("postgres")))
        returned = time.monotonic()
        time.sleep(RECOVERED_WITHIN_S)
    failures = [call for call in load.of("database") if call.failed]
    print(f"\n{load.table()}\n{why(failures)}")
    assert all(call.status == 503 and call.retry_after for call in failures), why(failures)
    last = max((call.ended for call in failures), default=returned)
    print(f"the last failure was {last - returned:+.1f} s from PostgreSQL's return")
    assert last - returned < RECOVERED_WITHIN_S
    assert not any(call.failed for call in load.calls if call.ended > returned + RECOVERED_WITHIN_S)
    with installed.client(keys.private) as client:
        load.__exit__()
        accepted, lost, doubled = lost_and_doubled(client, load)
    print(f"{accepted:,} events accepted, {lost} lost, {doubled} doubled, tag {TAG}")
    assert (lost, doubled) == (0, 0)
