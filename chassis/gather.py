"""Concurrent small requests, gathered into batches: bounded wait, bounded size, bounded queue, each its own error."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry.trace import SpanKind

from chassis import context, tracing
from chassis.errors import Error, Exhausted, Reason, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    weight: int
    future: "asyncio.Future[Answer]"
    traceparent: str


class Gather(Generic[Item, Answer]):
    """Calls `send` with up to `size` items at a time and gives each caller its own answer.

    `send` answers as many values as it was given items, in order; a value that is an Error is raised to its caller
    alone. While a batch is under way the next one fills, so an idle system waits for nothing and a busy one batches.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Error]]],
        *,
        size: int = 256,
        weight: int = 4 << 20,
        in_flight: int = 2,
        waiting: int = 10_000,
        wait_s: float = 0.0,
    ) -> None:
        self._send = send
        self._size = size
        self._weight = weight
        self._limit = waiting
        self._wait_s = wait_s
        self._free = in_flight
        self._queue: list[_Waiting[Item, Answer]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item, *, weight: int = 1, timeout_s: float = 10.0) -> Answer:
        """The answer for one item. Raises Exhausted where the queue is full, Unavailable when `timeout_s` is over."""
        if len(self._queue) >= self._limit:
            raise Exhausted("too many requests are waiting", reason=Reason.QUEUE_FULL, retry_after_s=1.0)
        traceparent = context.current().traceparent
        waiting = _Waiting(item, weight, asyncio.get_running_loop().create_future(), traceparent)
        self._queue.append(waiting)
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting.future
        except TimeoutError:
            raise Unavailable("no answer in time", reason=Reason.DEADLINE_EXCEEDED, retry_after_s=1.0) from None

    async def _drain(self) -> None:
        # One turn of the loop lets requests that arrived together go together.
        await asyncio.sleep(self._wait_s)
        try:
            while batch := self._take():
                await self._answer(batch)
        finally:
            self._free += 1

    def _take(self) -> list[_Waiting[Item, Answer]]:
        batch: list[_Waiting[Item, Answer]] = []
        weight = taken = 0
        for waiting in self._queue:
            if len(batch) >= self._size or (batch and weight + waiting.weight > self._weight):
                break
            taken += 1
            if not waiting.future.done():  # whoever gave up is not asked for
                batch.append(waiting)
                weight += waiting.weight
        del self._queue[:taken]
        return batch

    async def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        try:
            asking = (waiting.traceparent for waiting in batch)
            with tracing.joined(SpanKind.INTERNAL, "gather", {"rapport.gather.size": len(batch)}, asking):
                answers = await self._send([waiting.item for waiting in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} got {len(answers)} answers")
        except Exception as error:  # all of the batch share the failure of its call
            for waiting in batch:
                _fail(waiting.future, error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Error):
                _fail(waiting.future, answer)
            elif not waiting.future.done():
                waiting.future.set_result(answer)


def _fail(future: "asyncio.Future[Answer]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
