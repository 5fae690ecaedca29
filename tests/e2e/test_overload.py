"""Five times as much as can be stored: as much is stored as before, soon, and the rest is told to come back."""

from itertools import pairwise

from tests.bench.bench_overload import Bench, bodies
from tests.part import part

SECONDS = 4.0
# The machine may be anybody's while this runs: the aims themselves are judged by the benchmark.
LEAST_GOODPUT, MOST_P99 = 0.6, 4.0
ROUNDS = 3


def test_at_five_times_the_peak_as_much_is_stored_and_as_soon() -> None:
    with part() as running:
        bench = Bench(running, running.new_tenant(), bodies(200))
        bench.peak(SECONDS)
        points = [point for _ in range(ROUNDS) for point in bench.curve((1.0, 5.0), SECONDS)]
    pairs = [pair for pair in pairwise(points) if pair[0].times < pair[1].times]
    assert all(point.failed == 0 for point in points)
    assert all(many.refused > many.accepted for _, many in pairs)
    # A refusal takes no longer than what is stored, which waits for its turn.
    assert max(many.goodput for _, many in pairs) >= LEAST_GOODPUT
    assert min(many.p99_ms / one.p99_ms for one, many in pairs) <= MOST_P99
