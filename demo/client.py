"""The gateway's public HTTP API, as any customer of the platform calls it."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from demo.source import Call

# The gateway takes batches of 500 KB; its limit of 500 events is ours to keep too.
MAX_BATCH_BYTES: Final = 480 * 1000
MAX_BATCH_CALLS: Final = 500
IN_FLIGHT: Final = 3
ATTEMPTS: Final = 10
MAX_WAIT_S: Final = 30.0
# Of the messages that were not stored, so many are kept; all are counted.
MAX_COMPLAINTS: Final = 1000

_PREFIX: Final = b'{"batch":['
_SUFFIX: Final = b"]}"
_RETRIED: Final = frozenset({429, 502, 503, 504})

_encode: Final = msgspec.json.Encoder().encode


class ClientError(Exception):
    """The gateway said no, or did not answer. The message is for people; `status` is 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a message was not stored."""

    message_id: str
    status: str
    reason: str
    field: str
    message: str


@dataclass(slots=True)
class Fed:
    """What the receipts said. `accepted` and `duplicate` hold message ids; together they are what the platform has."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    accepted: set[str] = field(default_factory=set[str])
    duplicate: set[str] = field(default_factory=set[str])
    complaints: list[Complaint] = field(default_factory=list[Complaint])
    batches: int = 0
    retries: int = 0

    @property
    def stored(self) -> set[str]:
        """The message ids that the platform holds now."""
        return self.accepted | self.duplicate

    def add(self, receipt: dict[str, Any]) -> None:
        """Counts one receipt."""
        status, message_id = str(receipt.get("status", "unknown")), str(receipt.get("messageId", ""))
        self.statuses[status] += 1
        if status == "accepted":
            self.accepted.add(message_id)
        elif status == "duplicate":
            self.duplicate.add(message_id)
        else:
            reason = str(receipt.get("reason") or "")
            self.reasons[reason] += 1
            if len(self.complaints) < MAX_COMPLAINTS:
                text = str(receipt.get("message") or "")
                self.complaints.append(Complaint(message_id, status, reason, str(receipt.get("field") or ""), text))


def batches_of(calls: Iterable[Call]) -> Iterator[tuple[int, bytes]]:
    """Bodies for /v1/batch with their number of calls, in order, each within both limits.

    A call that is over the limit alone goes alone, for the gateway to refuse.
    """
    encoded: list[bytes] = []
    size = 0
    for call in calls:
        line = _encode(call)
        if encoded and (len(encoded) == MAX_BATCH_CALLS or size + len(line) + 1 > MAX_BATCH_BYTES):
            yield len(encoded), _body(encoded)
            encoded, size = [], 0
        encoded.append(line)
        size += len(line) + 1
    if encoded:
        yield len(encoded), _body(encoded)


def _body(encoded: list[bytes]) -> bytes:
    return _PREFIX + b",".join(encoded) + _SUFFIX


