"""Rounds of kill -9 under load: `python -m tests.durability.rounds --rounds 200 --seed 1`, or `make test-durability`.

Each round: at a random moment one of the processes is killed, started again at once, and waited for until a batch is
acknowledged that was sent after the kill; of the relay to Kafka: until it has sent something. Then the clients rest, and every
receipt is compared with the log: an event that was acknowledged and is not there is lost; one that is there twice is doubled.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from rapport.profiles.v1 import event_pb2

from infra.kafka import Missing
from infra.roles import DATABASE
from services.profiles.jsontext import loads
from tests.durability.fan import arrived, broker, place_of_relay
from tests.durability.load import Sender
from tests.durability.stack import PATIENCE_S, Stack, running

ResultT = TypeVar("ResultT")

SENDERS = 4
LONGEST_S = 0.8
EVENT = "Durable"


@dataclass(slots=True)
class Outcome:
    """What the rounds came to."""

    acknowledged: int = 0
    repeats: int = 0
    lost: list[int] = field(default_factory=list[int])
    doubled: list[int] = field(default_factory=list[int])
    troubles: list[str] = field(default_factory=list[str])
    recovery_s: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.troubles)

    def table(self) -> str:
        lines = [f"{'killed':<10} {'rounds':>6} {'p50 s':>7} {'max s':>7}"]
        for victim, seconds in sorted(self.recovery_s.items()):
            lines.append(f"{victim:<10} {len(seconds):>6} {statistics.median(seconds):>7.2f} {max(seconds):>7.2f}")
        lines.append(f"{self.acknowledged} events acknowledged, {self.repeats} batches repeated")
        lines.append(f"{len(self.lost)} lost, {len(self.doubled)} doubled")
        return "\n".join([*lines, *self.troubles])


@dataclass(slots=True)
class Rounds:
    """Goes on from round to round; `check` can be asked for at any time."""

    stack: Stack
    senders: Sequence[Sender]
    chance: random.Random
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, count: int, victims: Sequence[str], say: Callable[[str], object]) -> None:
        """Stops at the first trouble."""
        # Each as often as the others, in no order.
        order = [victims[number % len(victims)] for number in range(count)]
        self.chance.shuffle(order)
        for number, victim in enumerate(order, 1):
            time.sleep(self.chance.uniform(0.02, LONGEST_S))
            seconds = self._round(victim)
            self.outcome.recovery_s.setdefault(victim, []).append(seconds)
            self.check()
            say(f"round {number}: {victim} was back after {seconds:.2f} s; {self.outcome.acknowledged} events")
            if not self.outcome.is_good:
                return

    def _round(self, victim: str) -> float:
        part = self.stack.parts[victim]
        killed = time.monotonic()
        part.kill()
        gone = time.monotonic()
        part.restart()
        end = killed + PATIENCE_S
        if victim == "relay":
            return self._relayed(killed)
        while time.monotonic() < end and not any(sender.trouble for sender in self.senders):
            answers = [answered for began, answered in (sender.last for sender in self.senders) if began > gone]
            if answers:
                return min(answers) - killed
            time.sleep(0.005)
        self.outcome.troubles.append(f"{victim} was not back in time: {self.stack.complaints()}")
        return time.monotonic() - killed

    def _relayed(self, killed: float) -> float:
        dsn = self.stack.database.dsn("rapport_owner", database=DATABASE)
        before = _run_aside(place_of_relay(dsn))
        while time.monotonic() < killed + PATIENCE_S:
            if _run_aside(place_of_relay(dsn)) > before:
                return time.monotonic() - killed
            time.sleep(0.05)
        self.outcome.troubles.append(f"the relay sends nothing: {self.stack.complaints()}")
        return time.monotonic() - killed

    def check(self) -> None:
        """Rests, compares, goes on."""
        for sender in self.senders:
            sender.rest()
        compare(self.outcome, self.senders, logged(self.stack))
        for sender in self.senders:
            sender.go()


def compare(outcome: Outcome, senders: Sequence[Sender], found: Counter[int]) -> None:
    """Every acknowledged event must be in the log once."""
    acknowledged = [number for sender in senders for number in sender.acknowledged]
    outcome.acknowledged = len(acknowledged)
    outcome.repeats = sum(sender.repeats for sender in senders)
    outcome.lost = [number for number in acknowledged if not found[number]]
    outcome.doubled = [number for number, count in found.items() if count > 1]
    outcome.troubles += [sender.trouble for sender in senders if sender.trouble]


_SEEN: dict[str, tuple[int, Counter[int]]] = {}


def logged(stack: Stack) -> Counter[int]:
    """How often each number is in the log. Only what came since the last look is read: nothing is deleted here."""
    return _run_aside(_logged(stack))


def _run_aside(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Our caller's thread may have a loop of its own, which is to stay as it is."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _logged(stack: Stack) -> Counter[int]:
    connection = await _connected(stack)
    try:
        after, numbers = _SEEN.get(stack.url, (0, Counter[int]()))
        rows = await connection.fetch("SELECT seq, payload FROM log.events WHERE seq > $1", after, timeout=120)
    finally:
        await connection.close()
    for row in rows:
        event = event_pb2.Event.FromString(row["payload"])
        if event.name == EVENT:
            numbers[loads(event.properties)["number"]] += 1
    _SEEN[stack.url] = (max([after, *(row["seq"] for row in rows)]), numbers)
    return numbers


async def _connected(stack: Stack) -> asyncpg.Connection:
    """Once the server has recovered."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await asyncpg.connect(stack.database.dsn("rapport_owner", database=DATABASE), timeout=10, ssl=False)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)


def endure(stack: Stack, count: int, seed: int, say: Callable[[str], object], victims: Sequence[str] = ()) -> Outcome:
    """So many rounds; of all parts, unless `victims` are named."""
    senders = [Sender(stack.url, stack.key, index) for index in range(1, SENDERS + 1)]
    rounds = Rounds(stack, senders, random.Random(seed))
    for sender in senders:
        sender.start()
    try:
        rounds.run(count, victims or sorted(stack.parts), say)
    finally:
        for sender in senders:
            sender.ending.set()
        for sender in senders:
            sender.join(PATIENCE_S)
    # Once more from the start, with nothing remembered.
    _SEEN.pop(stack.url, None)
    compare(rounds.outcome, senders, logged(stack))
    return rounds.outcome


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Kills one process after the other under load.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="which moments, and in which order")
    arguments = parser.parse_args()
    with ExitStack() as context:
        folder = Path(context.enter_context(tempfile.TemporaryDirectory(prefix="rapport-durability-")))
        try:
            kafka = context.enter_context(broker(folder)).address
        except Missing as error:
            print(f"without the relay: {error}")
            kafka = ""
        stack = context.enter_context(running(folder, brokers=kafka))
        outcome = endure(stack, arguments.rounds, arguments.seed, lambda line: print(line, flush=True))
        print(outcome.table())
        missing = 0
        if kafka and outcome.is_good:
            dsn = stack.database.dsn("rapport_owner", database=DATABASE)
            logged_count, missing, repeated = _run_aside(arrived(dsn, kafka))
            print(f"Kafka: {logged_count} events in the log, {missing} of them missing there, {repeated} sent again")
    sys.exit(0 if outcome.is_good and not missing else 1)


if __name__ == "__main__":
    main()
