"""Batches at 0.5 to 5 times what the platform can take: what is stored, how long that takes, what is refused.

Ours: real processes (PostgreSQL, profiles, gateway). The peak is what is stored a second by callers that ask again as soon as
they are answered. Then requests come at random moments, whether or not the ones before were answered. The loader is a process
of its own; since it shares the machine's processors, its processor time is printed, and goodput is also given for a machine
on which it takes none. Run: `python -m tests.bench.bench_overload [docs/overload.svg]`.
"""

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from tests.bench.bench_ingest import _call
from tests.bench.open_load import MARK, offer
from tests.part import Keys, Part, part

BATCH: Final = 500
BODIES: Final = 24
CALLERS: Final = 16
SECONDS: Final = 10.0
TIMES: Final = (0.5, 1.0, 2.0, 3.0, 5.0)
LEAST_GOODPUT: Final = 0.9
MOST_P99: Final = 2.0


@dataclass(frozen=True, slots=True)
class Point:
    """What became of one rate. Rates are batches a second; `server_cpus` are processors kept busy by the platform."""

    times: float
    offered: float
    accepted: float
    refused: float
    failed: int
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float
    loader_cpus: float
    server_cpus: float
    late_p99_ms: float
    peak: float = 0.0

    @property
    def goodput(self) -> float:
        """What was stored, as a share of the peak."""
        return self.accepted / self.peak if self.peak else 1.0

    @property
    def set_aside(self) -> float:
        """What would be stored if the loader's processor time were the platform's."""
        busy = self.server_cpus + self.loader_cpus
        return self.accepted * min(busy, psutil.cpu_count() or 1) / self.server_cpus if self.server_cpus else 0.0

    def line(self) -> str:
        return (
            f"{self.times:4.1f} x   offered {self.offered:6.1f}   stored {self.accepted:6.1f}/s ({self.goodput:4.2f} of the"
            f" peak)   refused {self.refused:6.1f}/s   failed {self.failed}   p50 {self.p50_ms:6.1f} ms"
            f"   p99 {self.p99_ms:6.1f} ms   refusal p99 {self.refused_p99_ms:5.1f} ms   processors: platform"
            f" {self.server_cpus:4.2f}, loader {self.loader_cpus:4.2f}   late p99 {self.late_p99_ms:4.1f} ms"
        )


def bodies(batch: int = BATCH) -> list[str]:
    """Batches as in bench_ingest, with a mark in each message id, where the loader makes them differ."""
    chance = random.Random(1)
    made = []
    for _ in range(BODIES):
        calls = [_call(chance, second) for second in range(batch)]
        for number, call in enumerate(calls):
            call["messageId"] = f"{MARK.decode()}-{number}-{chance.getrandbits(32):08x}"
        made.append(json.dumps({"batch": calls}))
    return made


class Bench:
    """A platform part, and what it is offered."""

    def __init__(self, running: Part, keys: Keys, batches: Sequence[str]) -> None:
        self._running = running
        self._headers = {"Authorization": f"Bearer {keys.write}", "Content-Type": "application/json"}
        self._bodies = batches

    def peak(self, seconds: float) -> float:
        """Batches stored a second by callers that never rest; they are never refused, being too few for it."""
        return self._point(0.0, 1.0, seconds, closed=True).accepted

    def curve(self, times: Sequence[float], seconds: float) -> list[Point]:
        """Open loop at each of `times` the peak, which is found anew before and after each: the machine is not ours alone."""
        before = self.peak(seconds)
        points = []
        for each in times:
            point = self._point(each, each * before, seconds)
            after = self.peak(seconds)
            points.append(replace(point, peak=(before + after) / 2))
            print(points[-1].line(), flush=True)
            before = after
        return points

    def _point(self, times: float, rate: float, seconds: float, *, closed: bool = False) -> Point:
        requests = [("POST", "/v1/batch", body) for body in self._bodies]
        before = sum(self._running.processor_s().values())
        callers = CALLERS if closed else 0
        seen = offer(self._running.port, self._headers, requests, seconds=seconds, rate=rate, callers=callers)
        server_s = sum(self._running.processor_s().values()) - before
        statuses: Mapping[str, int] = seen["statuses"]
        elapsed_s = seen["elapsed_s"]
        refused = statuses.get("429", 0)
        return Point(
            times=times,
            offered=seen["offered"] / elapsed_s,
            accepted=seen["accepted_in_time"] / elapsed_s,
            refused=refused / elapsed_s,
            failed=sum(statuses.values()) - statuses.get("200", 0) - refused,
            p50_ms=seen["accepted_p50_ms"],
            p99_ms=seen["accepted_p99_ms"],
            refused_p99_ms=seen["refused_p99_ms"],
            loader_cpus=seen["loader_cpu_s"] / elapsed_s,
            server_cpus=server_s / elapsed_s,
            late_p99_ms=seen["late_p99_ms"],
        )


