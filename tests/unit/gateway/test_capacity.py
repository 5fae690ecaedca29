"""How much is let in: it follows what profiles does, leaves room for the quiet, and cannot be held by the slow."""

import heapq
import itertools

import pytest

from chassis.errors import Exhausted, Reason, Unavailable
from services.gateway import capacity as module
from services.gateway.capacity import BODY_WEIGHT, Capacity, Place

SIZE = 100_000 - BODY_WEIGHT
WEIGHT = 100_000
PATIENCE_S = 0.2


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Profiles:
    """Stores `rate` bodies a second, one after the other, in a time that is only told of."""

    def __init__(self, capacity: Capacity, clock: Clock, rate: float) -> None:
        self.capacity, self.clock, self.rate = capacity, clock, rate
        self.waits: list[float] = []
        self.refused = 0
        self._queue: list[tuple[float, Place]] = []

    def offer(self, per_s: float, seconds: float, tenant: str = "loud") -> int:
        """Bodies come at an even pace; how many were stored."""
        events = [(self.clock.now + number / per_s, 0) for number in range(int(per_s * seconds))]
        heapq.heapify(events)
        flight, done = None, 0
        while events:
            self.clock.now, kind = heapq.heappop(events)
            if kind == 0:
                try:
                    place = self.capacity.take(tenant, SIZE)
                except Exhausted:
                    self.refused += 1
                    continue
                self.capacity.arrived(place, tenant, SIZE)
                self._queue.append((self.clock.now, place))
            else:
                assert flight
                taken, place = self._queue.pop(0)
                self.capacity.end(flight, done=True)
                self.capacity.leave(place)
                self.waits.append(self.clock.now - taken)
                flight, done = None, done + 1
            if flight is None and self._queue:
                flight = self.capacity.send(WEIGHT)
                heapq.heappush(events, (self.clock.now + 1 / self.rate, 1))
        return done


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def capacity(clock: Clock) -> Capacity:
    return Capacity(patience_s=PATIENCE_S, clock=clock)


@pytest.mark.parametrize("rate", [15, 60, 240])
@pytest.mark.parametrize("times", [2, 5, 20])
def test_past_capacity_as_much_is_stored_as_before_and_nobody_waits_for_long(
    capacity: Capacity, clock: Clock, rate: float, times: float
) -> None:
    profiles = Profiles(capacity, clock, rate)
    profiles.offer(times * rate, 5)
    profiles.waits.clear()
    done = profiles.offer(times * rate, 5)
    assert done >= 0.98 * 5 * rate
    assert max(profiles.waits) <= max(1.2 * PATIENCE_S, (module.LEAST_PLACES + 1) / rate)
    assert capacity.limit == pytest.approx(rate * WEIGHT * PATIENCE_S, rel=0.2)


def test_within_capacity_nobody_is_refused(capacity: Capacity, clock: Clock) -> None:
    profiles = Profiles(capacity, clock, 60)
    assert profiles.offer(54, 10) == 540
    assert profiles.refused == 0


def test_the_limit_follows_a_service_that_becomes_slower_and_faster_again(capacity: Capacity, clock: Clock) -> None:
    profiles = Profiles(capacity, clock, 100)
    limits = []
    for rate in (100, 20, 100):
        profiles.rate = rate
        profiles.offer(500, 5)
        limits.append(capacity.limit / (WEIGHT * PATIENCE_S))
    assert limits == [pytest.approx(100, rel=0.2), pytest.approx(20, rel=0.4), pytest.approx(100, rel=0.2)]


def test_a_call_that_left_nothing_waiting_does_not_lower_the_limit(capacity: Capacity, clock: Clock) -> None:
    before = capacity.limit
    for _ in range(100):
        place = capacity.take("quiet", 10)
        capacity.arrived(place, "quiet", 10)
        flight = capacity.send(BODY_WEIGHT + 10)
        clock.now += 0.5
        capacity.end(flight, done=True)
        capacity.leave(place)
    assert capacity.limit == before


def test_a_few_single_events_that_wait_long_are_no_reason_to_refuse_the_next(capacity: Capacity, clock: Clock) -> None:
    for _ in range(100):
        places = [capacity.take("only", 500) for _ in range(3)]
        flight = capacity.send(BODY_WEIGHT + 500)  # the others wait for it
        clock.now += 0.5
        capacity.end(flight, done=True)
        for place in places:
            capacity.leave(place)
    assert [capacity.take("only", 500) for _ in range(16)]
    with pytest.raises(Exhausted):
        capacity.take("only", SIZE)


def test_a_loud_tenant_leaves_room_for_the_others(capacity: Capacity) -> None:
    while capacity.limit - capacity._counted > capacity.limit / (module.SHARE + 1):
        capacity.take("loud", SIZE)
    with pytest.raises(Exhausted) as refused:
        capacity.take("loud", SIZE)
    assert refused.value.reason is Reason.QUEUE_FULL
    assert refused.value.retry_after_s
    assert capacity.take("quiet", SIZE)


def test_bodies_that_come_slowly_take_no_places_from_the_others_and_have_a_limit_in_memory(
    capacity: Capacity, clock: Clock
) -> None:
    for _ in range(module.MOST_WEIGHT // WEIGHT):
        capacity.take("slow", SIZE)
        clock.now += module.SLOW_S / 10
    with pytest.raises(Exhausted):
        capacity.take("slow", SIZE)


def test_all_places_are_given_back(capacity: Capacity, clock: Clock) -> None:
    places = [capacity.take("", SIZE) for _ in range(5)]
    clock.now += 2 * module.SLOW_S
    places.append(capacity.take("ours", SIZE))
    for place in places[2:]:
        capacity.arrived(place, "ours", 3 * SIZE)
    for place in places:
        capacity.leave(place)
    assert (capacity._counted, capacity._in_memory, capacity._places, capacity._held) == (0, 0, 0, {})


def fill(capacity: Capacity) -> None:
    """Takes places for ever."""
    for number in itertools.count():
        capacity.take(f"t{number}", SIZE)


def test_while_calls_are_lost_a_full_queue_is_called_an_outage_and_afterwards_the_rate_is_as_before() -> None:
    clock = Clock()
    capacity = Capacity(patience_s=PATIENCE_S, clock=clock)
    before = capacity.limit
    waiting = [capacity.send(WEIGHT) for _ in range(4)]
    clock.now = 2.0
    capacity.end(waiting[0], done=False, lost=True)
    with pytest.raises(Unavailable) as refused:
        fill(capacity)
    assert refused.value.retry_after_s
    clock.now = 6.0
    for flight in waiting[1:]:  # they waited for as long as the outage was
        capacity.end(flight, done=True)
    assert capacity.limit == before
    clock.now = 8.0
    with pytest.raises(Exhausted):
        fill(capacity)
