"""The outermost layer of HTTP: request ids, problems, one line in the log."""

import json
from typing import Any

import pytest

from chassis import context
from chassis.errors import (
    TABLE,
    Conflict,
    Denied,
    Error,
    Exhausted,
    InvalidArgument,
    NotFound,
    Reason,
    Unauthenticated,
    Unavailable,
)
from chassis.http import Guard, problem


def scope(path: str = "/things/secret", headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": headers or []}


class Route:
    path = "/things/{thing}"


class Exchange:
    """What an app answered."""

    def __init__(self, messages: list[Any]) -> None:
        start, *rest = messages
        self.status: int = start["status"]
        self.headers = {key.decode(): value.decode() for key, value in start["headers"]}
        self.body = b"".join(message.get("body", b"") for message in rest)

    def json(self) -> Any:
        return json.loads(self.body)


async def exchange(app: Any, asked: dict[str, Any]) -> Exchange:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await Guard(app, service="tested")(asked, receive, send)
    return Exchange(sent)


async def answering(scope: Any, receive: Any, send: Any) -> None:
    scope["route"] = Route()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": context.current().request_id.encode()})


def raising(failure: Exception) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        raise failure

    return app


async def test_an_answer_carries_the_request_id_that_the_context_has() -> None:
    answer = await exchange(answering, scope())
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.body.decode() == answer.headers["x-request-id"]


@pytest.mark.parametrize("given", ["order-7", "0" * 64])
async def test_a_request_id_of_the_callers_own_is_kept(given: str) -> None:
    answer = await exchange(answering, scope(headers=[(b"x-request-id", given.encode())]))
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [b"0" * 65, b"a b", b"ada@example.com", b"a\nb", b'"}', "é".encode("latin-1"), b"", b"--"])
async def test_a_request_id_that_a_log_should_not_hold_is_replaced(given: bytes) -> None:
    answer = await exchange(answering, scope(headers=[(b"x-request-id", given)]))
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidArgument("wrong"), 400, {}),
        (InvalidArgument("big", reason=Reason.BODY_TOO_LARGE), 413, {}),
        (InvalidArgument("br", reason=Reason.UNSUPPORTED_ENCODING), 415, {}),
        (InvalidArgument("PUT", reason=Reason.METHOD_NOT_ALLOWED), 405, {}),
        (Unauthenticated("who"), 401, {"www-authenticate": 'Basic realm="rapport", Bearer'}),
        (Denied("no"), 403, {}),
        (NotFound("gone"), 404, {}),
        (Conflict("twice"), 409, {}),
        (Exhausted("fast", retry_after_s=2.6), 429, {"retry-after": "3"}),
        (Unavailable("down"), 503, {"retry-after": "1"}),
        (Unavailable("down", retry_after_s=0.1), 503, {"retry-after": "1"}),
    ],
)
async def test_an_error_is_answered_as_a_problem(error: Error, status: int, headers: dict[str, str]) -> None:
    answer = await exchange(raising(error), scope())
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.items() >= headers.items()
    assert ("retry-after" in answer.headers) == ("retry-after" in headers)
    assert answer.json() == {
        "type": f"urn:rapport:error:{error.reason.name}",
        "title": TABLE[type(error)].title,
        "status": status,
        "code": error.reason.name,
        "detail": error.message,
        "requestId": answer.headers["x-request-id"],
    }


def test_a_field_is_named_where_there_is_one() -> None:
    assert json.loads(problem(InvalidArgument("wrong", field="refs.3"))[2])["field"] == "refs.3"


async def test_a_bug_says_nothing_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    answer = await exchange(raising(RuntimeError("password=hunter2")), scope())
    assert (answer.status, answer.json()["code"], answer.json()["detail"]) == (500, "INTERNAL", "internal error")
    assert "hunter2" not in answer.body.decode()
    assert "hunter2" in capsys.readouterr().out  # its traceback is for us


async def test_an_error_after_the_answer_began_does_not_begin_another() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(scope, receive, send)
        raise NotFound("too late")

    answer = await exchange(app, scope())
    assert answer.status == 200


async def test_the_log_has_the_template_of_the_route_and_never_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    await exchange(answering, scope())
    line = json.loads(capsys.readouterr().out)
    assert (line["route"], line["status"], line["service"]) == ("GET /things/{thing}", 200, "tested")
    assert "secret" not in json.dumps(line)


async def test_a_path_that_nobody_knows_is_not_logged_either(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotFound("there is no such path")

    await exchange(app, scope())
    assert json.loads(capsys.readouterr().out)["route"] == "GET unknown"


async def test_what_is_not_http_passes() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Guard(app, service="tested")({"type": "lifespan"}, None, None)  # pyright: ignore[reportArgumentType]
    assert seen == ["lifespan"]
