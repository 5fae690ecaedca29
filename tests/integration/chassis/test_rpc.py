"""Real servers and real channels: what must not be forgotten is in the chassis, and works."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from prometheus_client import REGISTRY
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.evaluation.v1.evaluation_pb2_grpc import add_EvaluationServicer_to_server

from chassis import context, rpc
from chassis.errors import TABLE, Denied, Error, Exhausted, InvalidArgument, NotFound, Reason, Unavailable
from infra.ports import free_port
from tests.integration.chassis.logs import World
from tests.integration.chassis.servers import LIST, SERVICE, Place, Weather
from tests.unit.chassis.output import process_output


def raising(error: BaseException) -> Callable[[Any], None]:
    def behave(call: Any) -> None:
        raise error

    return behave


@pytest.mark.parametrize("cls", TABLE)
async def test_an_error_crosses_the_wire_as_itself(place: Place, cls: type[Error]) -> None:
    weather, stub = await place.serving()
    sent = cls(
        "das Feld ist falsch: 天气",
        reason=Reason.TEXT_TOO_LONG,
        field="variants[3].key",
        metadata={"limit": "128"},
        retry_after_s=2.5,
    )
    weather.behave = raising(sent)
    with pytest.raises(Error) as received:
        await stub.PromoteModel(pb.PromoteModelRequest())
    got = received.value
    assert type(got) is cls
    assert (got.message, got.reason, got.field) == (sent.message, sent.reason, sent.field)
    assert (got.metadata, got.retry_after_s) == ({"limit": "128"}, 2.5)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (pb.CreateExperimentRequest(experiment_id="e", hypothesis="a\0b"), "hypothesis"),
        (pb.CreateExperimentRequest(experiment_id="e", variants=[pb.Variant(key="a"), pb.Variant(key="\0")]), "variants"),
    ],
)
async def test_a_text_that_postgresql_cannot_hold_is_a_fault_of_its_caller(
    place: Place, world: World, asked: pb.CreateExperimentRequest, field: str
) -> None:
    weather, stub = await place.serving()
    texts = [asked.hypothesis, *(each.key for each in asked.variants)]

    async def store(call: Any) -> None:
        async with world.database.connection() as connection:
            await connection.execute("SELECT $1::text[]", texts)

    weather.behave = store
    with pytest.raises(InvalidArgument, match="a text holds a NUL byte") as received:
        await stub.CreateExperiment(asked)
    assert (received.value.reason, received.value.field) == (Reason.MALFORMED_TEXT, field)


async def test_a_nul_that_came_from_nobody_is_a_bug_of_ours(place: Place, world: World) -> None:
    weather, stub = await place.serving()

    async def store(call: Any) -> None:
        async with world.database.connection() as connection:
            await connection.execute("SELECT $1::text", "\0")

    weather.behave = store
    with pytest.raises(Error, match="internal error") as received:
        await stub.CreateExperiment(pb.CreateExperimentRequest(experiment_id="e", variants=[pb.Variant(key="a")]))
    assert received.value.reason is Reason.INTERNAL


async def test_an_error_through_two_services_is_still_itself(place: Place) -> None:
    back, back_stub = await place.serving(name="back")
    front, stub = await place.serving(name="front")
    back.behave = raising(NotFound("no such cloud", reason=Reason.UNKNOWN_PROFILE))
    front.behave = lambda call: back_stub.ListExperiments(LIST)
    with pytest.raises(NotFound, match="no such cloud") as received:
        await stub.ListExperiments(LIST)
    assert received.value.reason is Reason.UNKNOWN_PROFILE


async def test_past_what_a_process_can_have_under_way_calls_are_told_to_come_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MOST_UNDER_WAY", 2)
    weather, stub = await place.serving()
    go = asyncio.Event()

    async def wait(call: Any) -> None:
        await go.wait()

    weather.behave = wait
    under_way = [asyncio.ensure_future(cast(Any, stub.ListExperiments(LIST))) for _ in range(5)]
    refused = []
    for done in asyncio.as_completed(under_way[:]):
        try:
            await done
        except Exhausted as error:
            refused.append(error)
        if len(refused) == 3:
            go.set()
    assert {(error.reason, error.retry_after_s) for error in refused} == {(Reason.QUEUE_FULL, 1.0)}
    assert await stub.ListExperiments(LIST)


async def test_an_unknown_error_answers_internal_error_and_its_traceback_goes_to_the_log(place: Place) -> None:
    weather, stub = await place.serving()
    weather.behave = raising(ValueError("the password is swordfish"))
    with process_output() as output:
        with pytest.raises(Error) as received:
            await stub.ListExperiments(LIST)
        lines = output.lines()
    assert type(received.value) is Error
    assert (received.value.message, received.value.reason) == ("internal error", Reason.INTERNAL)
    assert "swordfish" not in str(vars(received.value))
    [failure] = [line for line in lines if line["event"] == "a call failed"]
    assert "ValueError: the password is swordfish" in failure["exception"]
    [call] = [line for line in lines if line["event"] == "call"]
    assert (call["status"], call["reason"], call["route"]) == ("INTERNAL", "INTERNAL", "ListExperiments")
    assert call["request_id"] == failure["request_id"]


async def test_a_bug_behind_is_a_bug_in_front_and_is_told_as_one(place: Place) -> None:
    back, back_stub = await place.serving(name="back")
    _, address = await place.server(front := Weather(), name="front")
    back.behave = raising(ZeroDivisionError())
    front.behave = lambda call: back_stub.ListExperiments(LIST)
    method = place.plain(address).unary_unary(
        f"/{SERVICE}/ListExperiments",
        request_serializer=pb.ListExperimentsRequest.SerializeToString,
        response_deserializer=None,
    )
    with process_output() as output:
        with pytest.raises(grpc.aio.AioRpcError) as received:
            await method(LIST)
        lines = output.lines()
    assert received.value.code() is grpc.StatusCode.INTERNAL
    assert received.value.details() == "internal error"
    assert [line["status"] for line in lines if line["event"] == "call"] == ["INTERNAL", "INTERNAL"]


async def test_nobody_there_is_unavailable_at_once(place: Place) -> None:
    stub = place.stub(f"127.0.0.1:{free_port()}")
    async with asyncio.timeout(3):
        with pytest.raises(Unavailable, match="weather does not answer") as received:
            await stub.PromoteModel(pb.PromoteModelRequest())
    assert received.value.reason is Reason.SERVICE_UNAVAILABLE


async def test_a_process_that_is_slow_to_greet_is_waited_for(place: Place) -> None:
    weather = Weather()
    _, address = await place.server(weather)
    host, port = address.rsplit(":", 1)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(1 << 16):
                writer.write(some)
        writer.close()

    async def greet_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5)
        back, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))

    async with await asyncio.start_server(greet_late, "127.0.0.1", late := free_port()):
        await place.stub(f"127.0.0.1:{late}").PromoteModel(pb.PromoteModelRequest())  # which is not tried again
    assert weather.calls["PromoteModel"] == 1


async def test_an_answer_that_does_not_come_in_time_is_unavailable(place: Place) -> None:
    weather, stub = await place.serving()
    weather.behave = lambda call: asyncio.sleep(5)
    with pytest.raises(Unavailable, match="did not answer in time") as received:
        await stub.ListExperiments(LIST, timeout=0.1)
    assert received.value.reason is Reason.DEADLINE_EXCEEDED


async def test_every_call_has_a_deadline(place: Place) -> None:
    weather, stub = await place.serving()
    left: list[float] = []
    weather.behave = lambda call: left.append(call.time_remaining())
    await stub.ListExperiments(LIST)
    assert 8 < left[0] <= rpc.DEFAULT_TIMEOUT_S + 0.1


async def test_a_deadline_is_passed_on_with_what_is_left(place: Place) -> None:
    back, back_stub = await place.serving(name="back")
    front, stub = await place.serving(name="front")
    left: list[float] = []

    async def ask_later(call: Any) -> None:
        await asyncio.sleep(0.5)
        await back_stub.ListExperiments(LIST, timeout=60)

    front.behave = ask_later
    back.behave = lambda call: left.append(call.time_remaining())
    await stub.ListExperiments(LIST, timeout=3)
    assert 0.5 < left[0] < 2.6


async def test_only_what_may_be_repeated_is_tried_again(place: Place) -> None:
    weather, stub = await place.serving()

    def fail_twice(name: str) -> Callable[[Any], None]:
        def behave(call: Any) -> None:
            if weather.calls[name] <= 2:
                raise Unavailable("one moment")

        return behave

    for name, request in (("ListExperiments", LIST), ("CreateExperiment", pb.CreateExperimentRequest())):
        weather.behave = fail_twice(name)
        await getattr(stub, name)(request)
        assert weather.calls[name] == 3
    weather.behave = fail_twice("PromoteModel")
    with pytest.raises(Unavailable):
        await stub.PromoteModel(pb.PromoteModelRequest())
    assert weather.calls["PromoteModel"] == 1


async def test_a_call_that_may_be_repeated_survives_a_restart_of_its_service(place: Place) -> None:
    weather = Weather()
    server, address = await place.server(weather)
    stub = place.stub(address)
    await stub.ListExperiments(LIST)
    await server.stop(0)

    async def begin_again() -> rpc.Server:
        await asyncio.sleep(0.2)
        again = rpc.Server("weather", "test")
        again.add(add_EvaluationServicer_to_server, weather, pb.DESCRIPTOR)
        await again.start(address)
        return again

    again, _ = await asyncio.gather(begin_again(), stub.ListExperiments(LIST))
    assert weather.calls["ListExperiments"] == 2
    await again.stop(0)


async def test_calls_that_a_leaving_process_had_not_begun_are_tried_elsewhere_or_told_to_come_back(place: Place) -> None:
    staying, leaving = Weather(), Weather()
    _, address = await place.server(staying)
    stub = place.stub(f"ipv4:{address},127.0.0.1:{(port := free_port())}")
    refused, busy, over = list[Error](), asyncio.Event(), asyncio.Event()
    leaving.behave = lambda call: busy.set() if leaving.calls.total() % 100 == 0 else None

    async def ask_for_what_may_be_repeated() -> None:
        while not over.is_set():
            await stub.ListExperiments(LIST)

    async def ask_for_what_may_not() -> None:
        while not over.is_set():
            try:
                await stub.PromoteModel(pb.PromoteModelRequest())
            except Error as error:
                refused.append(error)

    asking = [asyncio.create_task(ask()) for ask in (ask_for_what_may_be_repeated, ask_for_what_may_not) for _ in range(40)]
    for _ in range(20):  # which calls it has not begun is chance
        server = rpc.Server("weather", "test")
        server.add(add_EvaluationServicer_to_server, leaving, pb.DESCRIPTOR)
        await server.start(f"127.0.0.1:{port}")
        busy.clear()
        await busy.wait()
        await server.stop(2)
        if len(refused) > 5:
            break
    over.set()
    await asyncio.gather(*asking)
    assert {(type(error), error.retry_after_s) for error in refused} == {(Unavailable, 1.0)}, refused


async def test_calls_go_by_turns_to_the_processes_that_are_up(place: Place) -> None:
    one, two = Weather(), Weather()
    addresses = [(await place.server(each))[1] for each in (one, two)]
    stub = place.stub("ipv4:" + ",".join([*addresses, f"127.0.0.1:{free_port()}"]))
    for _ in range(40):
        await stub.PromoteModel(pb.PromoteModelRequest())
    assert one.calls["PromoteModel"] + two.calls["PromoteModel"] == 40
    assert min(one.calls["PromoteModel"], two.calls["PromoteModel"]) >= 10


async def test_what_is_wrong_is_not_tried_again(place: Place) -> None:
    weather, stub = await place.serving()
    weather.behave = raising(Denied("no"))
    with pytest.raises(Denied):
        await stub.ListExperiments(LIST)
    assert weather.calls["ListExperiments"] == 1


async def test_tenant_request_id_and_actor_travel_through_services(place: Place) -> None:
    back, back_stub = await place.serving(name="back")
    front, stub = await place.serving(name="front")
    front.behave = lambda call: back_stub.ListExperiments(LIST)
    with context.use(tenant="shop", request_id="r1", actor="key7"):
        await stub.ListExperiments(LIST)
    for call in (front.contexts[0], back.contexts[0]):
        assert (call.tenant, call.request_id, call.actor) == ("shop", "r1", "key7")


async def test_a_call_without_a_request_id_gets_one(place: Place) -> None:
    weather, stub = await place.serving()
    with context.use(tenant="shop", request_id=""):
        await stub.ListExperiments(LIST)
        await stub.ListExperiments(LIST)
    ids = {call.request_id for call in weather.contexts}
    assert len(ids) == 2
    assert all(len(each) == 32 for each in ids)


async def test_a_call_for_nobody_is_refused_where_a_tenant_is_needed(place: Place) -> None:
    weather, stub = await place.serving()
    weather.behave = lambda call: context.tenant() and None
    with context.use(tenant=""), pytest.raises(InvalidArgument) as received:
        await stub.ListExperiments(LIST)
    assert received.value.reason is Reason.MISSING_TENANT


async def test_calls_side_by_side_keep_their_tenants(place: Place) -> None:
    weather, stub = await place.serving()

    async def tell(call: Any) -> pb.ListExperimentsResponse:
        await asyncio.sleep(0.01)
        return pb.ListExperimentsResponse(experiments=[pb.Experiment(experiment_id=context.tenant())])

    async def ask(tenant: str) -> str:
        with context.use(tenant=tenant):
            return (await stub.ListExperiments(LIST)).experiments[0].experiment_id

    weather.behave = tell
    tenants = [f"t{n}" for n in range(50)]
    assert await asyncio.gather(*(asyncio.create_task(ask(each)) for each in tenants)) == tenants


async def test_every_call_is_counted_and_logged_once_by_method_and_code(place: Place) -> None:
    weather, stub = await place.serving(name="counted")

    def count(code: str) -> float:
        labels = {"service": "counted", "version": "test", "method": "PromoteModel", "code": code}
        return REGISTRY.get_sample_value("rapport_rpc_server_requests_total", labels) or 0.0

    with process_output() as output:
        await stub.PromoteModel(pb.PromoteModelRequest())
        weather.behave = raising(NotFound("no"))
        with contextlib.suppress(NotFound):
            await stub.PromoteModel(pb.PromoteModelRequest())
        lines = output.lines()
    assert (count("OK"), count("NOT_FOUND")) == (1, 1)
    assert [(line["status"], line.get("reason")) for line in lines] == [("OK", None), ("NOT_FOUND", "NOT_FOUND")]


async def test_a_caller_that_goes_away_cancels_the_work(place: Place) -> None:
    weather, stub = await place.serving()
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work(call: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    weather.behave = work
    asked = asyncio.ensure_future(stub.PromoteModel(pb.PromoteModelRequest()))
    async with asyncio.timeout(5):
        await begun.wait()
        asked.cancel()
        await cancelled.wait()


async def test_faults_are_made_where_they_are_asked_for(place: Place) -> None:
    _, stub = await place.serving(fault_ratio=1.0)
    with process_output(), pytest.raises(Error) as received:
        await stub.PromoteModel(pb.PromoteModelRequest())
    assert received.value.reason is Reason.INTERNAL


async def test_a_method_that_is_not_there_is_no_answer_of_ours(place: Place) -> None:
    _, address = await place.server(Weather())
    method = place.plain(address).unary_unary(
        f"/{SERVICE}/Forecast", request_serializer=lambda request: b"", response_deserializer=None
    )
    with pytest.raises(grpc.aio.AioRpcError) as received:
        await method(LIST)
    assert received.value.code() is grpc.StatusCode.UNIMPLEMENTED
