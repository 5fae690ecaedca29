"""A second version of scoring beside the first, once equal and once with planted errors: what does evaluation say?"""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from demo.client import ClientError
from demo.journey.traveller import MODEL, Traveller
from infra.processes import end, spawn
from infra.readiness import grpc_serving

FAULT_RATIO = 0.2
CALLERS = 4
# Half of them reach each version. "No difference" means that two points of errors more are excluded, which takes 200.
CALLS = 800
# A new process is slow at first, and that is not its version's fault.
WARM_UP_CALLS = 60
# Longer than Prometheus takes between two looks, so that what was before the traffic has been seen before it.
SETTLE_S = 6
START_PATIENCE_S = 60.0
METRICS_PATIENCE_S = 30.0
Advance = Callable[[int | None, int], None]


async def rollout(traveller: Traveller) -> None:
    """Starts the candidate twice, sends traffic over both versions, asks for the verdict."""
    record = traveller.record
    async with traveller.phase("rollout", "Rolling out a second scoring") as advance:
        if advance is None:
            return
        if traveller.facts.metrics_missing:
            record.miss("rollout", f"not enough data: no metrics source ({traveller.facts.metrics_missing})")
            return
        if not record.notes["risk"]:
            record.miss("rollout", "no model is served, so there is no traffic to compare")
            return
        for done, (name, ratio) in enumerate((("equal", 0.0), ("faulty", FAULT_RATIO))):
            version = f"candidate-{name}"
            async with _candidate(traveller, version, ratio):
                await _traffic(traveller, WARM_UP_CALLS, lambda _: None)
                await asyncio.sleep(SETTLE_S)
                started = time.monotonic()
                await _traffic(traveller, CALLS, lambda sent, done=done: advance(2 * CALLS, done * CALLS + sent))
                verdict = await _verdict(traveller, version, started)
            record.values[f"rollout.{name}"] = verdict["verdict"]
            record.values[f"rollout.{name}_explanation"] = verdict["explanation"]


@asynccontextmanager
async def _candidate(traveller: Traveller, version: str, fault_ratio: float) -> AsyncGenerator[None]:
    """A second scoring process that takes its share of the calls."""
    settings = {
        **traveller.facts.candidate,
        "RAPPORT_SCORING_VERSION": version,
        "RAPPORT_SCORING_FAULT_RATIO": str(fault_ratio),
    }
    command = [sys.executable, "-m", "services.scoring.main"]
    logs = traveller.facts.root / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / f"scoring-{version}.log").open("ab") as log:
        process = spawn(command, output=log, environment={**os.environ, **settings})
    try:
        serving = grpc_serving(settings["RAPPORT_SCORING_LISTEN"])
        await traveller.until(f"scoring {version} to be ready", serving, patience_s=START_PATIENCE_S)
        await asyncio.sleep(traveller.facts.notice_s)
        yield
    finally:
        await end(process, number=signal.SIGTERM, grace_s=15)


async def _traffic(traveller: Traveller, count: int, advance: Callable[[int], None]) -> None:
    """So many scores, one after the other from each caller; the planted errors reach them, which is what is being rehearsed.

    Batches of one: single scores travel together, and would be fewer calls than were sent.
    """
    refs = traveller.user_refs() or list(traveller.record.notes["risk"])
    numbers, sent = iter(range(count)), 0

    async def call() -> None:
        nonlocal sent
        for number in numbers:
            try:
                await traveller.client.call("POST", "/v1/scores:batch", {"refs": [refs[number % len(refs)]], "model": MODEL})
            except ClientError as error:
                if error.status != 500:
                    raise
            sent += 1
            advance(sent)

    await asyncio.gather(*(call() for _ in range(CALLERS)))


async def _verdict(traveller: Traveller, version: str, started: float) -> dict[str, Any]:
    """Once the metrics source has seen the calls since `started`; after a while, whatever it has seen."""
    last = time.monotonic() + METRICS_PATIENCE_S

    async def ask() -> dict[str, Any] | None:
        body = {
            "service": "scoring",
            "baselineVersion": traveller.facts.candidate["RAPPORT_SCORING_BASELINE_VERSION"],
            "candidateVersion": version,
            "windowSeconds": max(10, math.ceil(time.monotonic() - started)),
        }
        answer = await traveller.client.call("POST", "/v1/rollouts:judge", body)
        counted = sum(answer[side]["requestCount"] for side in ("baseline", "candidate"))
        return answer if counted >= CALLS or time.monotonic() > last else None

    return await traveller.until("the verdict on the rollout", ask)