def main() -> int:
    """The table, the verdict, and the curve where a file is named."""
    with part() as running:
        bench = Bench(running, running.new_tenant(), bodies())
        bench.peak(SECONDS / 2)  # keys, partitions, plans
        print(f"batches of {BATCH} a second; the peak is of {CALLERS} callers that never rest")
        points = bench.curve(TIMES, SECONDS)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(drawn(points))
    return 0 if verdict(points) else 1


def drawn(points: Sequence[Point]) -> str:
    """The curve as SVG: stored and refused, as shares of the peak, over what was offered."""
    wide, high, left, most = 640, 320, 60, max(point.offered / point.peak for point in points)

    def at(point: Point, value: float) -> tuple[float, float]:
        return left + point.offered / point.peak / most * (wide - left - 20), high - 40 - value / most * (high - 80)

    def line(name: str, colour: str, values: Sequence[float]) -> str:
        places = [at(point, value) for point, value in zip(points, values, strict=True)]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in places)
        x, y = places[-1]
        label = f'<text x="{x - 6:.0f}" y="{y - 8:.0f}" text-anchor="end" fill="{colour}">{name}</text>'
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}{label}'

    marks = "".join(
        f'<text x="{at(point, 0)[0]:.0f}" y="{high - 22}" text-anchor="middle">{point.times:g} x</text>'
        f'<text x="{at(point, 0)[0]:.0f}" y="{high - 6}" text-anchor="middle">{point.p99_ms:.0f} ms</text>'
        for point in points
    )
    stored = line("stored", "#1a6f4b", [point.goodput for point in points])
    refused = line("refused with 429", "#b3541e", [point.refused / point.peak for point in points])
    one = at(points[0], 1.0)[1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide + 20} {high}" font-family="sans-serif" font-size="12">'
        f'<text x="{left}" y="18">Batches a second, as shares of the peak, over what is offered; below: p99 of what is stored'
        f'</text><line x1="{left}" x2="{wide - 20}" y1="{one:.0f}" y2="{one:.0f}" stroke="#999" stroke-dasharray="4"/>'
        f'<text x="{left - 8}" y="{one + 4:.0f}" text-anchor="end">peak</text>{stored}{refused}{marks}</svg>\n'
    )


def verdict(points: Sequence[Point]) -> bool:
    """Prints whether the aims are met."""
    at_peak = next(point for point in points if point.times == 1.0)
    worst = points[-1]
    aside, calm = worst.set_aside / worst.peak, worst.p99_ms / at_peak.p99_ms
    print(
        f"at {worst.times:.0f} times: goodput {worst.goodput:.2f} of the peak ({aside:.2f} with the loader's time set aside;"
        f" aim: {LEAST_GOODPUT} or more), p99 {calm:.2f} times that at the peak (aim: {MOST_P99:.0f} at most)"
    )
    return worst.goodput >= LEAST_GOODPUT and calm <= MOST_P99


if __name__ == "__main__":
    sys.exit(main())
