"""What was accepted against what is stored."""

import time
from collections import Counter
from typing import Any

import httpx

from tests.cluster.kube import until
from tests.cluster.loader import EVENT, Load


def wait_until_fresh(client: httpx.Client, *, patience_s: float = 180.0) -> None:
    """Until every accepted event can be read."""

    def fresh() -> bool:
        try:
            answer = client.get("/v1/freshness")
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["lagEvents"] == 0

    until("the profiles to catch up", fresh, patience_s=patience_s)


def stored(client: httpx.Client, user: str) -> Counter[int]:
    """How often each numbered event is in the user's timeline."""
    numbers: Counter[int] = Counter()
    params: dict[str, Any] = {"limit": 1000}
    while True:
        page = client.get(f"/v1/profiles/user_id:{user}/events", params=params)
        page.raise_for_status()
        body = page.json()
        numbers.update(int(event["properties"]["number"]) for event in body["data"] if event["name"] == EVENT)
        if not body["hasMore"]:
            return numbers
        params["next"] = body["next"]


def lost_and_doubled(client: httpx.Client, load: Load) -> tuple[int, int, int]:
    """(accepted, lost, doubled): events that were answered as accepted and are not there, events that are there twice."""
    time.sleep(1)
    wait_until_fresh(client)
    accepted = lost = doubled = 0
    for user, sent in load.sent.items():
        there = stored(client, user)
        accepted += len(sent.accepted)
        lost += len(sent.accepted - there.keys())
        doubled += sum(count > 1 for count in there.values())
        assert there.keys() <= sent.accepted | sent.unknown, "something is stored that was refused or never sent"
    return accepted, lost, doubled
