"""What was accepted against what is stored."""

import time

import httpx

from tests.cluster.kube import until
from tests.cluster.loader import EVENT, Load
from tests.timeline import numbers_in


def wait_until_fresh(client: httpx.Client, *, patience_s: float = 180.0) -> None:
    """Until every accepted event can be read."""

    def fresh() -> bool:
        try:
            answer = client.get("/v1/freshness")
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["lagEvents"] == 0

    until("the profiles to catch up", fresh, patience_s=patience_s)


def lost_and_doubled(client: httpx.Client, load: Load) -> tuple[int, int, int]:
    """(accepted, lost, doubled): events that were answered as accepted and are not there, events that are there twice."""
    time.sleep(1)
    wait_until_fresh(client)
    accepted = lost = doubled = 0
    for user, sent in load.sent.items():
        there = numbers_in(client, user, EVENT)
        accepted += len(sent.accepted)
        lost += len(sent.accepted - there.keys())
        doubled += sum(count > 1 for count in there.values())
        assert there.keys() <= sent.accepted | sent.unknown, "something is stored that was refused or never sent"
    return accepted, lost, doubled
