"""Long work on the loop that others share."""

import asyncio
import time


class Turn:
    """Lets others have theirs each `longest_s`."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._until = time.monotonic() + longest_s

    async def give_way(self) -> None:
        """To be called between one piece and the next."""
        if time.monotonic() > self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + self._longest_s
