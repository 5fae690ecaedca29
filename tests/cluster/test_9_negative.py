"""The control: without what lets a pod leave in peace, restarts do fail requests; else the other tests prove nothing."""

import time

import pytest

from tests.cluster.conftest import FULL, PORT, RATE, Installed
from tests.cluster.kube import SERVICES
from tests.cluster.loader import Keys, Load, why

pytestmark = pytest.mark.skipif(not FULL, reason="FULL=1 runs the control too")
WITHOUT = "drain.preStopSeconds=0,drain.unreadySeconds=0,drain.graceSeconds=0,connectionAgeSeconds=0,minReadySeconds=0"


@pytest.mark.timeout(900)
def test_without_the_drain_and_the_age_of_connections_restarts_fail_requests(
    installed: Installed, keys: Keys, refs: list[str]
) -> None:
    installed.upgrade("--set", WITHOUT)
    installed.kube.rolled_out(*SERVICES)
    with Load("127.0.0.1", PORT, keys, refs, rate=RATE, name=f"control-{time.time_ns()}") as load:
        time.sleep(5)
        with load.phase("control"):
            for service in ("gateway", "profiles", "scoring"):
                installed.kube.restart(service)
    print(f"\n{load.table()}\n{why(load.calls)}")
    installed.upgrade()
    assert any(call.failed for call in load.of("control"))
