"""Servers and stubs of the chassis alone. The contract is borrowed: it has methods of every kind of idempotency."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc.aio
from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.evaluation.v1.evaluation_pb2_grpc import (
    EvaluationServicer,
    EvaluationStub,
    add_EvaluationServicer_to_server,
)

from chassis import context, rpc

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub

SERVICE = "rapport.evaluation.v1.Evaluation"
LIST = pb.ListExperimentsRequest()

# A servicer that leaves methods out is abstract to the type checker; gRPC answers UNIMPLEMENTED for them.
Servicer: Any = EvaluationServicer


class Weather(Servicer):
    """Does what a test gives it: every method runs `behave`."""

    def __init__(self) -> None:
        self.behave: Callable[[Any], Any] = lambda call: None
        self.calls: Counter[str] = Counter()
        self.contexts: list[context.Call] = []

    async def _answer(self, name: str, call: Any, response: Any) -> Any:
        self.calls[name] += 1
        self.contexts.append(context.current())
        result = self.behave(call)
        if asyncio.iscoroutine(result):
            result = await result
        return response if result is None else result

    async def ListExperiments(self, request: Any, call: Any) -> pb.ListExperimentsResponse:
        return await self._answer("ListExperiments", call, pb.ListExperimentsResponse())

    async def CreateExperiment(self, request: Any, call: Any) -> pb.CreateExperimentResponse:
        return await self._answer("CreateExperiment", call, pb.CreateExperimentResponse())

    async def PromoteModel(self, request: Any, call: Any) -> pb.PromoteModelResponse:
        return await self._answer("PromoteModel", call, pb.PromoteModelResponse())


class Place:
    """Opens servers and stubs, closes them at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def server(self, servicer: Weather, *, name: str = "weather", **options: Any) -> tuple[rpc.Server, str]:
        server = rpc.Server(name, "test", **options)
        server.add(add_EvaluationServicer_to_server, servicer, pb.DESCRIPTOR)
        port = await server.start("127.0.0.1:0")
        await server.set_ready(True)
        self._stack.push_async_callback(server.stop, 0)
        return server, f"127.0.0.1:{port}"

    def stub(self, address: str) -> "EvaluationAsyncStub":
        channel = rpc.channel("weather", address, pb.DESCRIPTOR)
        self._stack.push_async_callback(channel.close)
        return EvaluationStub(channel)  # pyright: ignore[reportReturnType]

    def plain(self, address: str) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(address)
        self._stack.push_async_callback(channel.close, None)
        return channel

    async def serving(self, **options: Any) -> tuple[Weather, "EvaluationAsyncStub"]:
        weather = Weather()
        _, address = await self.server(weather, **options)
        return weather, self.stub(address)
