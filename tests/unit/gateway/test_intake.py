"""How large a body will be, and whose it is, before anything else is known of it."""

import pytest
from starlette.requests import Request

from services.gateway.api.bodies import MOST_BYTES
from services.gateway.api.intake import expected_bytes, key_in


def request_of(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw})


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"content_length": "1200"}, 1_200),
        ({"content_length": "0"}, 0),
        ({"content_length": "1200", "content_encoding": "gzip"}, 9_600),
        ({"content_length": "400000", "content_encoding": "gzip"}, MOST_BYTES),
        ({"content_length": "9" * 40}, MOST_BYTES),
        ({"transfer_encoding": "chunked"}, 64 * 1024),
        ({"content_length": "many"}, 64 * 1024),
    ],
)
def test_a_bodys_size_is_told_by_its_headers(headers: dict[str, str], size: int) -> None:
    assert expected_bytes(request_of(**headers)) == size


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"writeKey":"wk_1","batch":[]}', "wk_1"),
        (b'{"userId":"a"}', ""),
        (b'{"writeKey":null}', ""),
        (b'{"writeKey":["wk_1"]}', ""),
        (b'["wk_1"]', ""),
        (b'{"writeKey":"wk_1"', ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b"", ""),
    ],
)
def test_the_key_in_a_body_is_found_or_there_is_none(body: bytes, key: str) -> None:
    assert key_in(body) == key
