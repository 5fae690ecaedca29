"""Kill -9, one process at a time, while events flow: every accepted event is in the profiles afterwards, exactly once."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from infra.topology import Ports
from tests.e2e.shop import wait_until_fresh
from tests.timeline import numbers_in

VICTIMS = ["profiles", "gateway", "segmentation", "scoring", "recommendation", "feedback", "evaluation", "postgres"]
SENDERS = 4
RECOVERY_S = 60
EVENT = "Kill Test"


class Sender(threading.Thread):
    """Sends numbered events until it is told to end; an event is repeated, with the same message id, until it is answered."""

    def __init__(self, url: str, key: str, user: str) -> None:
        super().__init__(daemon=True)
        self._url, self._key = url, key
        self.user = user
        self.accepted: list[int] = []
        self.failures = 0
        self.trouble = ""
        self.ending = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, auth=(self._key, ""), timeout=10, trust_env=False) as http:
            number = 0
            while not self.ending.is_set() and not self.trouble:
                number += 1
                if self._send(http, number):
                    self.accepted.append(number)

    def _send(self, http: httpx.Client, number: int) -> bool:
        body = {
            "userId": self.user,
            "event": EVENT,
            "messageId": f"{self.user}-{number}",
            "properties": {"number": number},
        }
        end = time.monotonic() + RECOVERY_S
        while time.monotonic() < end:
            try:
                answer = http.post("/v1/track", json=body)
                if answer.status_code == 200:
                    return answer.json()["receipts"][0]["status"] in ("accepted", "duplicate")
                if answer.status_code not in (429, 503):
                    self.trouble = f"event {number} was answered with {answer.status_code}: {answer.text}"
                    return False
            except httpx.TransportError:
                pass  # the gateway itself is down
            self.failures += 1
            time.sleep(0.1)
        self.trouble = f"event {number} was never answered"
        return False


@pytest.mark.timeout(600)
def test_every_accepted_event_is_there_exactly_once_whatever_was_killed(platform, tenant, client) -> None:
    senders = [Sender(platform.url, tenant.write_key, f"kill-{os.getpid()}-{index}") for index in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        for victim in VICTIMS:
            time.sleep(1.0)
            pid = platform.pid(victim)
            os.kill(pid, signal.SIGKILL)
            wait_for_return(platform, victim, pid)
            wait_for_progress(senders)
    finally:
        for sender in senders:
            sender.ending.set()
        for sender in senders:
            sender.join(RECOVERY_S + 5)
    assert [sender.trouble for sender in senders if sender.trouble] == []
    wait_until_fresh(client)
    print(f"{sum(len(each.accepted) for each in senders)} events accepted, {sum(each.failures for each in senders)} repeats")
    for sender in senders:
        assert len(sender.accepted) > 50
        assert numbers_in(client, sender.user, EVENT) == Counter(sender.accepted)


def wait_for_return(platform, victim: str, old_pid: int) -> None:
    """Until the supervisor has started it again and it says that it can do its part."""
    end = time.monotonic() + RECOVERY_S
    while time.monotonic() < end:
        with suppress(LookupError):
            if platform.pid(victim) != old_pid and is_ready(platform, victim):
                return
        time.sleep(0.1)
    raise AssertionError(f"{victim} did not come back")


def is_ready(platform, name: str) -> bool:
    """PostgreSQL shows it by the events that are accepted again."""
    if name == "postgres":
        return True
    if name == "gateway":
        with suppress(httpx.TransportError):
            return httpx.get(f"{platform.url}/health/ready", timeout=2, trust_env=False).status_code == 200
        return False
    with grpc.insecure_channel(Ports(platform.port).listen(name)) as channel, suppress(grpc.RpcError):
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=1)  # pyright: ignore[reportAttributeAccessIssue]
        return answer.status == HealthCheckResponse.SERVING
    return False


def wait_for_progress(senders: list[Sender]) -> None:
    """Until each of them has had another event accepted, or has given up."""
    before = [len(sender.accepted) for sender in senders]
    end = time.monotonic() + RECOVERY_S
    while time.monotonic() < end:
        if all(len(sender.accepted) > count or sender.trouble for sender, count in zip(senders, before, strict=True)):
            return
        time.sleep(0.1)
    raise AssertionError("no events were accepted again")
