"""Traces, from HTTP to the reader of the log, as a collector of OpenTelemetry's receives them."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import pytest
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.log.v1.log_pb2 import Traced
from rapport.profiles.v1.event_pb2 import Event

from chassis import context, tracing
from chassis.errors import NotFound
from chassis.gather import Gather
from chassis.http import Guard
from chassis.log import Position, Record
from infra.ports import free_port
from tests.integration.chassis.logs import World
from tests.integration.chassis.servers import LIST, SERVICE, Place
from tests.integration.collector import Collector
from tests.unit.chassis.output import process_output

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{CALLER}-01"
UNRECORDED = f"00-{TRACE}-{CALLER}-00"
METHOD = f"{SERVICE}/ListExperiments"
SAID = {"http.request.method", "http.route", "http.response.status_code", "error.type"}
SAID |= {"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code", "rapport.gather.size"}
SAID |= {"messaging.operation.type", "messaging.destination.name", "messaging.consumer.group.name"}
SAID |= {"messaging.batch.message_count"}


class Route:
    path = "/things/{thing}"


async def ask(work: Callable[[], Awaitable[Any]], *, traceparent: str = "", path: str = "/things/ada@example.com") -> int:
    """One HTTP request that does `work`, as a task of its own; the status of its answer."""
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        await work()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    headers = [(b"traceparent", traceparent.encode())] if traceparent else []
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await asyncio.create_task(Guard(app, service="front")(scope, receive, send))
    return statuses[0]


async def nothing() -> None:
    pass


async def test_a_request_is_one_trace_from_http_to_the_reader_of_the_log(
    collector: Collector, place: Place, world: World
) -> None:
    weather, stub = await place.serving()
    weather.behave = lambda call: world.write(Event(name="Rain", traceparent=tracing.recorded()).SerializeToString())

    async def send(items: Sequence[str]) -> Sequence[str]:
        await stub.ListExperiments(LIST)
        return items

    async def handle(records: Sequence[Record], position: Position) -> None:
        await world.handle(records, position)
        weather.behave = lambda call: None
        await stub.CreateExperiment(pb.CreateExperimentRequest())

    gather = Gather(send)
    assert await ask(lambda: gather.ask("x"), traceparent=GIVEN) == 200
    await asyncio.create_task(world.reader().step(handle))

    spans = await collector.by_name()
    path = [f"SERVER POST {Route.path}", "INTERNAL gather", f"CLIENT {METHOD}", f"SERVER {METHOD}", "CONSUMER process log"]
    later = [f"CLIENT {SERVICE}/CreateExperiment", f"SERVER {SERVICE}/CreateExperiment"]
    assert set(spans) == {*path, *later}
    assert {span.trace_id for span in spans.values()} == {TRACE}
    assert spans[path[0]].parent_id == CALLER
    for above, below in zip([*path, *later], [*path[1:], *later], strict=False):
        assert spans[below].parent_id == spans[above].span_id, f"{below} is a child of {above}"
    assert spans["CONSUMER process log"].links == {spans[f"SERVER {METHOD}"].span_id}
    assert spans[path[0]].attributes == {
        "http.request.method": "POST",
        "http.route": Route.path,
        "http.response.status_code": 200,
    }
    rpc = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": "ListExperiments", "rpc.grpc.status_code": 0}
    assert spans[f"CLIENT {METHOD}"].attributes == spans[f"SERVER {METHOD}"].attributes == rpc
    assert collector.resource.items() >= {"service.name": "weather", "service.version": "7"}.items()


async def test_what_many_wait_for_links_to_all_of_them(collector: Collector, place: Place) -> None:
    _, stub = await place.serving()

    async def send(items: Sequence[int]) -> Sequence[int]:
        await stub.ListExperiments(LIST)
        return items

    gather = Gather(send)
    await asyncio.gather(*(ask(lambda: gather.ask(1)) for _ in range(40)))
    spans = await collector.all()
    requests = {span.span_id: span for span in spans if span.name.startswith("POST")}
    [gathered] = [span for span in spans if span.name == "gather"]
    assert gathered.attributes == {"rapport.gather.size": 40}
    assert len(gathered.links) == tracing.MOST_LINKS
    assert gathered.links < requests.keys()
    assert gathered.parent_id in gathered.links
    [call] = [span for span in spans if span.kind == "CLIENT"]
    assert (call.parent_id, call.trace_id) == (gathered.span_id, requests[gathered.parent_id].trace_id)


async def test_what_many_wait_for_is_recorded_where_one_of_them_is(collector: Collector) -> None:
    async def send(items: Sequence[int]) -> Sequence[int]:
        return items

    gather = Gather(send)
    unrecorded = [ask(lambda: gather.ask(1), traceparent=UNRECORDED) for _ in range(5)]
    await asyncio.gather(*unrecorded, ask(lambda: gather.ask(1), traceparent=GIVEN))
    assert set(await collector.by_name()) == {"SERVER POST /things/{thing}", "INTERNAL gather"}


async def test_a_batch_of_the_log_links_to_the_calls_that_wrote_it(collector: Collector, world: World) -> None:
    writers = [f"{number:016x}" for number in range(1, 41)]
    written = [Traced(traceparent=f"00-{TRACE}-{writer}-01").SerializeToString() for writer in writers]
    await world.write(b"\xff no message", b"", *written, *written)
    await asyncio.create_task(world.reader().step(world.handle))
    [span] = await collector.all()
    assert (span.trace_id, span.parent_id, span.links) == (TRACE, writers[0], set(writers[: tracing.MOST_LINKS]))
    assert span.attributes["messaging.batch.message_count"] == 82


async def test_a_failure_is_the_servers_where_it_is_one_and_never_its_text(collector: Collector, place: Place) -> None:
    weather, stub = await place.serving()

    async def fail(error: Exception) -> int:
        def behave(call: Any) -> None:
            raise error

        weather.behave = behave
        return await ask(lambda: stub.ListExperiments(LIST))

    assert await fail(NotFound("nobody is called Ada Lovelace")) == 404
    assert await fail(ValueError("the password is swordfish")) == 500
    spans = await collector.all()
    seen = [(span.kind, span.name.split()[0], span.attributes.get("error.type")) for span in spans if span.failed]
    assert sorted(seen) == [
        ("CLIENT", METHOD, "INTERNAL"),
        ("CLIENT", METHOD, "NOT_FOUND"),
        ("SERVER", "POST", "500"),
        ("SERVER", METHOD, "INTERNAL"),
    ]
    assert not [span for span in spans if "Lovelace" in span.text or "swordfish" in span.text]


async def test_a_span_holds_no_id_and_nothing_personal(collector: Collector, place: Place, world: World) -> None:
    _, stub = await place.serving()
    event = Event(event_id=b"order-1", node_id="node-1", properties=b'{"email":"ada@example.com"}')

    async def work() -> None:
        with context.use(tenant="acme", actor="key-1", request_id="request-1"):
            await stub.ListExperiments(LIST)
            event.traceparent = tracing.recorded()
            await world.write(event.SerializeToString())

    await ask(work)
    await asyncio.create_task(world.reader().step(world.handle))
    spans = await collector.all()
    assert len(spans) == 4
    assert {key for span in spans for key in span.attributes} <= SAID
    for secret in ("acme", "key-1", "request-1", "order-1", "node-1", "ada@example.com"):
        assert not [span.name for span in spans if secret in span.text], secret
    assert collector.resource.keys() <= {
        *("service.namespace", "service.name", "service.version", "service.instance.id"),
        *("telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"),
    }


async def test_every_line_of_a_call_has_its_request_and_its_trace(collector: Collector, place: Place, world: World) -> None:
    _, stub = await place.serving()

    async def handle(records: Sequence[Record], position: Position) -> None:
        raise ValueError("a bug in the projector")

    await world.write(Traced(traceparent=GIVEN).SerializeToString())
    with process_output() as output:
        await ask(lambda: stub.ListExperiments(LIST), traceparent=GIVEN)
        following = asyncio.create_task(world.reader().follow(handle))
        until, lines = time.monotonic() + 10, output.lines()
        while len(lines) < 3 and time.monotonic() < until:
            await asyncio.sleep(0.01)
            lines += output.lines()
        following.cancel()
    assert [line["event"] for line in lines] == ["call", "call", "a batch of the log failed and is tried again"]
    assert {line["trace_id"] for line in lines} == {TRACE}
    assert lines[0]["request_id"] == lines[1]["request_id"] != lines[2]["request_id"]
    assert all(len(line["request_id"]) == 32 for line in lines)


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-{CALLER}-01", "é", GIVEN + "-x"])
async def test_a_traceparent_that_is_none_begins_a_trace(collector: Collector, given: str) -> None:
    await ask(nothing, traceparent=given)
    [span] = await collector.all()
    assert (span.parent_id, span.trace_id != TRACE) == ("", True)


async def test_a_caller_who_does_not_record_is_followed_in_that(collector: Collector, place: Place) -> None:
    weather, stub = await place.serving()
    stamps: list[str] = []
    weather.behave = lambda call: stamps.append(tracing.recorded())
    with process_output() as output:
        await ask(lambda: stub.ListExperiments(LIST), traceparent=UNRECORDED)
        assert {line["trace_id"] for line in output.lines()} == {TRACE}, "its lines can still be found"
    assert stamps == [""], "the log keeps nothing that leads nowhere"
    assert await collector.all() == []


async def test_off_means_that_nothing_is_read_passed_on_or_written(place: Place, world: World) -> None:
    weather, stub = await place.serving()
    stamps: list[str] = []
    weather.behave = lambda call: stamps.append(tracing.recorded())
    with process_output() as output:
        await ask(lambda: stub.ListExperiments(LIST), traceparent=GIVEN)
        assert not [line for line in output.lines() if "trace_id" in line]
    assert (stamps, weather.contexts[0].traceparent) == ([""], "")
    await world.write(Traced(traceparent=GIVEN).SerializeToString())
    assert await world.read_all()


def test_without_a_collector_the_sdk_is_not_even_loaded() -> None:
    code = (
        "import sys, services.gateway.main, services.profiles.main; from chassis import tracing; tracing.configure('x', '1');"
        "print(tracing.on(), [name for name in sys.modules if name.split('.')[:2] in (['opentelemetry', 'sdk'], "
        "['opentelemetry', 'exporter'])])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False []\n", done.stderr


async def test_a_lost_collector_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, f"http://127.0.0.1:{free_port()}")
    tracing.configure("weather", "7")
    for _ in range(1_000):
        assert await ask(nothing) == 200
    started = time.monotonic()
    await asyncio.to_thread(tracing.close)
    assert time.monotonic() - started < 8
    assert not tracing.on()


async def test_only_the_share_that_is_asked_for_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    monkeypatch.setenv(tracing.ENDPOINT, f"http://127.0.0.1:{free_port()}")
    recorded = 0

    async def count() -> None:
        nonlocal recorded
        recorded += bool(tracing.recorded())

    tracing.configure("weather", "7")
    try:
        for _ in range(2_000):
            await ask(count)
    finally:
        await asyncio.to_thread(tracing.close)
    assert 350 < recorded < 650
