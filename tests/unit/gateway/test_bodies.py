"""Bodies and paths of requests, before anybody reads them."""

import gzip
from typing import Any

import pytest
from starlette.requests import Request

from chassis.errors import InvalidArgument, Reason
from services.gateway.api.bodies import read_body, replay
from services.gateway.api.front import tidy
from services.gateway.wire import SLASH

LIMIT = 1000


def request_of(*chunks: bytes, headers: dict[str, str] | None = None, cut_off: bool = False) -> Request:
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if cut_off:
        waiting.append({"type": "http.disconnect"})
    else:
        waiting[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    raw = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


@pytest.mark.parametrize("chunks", [[b""], [b"abc"], [b"a", b"bc"], [b"x" * LIMIT], [b"x" * 600, b"y" * 400]])
async def test_a_body_within_the_limit_is_read_whole(chunks: list[bytes]) -> None:
    assert await read_body(request_of(*chunks), LIMIT) == b"".join(chunks)


PACKED = gzip.compress(b"x" * LIMIT)


@pytest.mark.parametrize("body", [PACKED, gzip.compress(b"x" * 400) + gzip.compress(b"x" * 600)], ids=["one", "two"])
async def test_gzip_is_unpacked_all_its_members(body: bytes) -> None:
    assert await read_body(request_of(body, headers={"content-encoding": "GZIP"}), LIMIT) == b"x" * LIMIT


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (request_of(b"x" * (LIMIT + 1)), Reason.BODY_TOO_LARGE),
        (request_of(b"x" * 600, b"x" * 600), Reason.BODY_TOO_LARGE),
        (request_of(b"x", headers={"content-length": str(LIMIT + 1)}), Reason.BODY_TOO_LARGE),
        (request_of(gzip.compress(bytes(LIMIT + 1)), headers={"content-encoding": "gzip"}), Reason.BODY_TOO_LARGE),
        (request_of(gzip.compress(bytes(600)) * 2, headers={"content-encoding": "gzip"}), Reason.BODY_TOO_LARGE),
        (request_of(PACKED[:-9], headers={"content-encoding": "gzip"}), Reason.MALFORMED_JSON),
        (request_of(PACKED + b"junk", headers={"content-encoding": "gzip"}), Reason.MALFORMED_JSON),
        (request_of(b"junk", headers={"content-encoding": "gzip"}), Reason.MALFORMED_JSON),
        (request_of(b"{}", headers={"content-encoding": "br"}), Reason.UNSUPPORTED_ENCODING),
        (request_of(b"{", cut_off=True), Reason.MALFORMED_JSON),
    ],
)
async def test_any_other_body_is_refused(request_: Request, reason: Reason) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await read_body(request_, LIMIT)
    assert caught.value.reason is reason


async def test_a_body_that_was_read_can_be_read_again() -> None:
    assert await replay(request_of(b"gone"), b"kept").body() == b"kept"


@pytest.mark.parametrize(
    ("path", "raw", "expected"),
    [
        ("/v1/track", b"/v1/track", "/v1/track"),
        ("/v1/track/", b"/v1/track/", "/v1/track"),
        ("/", b"/", "/"),
        ("//", b"//", "/"),
        ("/v1/profiles/user_id:a b", b"/v1/profiles/user_id%3Aa%20b", "/v1/profiles/user_id:a b"),
        ("/v1/profiles/user_id:a/b/score", b"/v1/profiles/user_id%3Aa%2fb/score", f"/v1/profiles/user_id:a{SLASH}b/score"),
    ],
)
def test_a_path_is_put_in_order(path: str, raw: bytes, expected: str) -> None:
    assert tidy({"path": path, "raw_path": raw, "query_string": b""}) == expected


@pytest.mark.parametrize(("raw", "query"), [(b"/v1/profiles/user_id:a%00", b""), (b"/v1/profiles", b"next=%00")])
def test_an_address_with_a_nul_is_refused(raw: bytes, query: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tidy({"path": "/", "raw_path": raw, "query_string": query})
    assert caught.value.reason is Reason.MALFORMED_TEXT
