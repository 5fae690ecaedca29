"""How much may be on its way to profiles at once: what it lately did in `patience_s`, and no more.

The rate is measured as BBR measures a path's (N. Cardwell and others, "BBR: Congestion-Based Congestion Control", ACM Queue
14.5, 2016): what was delivered while a call was under way, over how long it was; a call that left nothing waiting behind it
says little of what is possible, so it may raise the rate but not lower it. Rate times patience is the limit (J. Little, "A
Proof for the Queuing Formula L = lambda W", 1961). A tenant may hold SHARE times what is free, so that a loud one leaves room
for others (A. Choudhury and E. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998).
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge

from chassis.errors import Exhausted, Reason, Unavailable

PATIENCE_S: Final = 0.2
SHARE: Final = 4
# A body costs profiles as much as so many bytes, before any of its own.
BODY_WEIGHT: Final = 1024
# Bodies that are let in whatever the rate says: enough to keep profiles at work, so that the rate can be measured.
LEAST_PLACES: Final = 4
# Nor is less than so much let in: of a few events that a busy machine takes up late, a rate says nothing of what is possible.
LEAST_WEIGHT: Final = 32 << 10
# All bodies in memory, those that come slowly included.
MOST_WEIGHT: Final = 64 << 20
# A body that takes longer to come than this holds memory, and no place.
SLOW_S: Final = 1.0
# What is assumed of profiles before anything was measured, in weight a second.
FIRST_RATE: Final = 10e6
# After a call that was lost, a full queue is not the callers' doing: they are told so for as long.
LOST_S: Final = 5.0
# Seconds over which the rate is averaged.
MEMORY_S: Final = 1.0

LIMIT: Final = Gauge("rapport_gateway_intake_limit_bytes", "Weight of bodies that may be on their way to profiles at once.")
HELD: Final = Gauge("rapport_gateway_intake_held_bytes", "Weight of bodies that are on their way to profiles.")


@dataclass(slots=True, eq=False)
class Place:
    """Room for one body, from its headers to its answer."""

    tenant: str
    weight: int
    taken: float
    is_arriving: bool = True
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Flight:
    """A call of profiles that is under way."""

    weight: int
    sent: float
    delivered_before: int
    is_full: bool


class Capacity:
    """Gives places to bodies before they are read. Times are of a monotonic clock."""

    def __init__(self, *, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._rate = FIRST_RATE
        self._places = 0
        self._in_memory = 0
        self._held: Counter[str] = Counter()
        self._counted = 0
        self._arriving: deque[Place] = deque()
        self._in_flight = 0
        self._delivered = 0
        # When a call was lost last.
        self._lost = -math.inf
        LIMIT.set_function(lambda: self.limit)
        HELD.set_function(lambda: self._counted)

    @property
    def limit(self) -> float:
        """Weight that may be held at once."""
        return max(self._rate * self._patience_s, LEAST_WEIGHT)

    def take(self, tenant: str, size: int) -> Place:
        """A place for a body of `size` bytes, or so. Raises Exhausted where there is none, Unavailable in an outage."""
        weight = BODY_WEIGHT + size
        now = self._clock()
        self._forget_slow(now)
        free = self.limit - self._counted
        is_room = weight <= free and self._held[tenant] + weight <= SHARE * free
        if self._in_memory + weight > MOST_WEIGHT or not (is_room or self._places < LEAST_PLACES):
            if now - self._lost < LOST_S:
                raise Unavailable("events cannot be stored at the moment", retry_after_s=1.0)
            raise Exhausted("too many events are waiting to be stored", reason=Reason.QUEUE_FULL, retry_after_s=1.0)
        place = Place(tenant, weight, now)
        self._places += 1
        self._in_memory += weight
        self._count(place, 1)
        self._arriving.append(place)
        return place

    def arrived(self, place: Place, tenant: str, size: int) -> None:
        """The body is there, as large as it turned out to be, and is known to be of `tenant`."""
        if place.counts:
            self._count(place, -1)
        self._in_memory += BODY_WEIGHT + size - place.weight
        place.tenant, place.weight, place.is_arriving, place.counts = tenant, BODY_WEIGHT + size, False, True
        self._count(place, 1)

    def leave(self, place: Place) -> None:
        """The body was answered."""
        place.is_arriving = False
        self._in_memory -= place.weight
        if place.counts:
            self._count(place, -1)
        self._places -= 1

    def send(self, weight: int) -> Flight:
        """A call of profiles begins."""
        is_full = self._counted > self._in_flight + weight
        self._in_flight += weight
        return Flight(weight, self._clock(), self._delivered, is_full)

    def end(self, flight: Flight, *, done: bool, lost: bool = False) -> None:
        """The call has ended; `done` where profiles stored what was in it, `lost` where it, or its database, is gone."""
        self._in_flight -= flight.weight
        if lost:
            self._lost = self._clock()
        if not done:
            return
        self._delivered += flight.weight
        elapsed_s = max(1e-6, self._clock() - flight.sent)
        rate = (self._delivered - flight.delivered_before) / elapsed_s
        # A call that waited while others were lost says how long that lasted, and nothing of what is possible.
        may_lower = flight.is_full and flight.sent > self._lost
        if may_lower or rate > self._rate:
            self._rate += (rate - self._rate) * (1 - math.exp(-elapsed_s / MEMORY_S))

    def _count(self, place: Place, sign: int) -> None:
        self._counted += sign * place.weight
        self._held[place.tenant] += sign * place.weight
        if not self._held[place.tenant]:
            del self._held[place.tenant]

    def _forget_slow(self, now: float) -> None:
        while self._arriving and (not self._arriving[0].is_arriving or now - self._arriving[0].taken > SLOW_S):
            place = self._arriving.popleft()
            if place.is_arriving:
                self._count(place, -1)
                place.counts = False
