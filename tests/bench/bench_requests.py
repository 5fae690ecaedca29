"""One thing a request, over HTTP: an event in, a customer by a user id, a portrait; then events at half of what can be taken.

Ours: real processes (gateway, profiles with its projector, PostgreSQL), with keys, tenants, receipts, personal fields sealed.
The peer: a FastAPI route that inserts one row and commits, or reads one row by its key. The limit: the same server with nothing
behind it. In turns, in one run, on the same PostgreSQL, by CALLERS connections that ask again as soon as they are answered.
Processor time is told by process, per request: where the time goes. Run: `python -m tests.bench.bench_requests`.
"""

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import httpx

from infra.ports import free_port
from tests.bench.bench_ingest import _call
from tests.bench.open_load import MARK, offer
from tests.bench.plain_api import SCHEMA
from tests.e2e.shop import wait_until_fresh
from tests.part import Part, part

CALLERS: Final = 64
CUSTOMERS: Final = 1_000
EVENTS: Final = 20_000
ROUNDS: Final = 3
SECONDS: Final = 5.0
AIM_SINGLES: Final = 3.0
AIM_P99_MS: Final = 10.0

Request = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Way:
    """Requests of one kind, and who answers them."""

    name: str
    port: int
    requests: Sequence[Request]
    headers: dict[str, str]

    def load(self, seconds: float, *, rate: float = 0.0) -> dict[str, Any]:
        """What the loader saw: `rate` a second at random moments, or as many as are answered."""
        seen = offer(self.port, self.headers, self.requests, seconds=seconds, rate=rate, callers=0 if rate else CALLERS)
        assert set(seen["statuses"]) <= ({"200", "429"} if rate else {"200"}), f"{self.name}: {seen['statuses']}"
        return seen

    def most(self) -> float:
        """Requests answered a second."""
        return rate_of(self.load(SECONDS))


def rate_of(seen: dict[str, Any]) -> float:
    """Answers a second."""
    return seen["accepted_in_time"] / seen["elapsed_s"]


def tracks() -> list[Request]:
    """Events as a browser sends them, one at a time."""
    chance = random.Random(1)
    calls = [call for second in range(500) if (call := _call(chance, second))["type"] == "track"]
    for number, call in enumerate(calls):
        call["messageId"] = f"{MARK.decode()}-{number}-{chance.getrandbits(32):08x}"
        call["userId"] = f"customer-{number % CUSTOMERS}"
        call["anonymousId"] = f"device-{number % CUSTOMERS}"
    return [("POST", "/v1/track", json.dumps(call)) for call in calls]


def fill(client: httpx.Client) -> None:
    """Customers with a history."""
    chance = random.Random(2)
    for first in range(0, EVENTS, 500):
        calls = [_call(chance, second) for second in range(first, first + 500)]
        for number, call in enumerate(calls, first):
            call["userId"], call["anonymousId"] = f"customer-{number % CUSTOMERS}", f"device-{number % CUSTOMERS}"
        client.post("/v1/batch", json={"batch": calls}).raise_for_status()
    wait_until_fresh(client)


async def execute(running: Part, statements: str) -> None:
    """As the tables' owner."""
    connection = await asyncpg.connect(running.database.dsn("rapport_owner"), ssl=False)
    await connection.execute(statements)
    await connection.close()


@contextmanager
def plain(running: Part, profile: str) -> Iterator[int]:
    """The peer, beside ours on the same PostgreSQL; its port. `profile` is what it reads."""
    insert = (
        f"INSERT INTO profiles.plain_profiles SELECT 'customer-' || n, '{profile}' FROM generate_series(0, {CUSTOMERS - 1}) n"
    )
    asyncio.run(execute(running, f"{SCHEMA}; {insert}"))
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.plain_api", str(port), running.database.dsn("rapport_owner")]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            try:
                httpx.post(f"http://127.0.0.1:{port}/empty", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def compare(client: httpx.Client, running: Part, ours: Way, peer: Way, limit: Way) -> tuple[float, float]:
    """In turns; (ours a second, ours / peer), medians."""
    rates: dict[str, list[float]] = {"ours": [], "peer": [], "limit": []}
    for _ in range(ROUNDS):
        before = running.processor_s()
        seen = ours.load(SECONDS)
        wait_until_fresh(client)  # what it caused is its own, and nobody else pays for it
        after = running.processor_s()
        rates["ours"].append(rate_of(seen))
        rates["peer"].append(peer.most())
        rates["limit"].append(limit.most())
    ratio = statistics.median(each / other for each, other in zip(rates["ours"], rates["peer"], strict=True))
    told = "   ".join(f"{name} {statistics.median(each):7,.0f}/s" for name, each in rates.items())
    costs = ", ".join(f"{name} {(after[name] - before[name]) / seen['statuses']['200'] * 1e6:.0f}" for name in after)
    print(f"{ours.name:<16} {told}   ours / peer {ratio:.2f}   processor us a request: {costs}", flush=True)
    return statistics.median(rates["ours"]), ratio


def main() -> None:
    """The table, then half load."""
    with part() as running:
        keys = running.new_tenant()
        headers = {"Authorization": f"Bearer {keys.private}", "Content-Type": "application/json"}
        with httpx.Client(base_url=running.url, headers=headers, trust_env=False, timeout=30) as client:
            fill(client)
            profile = client.get("/v1/profiles/user_id:customer-7").raise_for_status().text
            with plain(running, profile) as port:
                numbers = range(CUSTOMERS)
                lookups = [
                    json.dumps({"identifiers": [{"namespace": "user_id", "value": f"customer-{each}"}]}) for each in numbers
                ]
                read = [("GET", f"/v1/profiles/customer-{each}", "") for each in numbers]
                kinds = {
                    "event": (tracks(), tracks()),
                    "identity lookup": ([("POST", "/v1/profiles:lookup", each) for each in lookups], read),
                    "profile": ([("GET", f"/v1/profiles/user_id:customer-{each}", "") for each in numbers], read),
                    "portrait": ([("GET", f"/v1/profiles/user_id:customer-{each}/portrait", "") for each in numbers], read),
                }
                seen: dict[str, tuple[float, float]] = {}
                for name, (asked, asked_of_peer) in kinds.items():
                    ours = Way(name, running.port, asked, headers)
                    peer = Way(f"{name}, plain", port, asked_of_peer, headers)
                    limit = Way(f"{name}, empty", port, [("POST", "/empty", body) for _, _, body in asked], headers)
                    seen[name] = compare(client, running, ours, peer, limit)
            most, ratio = seen["event"]
            half = Way("event", running.port, tracks(), headers).load(2 * SECONDS, rate=most / 2)
    print(f"events one by one, ours / plain FastAPI: {ratio:.2f}; aim: {AIM_SINGLES:.0f} or more")
    print(
        f"at half of that, {half['offered'] / half['elapsed_s']:,.0f} events/s at random moments: acknowledged in"
        f" p50 {half['accepted_p50_ms']:.1f} ms, p99 {half['accepted_p99_ms']:.1f} ms; aim: {AIM_P99_MS:.0f} ms at most;"
        f" {half['statuses'].get('429', 0)} of {half['offered']:,} refused with 429"
        f"   (the loader itself late by p99 {half['late_p99_ms']:.1f} ms)"
    )


if __name__ == "__main__":
    main()
