"""A random pod is killed every five seconds, PostgreSQL's too, while events flow: nothing accepted is lost or doubled."""

import random
import time

import pytest

from tests.cluster.conftest import FULL, Installed
from tests.cluster.counting import lost_and_doubled
from tests.cluster.kube import SERVICES
from tests.cluster.loader import Keys, Load, why

SECONDS = 300 if FULL else 60
EVERY_S = 5.0
VICTIMS = (*SERVICES, "postgres")


@pytest.mark.timeout(1200)
def test_nothing_accepted_is_lost_or_doubled_whatever_is_killed(installed: Installed, load: Load, keys: Keys) -> None:
    kube, chance = installed.kube, random.Random(4)
    killed: list[str] = []
    with load.phase("chaos"):
        end = time.monotonic() + SECONDS
        while (started := time.monotonic()) < end:
            # PostgreSQL comes first, so that the short form has it too.
            component = "postgres" if not killed else chance.choice(VICTIMS)
            if pods := kube.pods(component):
                name = chance.choice(pods)["metadata"]["name"]
                kube.ctl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
                killed.append(component)
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - started)))
    kube.ctl("rollout", "status", "statefulset/postgres", "--timeout=180s", timeout_s=190)
    kube.rolled_out(*SERVICES)
    load.__exit__()
    print(f"\n{load.table()}\n{why(load.calls)}")
    with installed.client(keys.private) as client:
        accepted, lost, doubled = lost_and_doubled(client, load)
    print(f"{len(killed)} pods killed, {accepted:,} events accepted, {lost} lost, {doubled} doubled")
    assert len(killed) >= SECONDS / EVERY_S / 2
    assert accepted > 100
    assert (lost, doubled) == (0, 0)
