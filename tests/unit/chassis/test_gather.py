"""Small requests in batches: bounded, each with an answer of its own."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import pytest

from chassis.errors import Conflict, Error, Exhausted, Reason, Unavailable
from chassis.gather import Gather

Send = Callable[[Sequence[int]], Awaitable[Sequence[int | Error]]]


class Doubler:
    """Doubles numbers, batch by batch, once it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def send(self, items: Sequence[int]) -> Sequence[int | Error]:
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        return [Conflict(f"no {item}") if item < 0 else 2 * item for item in items]


async def let_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_requests_that_arrive_together_go_together_and_each_gets_its_own_answer() -> None:
    doubler = Doubler()
    gather = Gather(doubler.send)
    assert await asyncio.gather(*(gather.ask(n) for n in range(100))) == [2 * n for n in range(100)]
    assert doubler.batches == [list(range(100))]


async def test_a_batch_is_bounded_in_number_and_in_weight() -> None:
    doubler = Doubler()
    await asyncio.gather(*(Gather(doubler.send, size=3).ask(n) for n in range(2)))
    doubler.batches.clear()
    by_number = Gather(doubler.send, size=3)
    await asyncio.gather(*(by_number.ask(n) for n in range(8)))
    assert [len(batch) for batch in doubler.batches] == [3, 3, 2]
    doubler.batches.clear()
    by_weight = Gather(doubler.send, weight=10)
    await asyncio.gather(*(by_weight.ask(n, weight=n) for n in (4, 6, 1, 50, 2)))
    assert doubler.batches == [[4, 6], [1], [50], [2]]


async def test_no_more_batches_are_under_way_than_allowed_and_the_next_one_fills_meanwhile() -> None:
    doubler = Doubler(held=True)
    gather = Gather(doubler.send, in_flight=2, size=4)
    asked = [asyncio.create_task(gather.ask(n)) for n in range(4)]
    await let_run()
    asked += [asyncio.create_task(gather.ask(n)) for n in range(4, 20)]
    await let_run()
    assert doubler.under_way == 2
    doubler.go.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(20)]
    assert doubler.most_under_way == 2
    assert sorted(item for batch in doubler.batches for item in batch) == list(range(20))


async def test_an_error_belongs_to_its_own_request() -> None:
    gather = Gather(Doubler().send)
    answers = await asyncio.gather(*(gather.ask(n) for n in (1, -2, 3)), return_exceptions=True)
    assert answers[0] == 2
    assert answers[2] == 6
    assert isinstance(answers[1], Conflict)
    assert answers[1].message == "no -2"


async def test_a_call_that_fails_fails_for_its_whole_batch_and_the_next_batch_goes() -> None:
    calls = 0

    async def send(items: Sequence[int]) -> Sequence[int | Error]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unavailable("nobody is there")
        return list(items)

    gather = Gather(send)
    failed = await asyncio.gather(*(gather.ask(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in failed)
    assert await gather.ask(7) == 7


async def test_a_wrong_number_of_answers_is_a_failure_and_not_a_wait() -> None:
    async def send(items: Sequence[int]) -> Sequence[int | Error]:
        return list(items)[1:]

    gather = Gather(send)
    answers = await asyncio.gather(*(gather.ask(n, timeout_s=5) for n in range(3)), return_exceptions=True)
    assert [str(each) for each in answers] == ["a batch of 3 got 2 answers"] * 3
    with pytest.raises(RuntimeError):
        await gather.ask(1, timeout_s=5)


async def test_a_full_queue_is_refused_at_once() -> None:
    doubler = Doubler(held=True)
    gather = Gather(doubler.send, in_flight=1, size=1, waiting=2)
    asked = [asyncio.create_task(gather.ask(0))]
    await let_run()
    asked += [asyncio.create_task(gather.ask(n)) for n in (1, 2)]
    await let_run()
    with pytest.raises(Exhausted) as refused:
        await gather.ask(3)
    assert refused.value.reason is Reason.QUEUE_FULL
    assert refused.value.retry_after_s
    doubler.go.set()
    assert await asyncio.gather(*asked) == [0, 2, 4]


async def test_an_answer_that_does_not_come_in_time_is_unavailable_and_the_rest_is_served() -> None:
    doubler = Doubler(held=True)
    gather = Gather(doubler.send, in_flight=1)
    slow = asyncio.create_task(gather.ask(1, timeout_s=5))
    await let_run()
    with pytest.raises(Unavailable) as refused:
        await gather.ask(2, timeout_s=0.01)
    assert refused.value.reason is Reason.DEADLINE_EXCEEDED
    doubler.go.set()
    assert await slow == 2
    assert await gather.ask(3) == 6
    assert doubler.batches == [[1], [3]]  # whoever gave up is not asked for


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    doubler = Doubler(held=True)
    gather = Gather(doubler.send, in_flight=1, size=2)
    asked = [asyncio.create_task(gather.ask(n)) for n in range(5)]
    await let_run()
    for each in (asked[0], asked[3]):  # one under way, one in the queue
        each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await each
    doubler.go.set()
    assert await asyncio.gather(asked[1], asked[2], asked[4]) == [2, 4, 8]
    assert doubler.batches == [[0, 1], [2, 4]]


async def test_a_queue_of_callers_that_all_gave_up_ends_the_work() -> None:
    doubler = Doubler(held=True)
    gather = Gather(doubler.send, in_flight=1, size=1)
    first = asyncio.create_task(gather.ask(0))
    await let_run()
    for _ in range(5):
        with pytest.raises(Unavailable):
            await gather.ask(1, timeout_s=0.001)
    doubler.go.set()
    assert await first == 0
    await let_run()
    assert doubler.batches == [[0]]
    assert await gather.ask(9) == 18


async def test_a_wait_gathers_what_comes_a_little_later() -> None:
    doubler = Doubler()
    gather = Gather(doubler.send, wait_s=0.05)
    early = asyncio.create_task(gather.ask(1))
    await asyncio.sleep(0.01)
    assert await asyncio.gather(early, gather.ask(2)) == [2, 4]
    assert doubler.batches == [[1, 2]]
