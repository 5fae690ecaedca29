"""Receipts first: while events are being taken, projecting them waits a little, and never long."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# A projection is at most this much later for it.
PATIENCE_S: Final = 0.5


class Precedence:
    """Both share one processor core: an acknowledgement in time is worth more than a projection in a hurry."""

    def __init__(self) -> None:
        self._taking = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def taking(self) -> Generator[None]:
        """Around a call of Ingest."""
        self._taking += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._taking -= 1
            if not self._taking:
                self._idle.set()

    async def wait(self, age_s: float) -> None:
        """Until no event is being taken, or what is to be projected is PATIENCE_S old; `age_s` is how old it is."""
        if self._taking and age_s < PATIENCE_S:
            try:
                async with asyncio.timeout(PATIENCE_S - age_s):
                    await self._idle.wait()
            except TimeoutError:
                return
