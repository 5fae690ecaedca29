"""Steady traffic that tells the truth: nothing is tried again, and a broken connection is a failure.

Half of the callers keep their connection as long as it is kept for them, half open one for each request. Each sends events that
it numbers, so that afterwards what was accepted can be compared with what is stored.
"""

import base64
import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

CALLERS: Final = 8
TIMEOUT_S: Final = 10.0
BATCH: Final = 5
EVENT: Final = "Load Test"
# A read of each service; the last ones need somebody to ask about.
READS: Final = ("/v1/freshness", "/v1/segments", "/v1/surveys", "/v1/experiments")
READS_OF_SOMEBODY: Final = (*READS, "/v1/profiles/{ref}/recommendations", "/v1/profiles/{ref}/portrait")


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one tenant."""

    write: str
    private: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `status` 0: there was no answer; `detail` says why."""

    phase: str
    kind: str
    kept: bool
    status: int
    seconds: float
    ended: float
    retry_after: bool
    detail: str

    @property
    def failed(self) -> bool:
        return self.status != 200


@dataclass(slots=True)
class Sent:
    """The numbers of a user's events: accepted ones, and those of which nobody knows."""

    accepted: set[int] = field(default_factory=set[int])
    unknown: set[int] = field(default_factory=set[int])


class Load:
    """`with Load(...) as load: ...; with load.phase("restarts"): ...`"""

    def __init__(self, host: str, port: int, keys: Keys, refs: Sequence[str], *, rate: float, name: str) -> None:
        """`refs`: whom to score; nobody where there is no model yet. `rate`: requests a second."""
        self._address = (host, port)
        self._keys = keys
        self._refs = refs
        self._pause_s = CALLERS / rate
        self._phase = "warm-up"
        self._ending = threading.Event()
        self._name = name
        self.calls: list[Call] = []
        self.sent: dict[str, Sent] = {}
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 5)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is sent inside counts for this phase, and goes on a little after it."""
        self._phase = name
        yield
        time.sleep(2.0)
        self._phase = f"after {name}"

    def of(self, *phases: str) -> list[Call]:
        """The calls of these phases and of the time after each."""
        names = {*phases, *(f"after {phase}" for phase in phases)}
        return [call for call in self.calls if call.phase in names]

    def table(self) -> str:
        """A line for each phase: requests, failures, latencies in milliseconds."""
        found: defaultdict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.phase.removeprefix("after ")].append(call)
        lines = [f"{'phase':<18} {'requests':>9} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8} {'worst ms':>9}"]
        for phase, calls in found.items():
            ms = sorted(call.seconds * 1e3 for call in calls)
            failed = sum(call.failed for call in calls)
            p99 = ms[int(len(ms) * 0.99)]
            lines.append(f"{phase:<18} {len(calls):>9,} {failed:>7,} {ms[len(ms) // 2]:>8.1f} {p99:>8.1f} {ms[-1]:>9.1f}")
        return "\n".join(lines)

    def _work(self, number: int) -> None:
        caller = _Caller(self._address, self._keys, f"{self._name}-{number}", kept=number % 2 == 0)
        sent = self.sent[caller.user] = Sent()
        due, count = time.monotonic() + self._pause_s * number / CALLERS, 0
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause_s, time.monotonic() - self._pause_s)
            count += 1
            phase = self._phase
            match count % 4:
                case 0 if self._refs:
                    self.calls.append(caller.score(phase, self._somebody(count * CALLERS + number)))
                case 1:
                    self.calls.append(caller.send(phase, sent, 1))
                case 2:
                    self.calls.append(caller.send(phase, sent, BATCH))
                case _:
                    reads = READS_OF_SOMEBODY if self._refs else READS
                    path = reads[(count // 4 + number) % len(reads)]
                    self.calls.append(caller.read(phase, path, self._somebody(count + number) if self._refs else ""))
        caller.close()

    def _somebody(self, number: int) -> str:
        return self._refs[number % len(self._refs)]


class _Caller:
    """One client with at most one connection."""

    def __init__(self, address: tuple[str, int], keys: Keys, user: str, *, kept: bool) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
        self._keys = keys
        self._kept = kept
        self._number = 0
        self.user = user

    def score(self, phase: str, ref: str) -> Call:
        return self._ask(phase, "score", "POST", f"/v1/profiles/{ref}/score", {}, self._private)[0]

    def read(self, phase: str, path: str, ref: str) -> Call:
        return self._ask(phase, f"GET {path}", "GET", path.format(ref=ref), None, self._private)[0]

    @property
    def _private(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys.private}", "Content-Type": "application/json"}

    def send(self, phase: str, sent: Sent, count: int) -> Call:
        """So many numbered events in one request."""
        numbers = range(self._number + 1, self._number + count + 1)
        self._number += count
        calls = [
            {"type": "track", "userId": self.user, "event": EVENT, "messageId": f"{self.user}-{n}", "properties": {"number": n}}
            for n in numbers
        ]
        path, body = ("/v1/track", calls[0]) if count == 1 else ("/v1/batch", {"batch": calls})
        token = base64.b64encode(f"{self._keys.write}:".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        call, answer = self._ask(phase, "track" if count == 1 else "batch", "POST", path, body, headers)
        receipts = answer.get("receipts", [])
        for n, receipt in zip(numbers, receipts, strict=False):
            (sent.accepted if receipt["status"] in ("accepted", "duplicate") else sent.unknown).add(n)
        sent.unknown.update(list(numbers)[len(receipts) :])
        return call

    def _ask(
        self, phase: str, kind: str, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[Call, dict[str, Any]]:
        started = time.perf_counter()
        status, answer, retry_after, detail = 0, dict[str, Any](), False, ""
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            text = response.read()
            status, retry_after = response.status, response.getheader("Retry-After") is not None
            if status == 200:
                answer = json.loads(text)
            else:
                detail = text.decode(errors="replace")[:300]
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            detail = f"{type(error).__name__}: {error}"
        if not self._kept:
            self._connection.close()
        seconds = time.perf_counter() - started
        return Call(phase, kind, self._kept, status, seconds, time.monotonic(), retry_after, detail), answer

    def close(self) -> None:
        self._connection.close()


def why(calls: Sequence[Call]) -> str:
    """The failures, counted by what they were."""
    kinds = Counter(f"{call.phase}: {call.kind} {call.status} {call.detail[:160]}" for call in calls if call.failed)
    return "\n".join(f"{count} x {kind}" for kind, count in kinds.most_common(12))
