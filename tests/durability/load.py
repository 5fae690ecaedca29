"""Clients that send batches of numbered events, and repeat a batch with the same ids until each event has its receipt."""

import threading
import time
from collections.abc import Sequence

import httpx

BATCH = 20
PAUSE_S = 0.01
PATIENCE_S = 90.0
DONE = ("accepted", "duplicate")


class Sender(threading.Thread):
    """Sends ever higher numbers, which are its own."""

    def __init__(self, url: str, key: str, index: int) -> None:
        super().__init__(daemon=True)
        self._url, self._key = url, key
        self._first = index * 10_000_000
        self.acknowledged: list[int] = []
        # When the request that was acknowledged last was begun, and when its answer came.
        self.last = (0.0, 0.0)
        self.repeats = 0
        self.trouble = ""
        self.ending = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self.resting = threading.Event()

    def rest(self) -> None:
        """Returns when nothing is under way; `go` ends it."""
        self._going.clear()
        if not self.resting.wait(PATIENCE_S) and not self.trouble:
            self.trouble = "a batch is under way for too long"

    def go(self) -> None:
        self.resting.clear()
        self._going.set()

    def run(self) -> None:
        number = self._first
        with httpx.Client(base_url=self._url, auth=(self._key, ""), timeout=10, trust_env=False) as http:
            while not self.ending.is_set() and not self.trouble:
                if not self._going.is_set():
                    self.resting.set()
                    self._going.wait(0.1)
                    continue
                numbers = range(number, number + BATCH)
                if self._send(http, numbers):
                    self.acknowledged += numbers
                number += BATCH
                time.sleep(PAUSE_S)
        self.resting.set()

    def _send(self, http: httpx.Client, numbers: Sequence[int]) -> bool:
        calls = [
            {"type": "track", "event": "Durable", "userId": f"u{n % 97}", "messageId": f"n{n}", "properties": {"number": n}}
            for n in numbers
        ]
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                answer = http.post("/v1/batch", json={"batch": calls})
                if answer.status_code == 200:
                    return self._taken(answer.json()["receipts"], began)
                if answer.status_code not in (429, 503, 504):
                    self.trouble = f"a batch was answered with {answer.status_code}: {answer.text[:300]}"
                    return False
            except httpx.TransportError:
                pass  # the gateway itself is down
            self.repeats += 1
            time.sleep(0.05)
        self.trouble = "a batch was never answered"
        return False

    def _taken(self, receipts: Sequence[dict[str, str]], began: float) -> bool:
        others = [receipt for receipt in receipts if receipt["status"] not in DONE]
        if others or len(receipts) != BATCH:
            self.trouble = f"a batch has {len(receipts)} receipts, and these among them: {others[:3]}"
            return False
        self.last = (began, time.monotonic())
        return True
