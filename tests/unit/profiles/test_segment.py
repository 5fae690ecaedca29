"""Bodies as clients send them: a bad event spoils nothing but itself."""

import json

import pytest

from chassis.errors import InvalidArgument, Reason
from services.profiles import segment


@pytest.mark.parametrize(
    ("raw", "reason", "field"),
    [
        (b'{"userId":1.5}', Reason.INVALID_FIELD, "userId"),
        (b'{"userId":["a"]}', Reason.INVALID_FIELD, "userId"),
        (b'{"properties":[1]}', Reason.INVALID_FIELD, "properties"),
        (b'{"event":{"a":1}}', Reason.INVALID_FIELD, "event"),
        (b'{"timestamp":5}', Reason.INVALID_FIELD, "timestamp"),
        (b'{"properties":{"a":1e400}}', Reason.INVALID_FIELD, "properties"),
        (b'{"context":"web"}', Reason.INVALID_FIELD, "context"),
        (b"5", Reason.MALFORMED_JSON, ""),
        (b'{"a":', Reason.MALFORMED_JSON, ""),
        (b"", Reason.MALFORMED_JSON, ""),
        (b'{"traits":{"a":NaN}}', Reason.MALFORMED_JSON, ""),
        (b'{"traits":{"a":"\x00"}}', Reason.MALFORMED_JSON, ""),
        (b'{"traits":{"a":"\\ud800"}}', Reason.MALFORMED_TEXT, ""),
        (b'{"traits":{"\\udc00x":1}}', Reason.MALFORMED_TEXT, ""),
        (b'{"traits":{"a":"\xff"}}', Reason.MALFORMED_TEXT, ""),
        (b'{"properties":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}", Reason.TOO_MANY_PROPERTIES, ""),
        (b'{"properties":{"a":"' + b"x" * 33_000 + b'"}}', Reason.EVENT_TOO_LARGE, ""),
    ],
)
def test_an_event_that_cannot_be_read_is_refused(raw: bytes, reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        segment.decode_call(raw)
    assert (error.value.reason, error.value.field) == (reason, field)


def test_null_and_unknown_fields_change_nothing() -> None:
    call = segment.decode_call(b'{"type":"track","userId":null,"properties":null,"_metadata":{"x":1},"writeKey":"k"}')
    assert call == segment.Call(type="track")


def test_an_event_of_exactly_32_kb_is_taken() -> None:
    raw = json.dumps({"type": "track", "properties": {"a": "x" * 32_700}}).encode()
    raw += b" " * (32 * 1024 - len(raw))
    assert segment.decode_call(raw).type == "track"
    with pytest.raises(InvalidArgument):
        segment.decode_call(raw + b" ")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", Reason.MISSING_FIELD),
        (b'{"batch":5}', Reason.INVALID_FIELD),
        (b'{"batch":[{]}', Reason.MALFORMED_JSON),
        (b"[]", Reason.MALFORMED_JSON),
        (b'{"batch":[' + b"{}," * 2500 + b"{}]}", Reason.BODY_TOO_LARGE),
        (b'{"batch":[]}' + b" " * 512_000, Reason.BODY_TOO_LARGE),
        (b'{"batch":[{"a":"\\ud800"}],"context":3}', Reason.INVALID_FIELD),
        (b'{"batch":[{"a":"\\ud800"}],"context":{"a":"\\ud800"}}', Reason.MALFORMED_TEXT),
        (b'{"batch":[{"a":"\\ud800"},NaN]}', Reason.MALFORMED_JSON),
        (b'{"batch":' + b"[" * 5000, Reason.TOO_MANY_PROPERTIES),
    ],
)
def test_a_batch_that_cannot_be_read_is_refused_as_a_whole(body: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidArgument) as error:
        segment.decode_body("batch", body)
    assert error.value.reason is reason


def test_half_a_surrogate_pair_spoils_its_own_event_only() -> None:
    body = b'{"batch":[{"userId":"1"},{"userId":"\\ud800"},{"userId":"\\ud83d\\ude00"}],"sentAt":"2026-01-01T00:00:00Z"}'
    events, batch = segment.decode_body("batch", body)
    assert events[1] is None
    assert [segment.decode_call(raw).user_id for raw in events if raw is not None] == ["1", "\U0001f600"]
    assert batch is not None
    assert batch.sent_at == "2026-01-01T00:00:00Z"


def test_a_single_call_is_its_own_body() -> None:
    assert segment.decode_body("track", b'{"userId":"1"}') == ([b'{"userId":"1"}'], None)
    with pytest.raises(InvalidArgument):
        segment.decode_body("delete", b"{}")


def test_a_refused_event_still_gets_its_message_id() -> None:
    assert segment.name_of(b'{"messageId":"m","type":"track","userId":[]}') == ("m", "track")
    assert segment.name_of(b'{"messageId":["m"],"type":"x"}') == ("", "")