class Client:
    """One gateway. `private_key` is for `call`; feeding names its write key. Make it with `connect`."""

    def __init__(self, http: httpx.AsyncClient, private_key: str = "") -> None:
        self._http = http
        self._private_key = private_key

    async def feed(
        self,
        calls: Iterable[Call],
        write_key: str,
        progress: Callable[[int], None] | None = None,
        *,
        compress: bool = False,
    ) -> Fed:
        """Sends all calls in order, a few batches at a time, each until it is answered.

        `progress` gets the number of calls that an answered batch held. Batches may overtake each other: the platform
        goes by the events' own times. Raises ClientError where a batch is refused as a whole, or not answered.
        """
        fed = Fed()
        headers = {"Content-Type": "application/json", **({"Content-Encoding": "gzip"} if compress else {})}
        auth = httpx.BasicAuth(write_key, "")

        async def send(count: int, body: bytes) -> None:
            content = await asyncio.to_thread(gzip.compress, body, 1) if compress else body
            answer = await self._send("POST", "/v1/batch", fed, content=content, headers=headers, auth=auth)
            for receipt in _json(answer).get("receipts", []):
                fed.add(receipt)
            fed.batches += 1
            if progress is not None:
                progress(count)

        await _few_at_a_time(batches_of(calls), send)
        return fed

    async def call(
        self, method: str, path: str, json: Any = None, *, params: dict[str, Any] | None = None, idempotency_key: str = ""
    ) -> Any:
        """One call with the private key; the answer's JSON, None where it is empty. Raises ClientError.

        A POST is repeated after a lost connection only with an idempotency key.
        """
        headers = {"Authorization": f"Bearer {self._private_key}"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        if json is not None:
            headers["Content-Type"] = "application/json"
        content = None if json is None else _encode(json)
        fed = Fed()
        safe = method in {"GET", "PUT", "DELETE"} or bool(idempotency_key)
        answer = await self._send(method, path, fed, safe=safe, content=content, headers=headers, params=params)
        return _json(answer) if answer.content else None

    async def _send(self, method: str, path: str, fed: Fed, *, safe: bool = True, **request: Any) -> httpx.Response:
        """Waits and repeats where the gateway asks for it, at most ATTEMPTS times."""
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                answer = await self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if last or not (safe or isinstance(error, httpx.ConnectError)):
                    raise ClientError(f"{method} {path}: no answer ({type(error).__name__}: {error}).") from error
                wait_s = _backoff_s(attempt)
            else:
                if answer.is_success:
                    return answer
                if last or answer.status_code not in _RETRIED:
                    raise _refused(method, path, answer)
                wait_s = _retry_after_s(answer, attempt)
            fed.retries += 1
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")


@asynccontextmanager
async def connect(
    base_url: str, private_key: str = "", *, timeout_s: float = 60.0, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Client]:
    """A client for `base_url`, closed at the end. Proxies of the environment are not for a gateway on this machine."""
    async with httpx.AsyncClient(base_url=base_url, timeout=timeout_s, transport=transport, trust_env=False) as http:
        yield Client(http, private_key)


async def _few_at_a_time(batches: Iterator[tuple[int, bytes]], send: Callable[[int, bytes], Coroutine[Any, Any, None]]) -> None:
    """Sends IN_FLIGHT batches at a time, started in order. The first failure ends it."""
    running: set[asyncio.Task[None]] = set()
    try:
        for count, body in batches:
            running.add(asyncio.create_task(send(count, body)))
            await asyncio.sleep(0)  # let it leave before the next batch is made
            if len(running) == IN_FLIGHT:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        for task in running:
            await task
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _backoff_s(attempt: int) -> float:
    return min(0.2 * 2**attempt, MAX_WAIT_S)


def _retry_after_s(answer: httpx.Response, attempt: int) -> float:
    try:
        return min(max(float(answer.headers.get("Retry-After", "")), 0.0), MAX_WAIT_S)
    except ValueError:
        return _backoff_s(attempt)


def _refused(method: str, path: str, answer: httpx.Response) -> ClientError:
    """problem+json as one sentence; else the beginning of the answer."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        text = answer.text[:200] or answer.reason_phrase
        return ClientError(f"{method} {path}: {answer.status_code} {text}", status=answer.status_code)
    code = str(problem.get("code") or problem.get("reason") or "")
    request_id = str(problem.get("requestId") or problem.get("request_id") or answer.headers.get("X-Request-Id", ""))
    said = problem.get("detail") or problem.get("title") or ""
    message = f"{method} {path}: {answer.status_code} {code}: {said}" + (f" (request {request_id})" if request_id else "")
    return ClientError(message, status=answer.status_code, code=code, request_id=request_id)


def _json(answer: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(answer.content)
    except msgspec.DecodeError as error:
        raise ClientError(f"{answer.request.method} {answer.request.url.path}: the answer is not JSON.") from error
