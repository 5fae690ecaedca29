"""What every step has at hand: the client, the record, the source, the screen."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from demo.client import Client
from demo.journey.facts import Facts
from demo.journey.record import Record
from demo.source import Call, Source
from infra.failure import Refusal

MODEL: Final = "churn"
PATIENCE_S: Final = 120.0


@dataclass(slots=True)
class Watched:
    """What passes by while a source is fed: who there is, and who bought what when."""

    users: dict[str, None] = field(default_factory=dict[str, None])
    # user -> (time, item) of every product that they ordered
    purchases: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict[str, list[tuple[datetime, str]]])

    def over(self, calls: Iterator[Call]) -> Iterator[Call]:
        """The calls, unchanged."""
        for call in calls:
            self._see(call)
            yield call

    def _see(self, call: Call) -> None:
        if not isinstance(user := call.get("userId"), str):
            return
        self.users[user] = None
        if call.get("event") == "Order Completed":
            when = datetime.fromisoformat(call["timestamp"])
            products = call["properties"].get("products", [])
            self.purchases.setdefault(user, []).extend((when, str(product["product_id"])) for product in products)


@dataclass(slots=True)
class Traveller:
    """One journey under way."""

    facts: Facts
    source: Source
    tenant: str
    client: Client
    write_key: str
    record: Record
    console: Console
    watched: Watched = field(default_factory=Watched)

    @asynccontextmanager
    async def phase(self, name: str, title: str) -> AsyncGenerator[Callable[[int | None, int], None] | None]:
        """Runs a phase under a progress bar and saves the record after it; gives None where it was done before.

        What it gives is called as `advance(total, done)`.
        """
        if name in self.record.phases:
            yield None
            return
        started = time.monotonic()
        with self._progress() as progress:
            bar = progress.add_task(title, total=None)

            def advance(total: int | None, done: int) -> None:
                progress.update(bar, total=total, completed=done)

            yield advance
            task = progress.tasks[0]
            progress.update(bar, total=task.total or 1, completed=task.total or 1)
        self.record.end(name, time.monotonic() - started)

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )

    async def until(self, what: str, ask: Callable[[], Awaitable[Any]], *, patience_s: float = PATIENCE_S) -> Any:
        """Asks until the answer is true. Raises Refusal after `patience_s`."""
        end = time.monotonic() + patience_s
        while not (answer := await ask()):
            if time.monotonic() > end:
                raise Refusal(f"Waited {patience_s:.0f} s for {what}; the logs are in {self.facts.root / 'logs'}.")
            await asyncio.sleep(0.2)
        return answer

    async def fresh(self) -> dict[str, Any]:
        """Waits until everything that was accepted can be read; returns the freshness."""

        async def ask() -> dict[str, Any] | None:
            freshness = await self.client.call("GET", "/v1/freshness")
            return freshness if freshness["lagEvents"] == 0 else None

        return await self.until("the profiles to show every accepted event", ask)

    async def many(self, path: str, refs: Sequence[str], advance: Callable[[int | None, int], None], **body: Any) -> list[Any]:
        """POSTs references in chunks of 250, two at a time; returns the chunks' answers in order."""
        chunks = [list(refs[at : at + 250]) for at in range(0, len(refs), 250)]
        gate, done = asyncio.Semaphore(2), 0

        async def one(chunk: list[str]) -> Any:
            nonlocal done
            async with gate:
                answer = await self.client.call("POST", path, {"refs": chunk, **body})
            done += len(chunk)
            advance(len(refs), done)
            return answer

        return await asyncio.gather(*(one(chunk) for chunk in chunks))

    def user_refs(self) -> list[str]:
        """A reference for each customer with a user id."""
        return [f"user_id:{user}" for user in self.watched.users]


def instant(text: str) -> datetime:
    """A time of the API."""
    return datetime.fromisoformat(text)


def iso(when: datetime) -> str:
    """A time for the API."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
