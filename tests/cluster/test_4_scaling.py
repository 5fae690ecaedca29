"""New pods get their share at once; the autoscaler follows the load up and down, and no request notices."""

import time

import pytest

from tests.cluster.conftest import FULL, PORT, RATE, Installed
from tests.cluster.kube import until
from tests.cluster.loader import Keys, Load, why
from tests.cluster.metrics import calls_of

SHARE_WITHIN_S = 10.0
LOW = "services.gateway.autoscaling.cpuPercent=60,services.scoring.autoscaling.cpuPercent=40"
# Five minutes of quiet are right for a day's ups and downs, and long for a test.
SOON = "autoscaling.scaleDownSeconds=60"
SCORES = "rapport_rpc_server_requests_total"


@pytest.mark.timeout(600)
def test_a_new_scoring_pod_takes_its_share_within_ten_seconds(installed: Installed, keys: Keys, refs: list[str]) -> None:
    kube = installed.kube
    before = set(kube.ready_pods("scoring"))
    # Of this test alone: what comes after is to see quiet.
    with Load("127.0.0.1", PORT, keys, refs, rate=RATE, name=f"share-{time.time_ns()}") as load, load.phase("scaling"):
        kube.ctl("scale", "deployment/scoring", f"--replicas={len(before) + 1}")
        (new,) = until("a new scoring pod", lambda: set(kube.ready_pods("scoring")) - before, pause_s=0.2)
        ready = time.monotonic()
        with kube.forwarded(f"pod/{new}", 9090) as url:
            until("its first score", lambda: calls_of(url, SCORES) >= 1, patience_s=30, pause_s=0.2)
        took = time.monotonic() - ready
        kube.ctl("scale", "deployment/scoring", f"--replicas={len(before)}")
        until("the pod to go", lambda: len(kube.pods("scoring")) == len(before))
        time.sleep(10)
    print(f"\nthe new pod answered {took:.1f} s after it was ready")
    assert took <= SHARE_WITHIN_S
    assert not any(call.failed for call in load.of("scaling")), why(load.of("scaling"))


@pytest.mark.skipif(not FULL, reason="FULL=1 waits for the autoscaler")
@pytest.mark.timeout(1500)
def test_load_raises_replicas_and_quiet_lowers_them_and_no_request_fails(
    installed: Installed, keys: Keys, refs: list[str]
) -> None:
    kube = installed.kube
    installed.upgrade("--set", f"autoscaling.enabled=true,{SOON},{LOW}")

    def replicas(service: str) -> int:
        return len(kube.ready_pods(service))

    low = {name: kube.get("hpa", name)["spec"]["minReplicas"] for name in ("gateway", "scoring")}
    for service, count in low.items():
        # That it takes over costs no pod, and what a start costs is forgotten before the load comes.
        assert replicas(service) >= count
        until(f"rest of {service}", lambda: replicas(service) == count, patience_s=240, pause_s=3)  # noqa: B023
    calls = []
    with Load("127.0.0.1", PORT, keys, refs, rate=250, name=f"hpa-{time.time_ns()}") as load:
        for service, count in low.items():
            until(f"more of {service}", lambda: replicas(service) > count, patience_s=300, pause_s=3)  # noqa: B023
        calls += load.calls
    with Load("127.0.0.1", PORT, keys, refs, rate=10, name=f"quiet-{time.time_ns()}") as quiet:
        for service, count in low.items():
            until(f"fewer of {service}", lambda: replicas(service) <= count, patience_s=400, pause_s=3)  # noqa: B023
        time.sleep(15)
        calls += quiet.calls
    installed.upgrade()
    print(f"\n{len(calls):,} requests while replicas rose from {low} and fell again")
    assert not any(call.failed for call in calls), why(calls)
