"""JSON from internal stores that are not trusted: bounded in time and size, no redirects, and never a traceback of theirs."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from chassis.errors import Reason, Unavailable

MAX_BYTES: Final = 8 << 20

Shape = TypeVar("Shape")


class Rejected(Exception):
    """The store answered, and refused. `code` is its own word for why, as far as it gave one."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status = status
        self.code = code


class _Refusal(msgspec.Struct):
    error_code: str = ""


class JsonStore:
    """One base URL. Raises Unavailable with `reason` where nobody answers in time, or not in a form that can be read."""

    def __init__(self, http: httpx.AsyncClient, *, name: str, reason: Reason, timeout_s: float) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._name = name
        self._reason = reason

    async def ask(
        self,
        method: str,
        path: str,
        shape: type[Shape],
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Shape:
        """The answer, checked against `shape`. Raises Rejected where it is a refusal."""
        try:
            async with (
                asyncio.timeout(self._timeout_s),  # httpx bounds each step, not their sum
                self._http.stream(method, path, params=parameters, json=body) as response,
            ):
                content = await self._read(response)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._unavailable("does not answer") from error
        if response.status_code >= 500:
            raise self._unavailable(f"answers with status {response.status_code}")
        if response.status_code != 200:
            raise Rejected(response.status_code, _code_of(content))
        try:
            return msgspec.json.decode(content, type=shape)
        except msgspec.MsgspecError as error:
            raise self._unavailable("answers in a form that cannot be read") from error

    async def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                raise self._unavailable(f"answers with more than {MAX_BYTES >> 20} MB")
        return bytes(content)

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"{self._name} {what}", reason=self._reason, retry_after_s=5.0)


def neighbour(url: str) -> httpx.AsyncClient:
    """A client for `url`, without the environment's proxies."""
    return httpx.AsyncClient(base_url=url, timeout=5.0, follow_redirects=False, trust_env=False)


def _code_of(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Refusal).error_code[:64]
    except msgspec.MsgspecError:
        return ""
