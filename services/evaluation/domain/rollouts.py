"""Does a new version of a service do worse than the old one? By its counters, over one window of time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.evaluation.domain.intervals import Interval, Proportion, newcombe
from services.evaluation.domain.verdicts import Verdict, percent, points

MIN_REQUESTS: Final = 100
# Fewer errors more than that are not held against a version, however certain they are.
ERROR_TOLERANCE: Final = 0.001
# More errors than that must be excluded before there is "no difference".
ERROR_MARGIN: Final = 0.02
# A p99 beyond that many times the old one is worse.
SLOWDOWN: Final = 1.5
# The server's own failures. What the caller did wrong, gave up, or was refused for its rate is not among them.
ERROR_CODES: Final = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "UNIMPLEMENTED"})

# (seconds since the epoch, value) of a counter, oldest first.
Samples = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many requests took at most `le_s` seconds; the last one's `le_s` is infinite."""

    le_s: float
    count: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one version answered in the window. `buckets` are cumulative, lowest bound first."""

    version: str
    requests: int
    errors: int
    buckets: tuple[Bucket, ...]

    @property
    def failed(self) -> Proportion:
        return Proportion(self.errors, self.requests)

    @property
    def p99_s(self) -> float | None:
        return quantile(self.buckets, 0.99)

    def slower_than(self, bound_s: float) -> Proportion:
        """The share of requests above a bucket's bound."""
        total = self.buckets[-1].count
        below = next(bucket.count for bucket in self.buckets if bucket.le_s >= bound_s)
        return Proportion(round(total - below), round(total))


@dataclass(frozen=True, slots=True)
class RolloutJudgement:
    verdict: Verdict
    explanation: str


def increase(samples: Samples, *, start: float) -> float:
    """How far a counter rose from `start` on.

    A counter that has no sample at `start` was born later, and began at 0; one that falls was begun anew. (PromQL's
    `increase` leaves out what a counter had counted before it was first seen, which is all of a short-lived error.)
    """
    total, last = 0.0, 0.0
    for index, (at, value) in enumerate(samples):
        if index == 0 and at <= start:
            last = value
            continue
        total += value - last if value >= last else value
        last = value
    return total


def traffic_of(version: str, by_code: Mapping[str, float], by_bound: Mapping[float, float]) -> Traffic:
    """From the rise of the counters: requests by status code, and by the upper bound of their duration."""
    requests = sum(round(count) for count in by_code.values())
    errors = sum(round(count) for code, count in by_code.items() if code in ERROR_CODES)
    buckets: list[Bucket] = []
    for bound, count in sorted(by_bound.items()):
        # Counters are read one after the other; what is cumulative must look it.
        buckets.append(Bucket(bound, max(count, buckets[-1].count if buckets else 0.0)))
    return Traffic(version, requests, errors, tuple(buckets))


def quantile(buckets: Sequence[Bucket], share: float) -> float | None:
    """Seconds, linear inside a bucket, as PromQL's histogram_quantile. None without observations."""
    if not buckets or buckets[-1].count <= 0 or not math.isinf(buckets[-1].le_s):
        return None
    rank = share * buckets[-1].count
    lower_s, below = 0.0, 0.0
    for bucket in buckets:
        if bucket.count >= rank:
            if math.isinf(bucket.le_s):
                return lower_s
            inside = (rank - below) / (bucket.count - below) if bucket.count > below else 1.0
            return lower_s + (bucket.le_s - lower_s) * inside
        lower_s, below = bucket.le_s, bucket.count
    return lower_s


def judge(baseline: Traffic, candidate: Traffic) -> RolloutJudgement:
    """The candidate against the baseline. One that is worse in errors or in latency is worse."""
    if lacking := [traffic for traffic in (baseline, candidate) if traffic.requests < MIN_REQUESTS]:
        found = ", ".join(f"version {traffic.version} answered {_counted(traffic.requests)}" for traffic in lacking)
        return RolloutJudgement(Verdict.NOT_ENOUGH_DATA, f"{found}; at least {MIN_REQUESTS} each are needed.")
    errors = newcombe(candidate.failed, baseline.failed)
    slower, faster = _is_slower(candidate, baseline), _is_slower(baseline, candidate)
    if errors.low > ERROR_TOLERANCE or slower:
        verdict = Verdict.WORSE
    elif errors.high < -ERROR_TOLERANCE or (faster and errors.high <= ERROR_MARGIN):
        verdict = Verdict.BETTER
    elif errors.high <= ERROR_MARGIN:
        verdict = Verdict.NO_DIFFERENCE
    else:
        verdict = Verdict.NOT_ENOUGH_DATA
    return RolloutJudgement(verdict, _explained(baseline, candidate, errors, verdict, slower=slower, faster=faster))


def _counted(requests: int) -> str:
    return f"{requests} requests" if requests else "no requests (no traffic is not enough data)"


def _is_slower(one: Traffic, other: Traffic) -> bool:
    """Beyond SLOWDOWN at p99, and by more than chance: more of its requests lie above the bucket that holds that bound."""
    mine, theirs = one.p99_s, other.p99_s
    if mine is None or theirs is None or mine <= SLOWDOWN * theirs:
        return False
    bound_s = next(bucket.le_s for bucket in other.buckets if bucket.le_s >= SLOWDOWN * theirs)
    if math.isinf(bound_s) or bound_s not in {bucket.le_s for bucket in one.buckets}:
        return False
    return newcombe(one.slower_than(bound_s), other.slower_than(bound_s)).low > 0


def _explained(baseline: Traffic, candidate: Traffic, errors: Interval, verdict: Verdict, *, slower: bool, faster: bool) -> str:
    difference = candidate.failed.share - baseline.failed.share
    latency = "slower at p99" if slower else "faster at p99" if faster else "about as fast at p99"
    sentence = f"{_described(candidate)}; {_described(baseline)}. Errors {points(difference)} "
    sentence += f"(95 % interval {100 * errors.low:+.1f} to {100 * errors.high:+.1f}), {latency}."
    if verdict is Verdict.NOT_ENOUGH_DATA:
        sentence += (
            f" {points(errors.high)} of errors cannot be excluded, {points(ERROR_MARGIN)} must be: more traffic is needed."
        )
    return sentence


def _described(traffic: Traffic) -> str:
    p99_s = traffic.p99_s
    latency = "no durations" if p99_s is None else f"p99 {1000 * p99_s:.1f} ms"
    share = percent(traffic.failed.share)
    return f"{traffic.version}: {traffic.errors} errors in {traffic.requests} requests ({share}), {latency}"
