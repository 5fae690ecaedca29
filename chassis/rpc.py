# pyright: basic
# (grpc's stubs are partial: aio's health servicer, metadata and callables are unknown to them)
"""gRPC with what must not be forgotten: tenant, request id, deadline, errors as themselves, metrics, one log line."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast

import asyncpg
import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from chassis import context, telemetry, tracing
from chassis.errors import (
    INTERNAL_MESSAGE,
    Error,
    Exhausted,
    InvalidArgument,
    Reason,
    Unavailable,
    error_class_of,
    status_of,
)
from chassis.listening import listening

DOMAIN: Final = "rapport"
DEFAULT_TIMEOUT_S: Final = 10.0
# Where no reason of ours comes with them. A server that stops answers CANCELLED to calls that have reached it and that it has
# not begun (grpc/grpc issue 41785); whoever gives up a call itself never sees a status.
_NOBODY_ANSWERED: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
MAX_MESSAGE_BYTES: Final = 32 << 20
# Of one process, health apart; who comes later is told to come back. What waits for the database is bounded by it too.
MOST_UNDER_WAY: Final = 512
# The name under which grpc.health.v1 tells whether the process lives, ready or not.
LIVE: Final = "live"
_DETAILS_KEY: Final = "grpc-status-details-bin"
# What fails a server's span; the other codes are what its caller did.
_SERVERS_FAULT: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)

_COMMON_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
_SERVER_OPTIONS: Final = [
    *_COMMON_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.max_connection_age_grace_ms", 20_000),
]
_CHANNEL_OPTIONS: Final = [
    *_COMMON_OPTIONS,
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # So long a new connection may take (gRPC names it for what else it bounds). They end every few seconds, and a process that
    # gets little of its processor's time, as while many start beside it, greets late; it was taken for dead.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 1),
]


class Server:
    """A gRPC server with health and reflection. `add` services, `start`, set `ready`, `stop`.

    Connections end after `connection_age_s` (0: never), their calls in peace: callers then look the name up again, and new
    replicas get their share.
    """

    def __init__(self, service: str, version: str, *, fault_ratio: float = 0.0, connection_age_s: float = 60.0) -> None:
        self._guard = _Guard(service, version, fault_ratio)
        age = [("grpc.max_connection_age_ms", round(connection_age_s * 1e3))] if connection_age_s else []
        self._server = grpc.aio.server(interceptors=[self._guard], options=[*_SERVER_OPTIONS, *age])
        self._health = cast(Any, health).aio.HealthServicer()
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add(self, register: Callable[[Any, Any], None], servicer: Any, contract: FileDescriptor) -> None:
        """Adds one servicer: `add(add_ScoringServicer_to_server, ScoringRpc(...), scoring_pb2.DESCRIPTOR)`."""
        register(servicer, self._server)
        self._names.extend(service.full_name for service in contract.services_by_name.values())

    async def start(self, listen: str) -> int:
        """Listens on `host:port`; returns the port (port 0 takes a free one). Raises CannotStart."""
        reflection.enable_server_reflection(self._names, self._server)
        await self._health.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(False)
        with listening(listen, "gRPC"):
            port = self._server.add_insecure_port(listen)
        await self._server.start()
        return port

    async def set_ready(self, ready: bool) -> None:
        """What grpc.health.v1 answers from now on, for the process and for each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ["", *self._names]:
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, lets those in flight end."""
        await self._server.stop(grace_s)


class _Guard(grpc.aio.ServerInterceptor):
    """Wraps every unary handler of ours once, and keeps the wrapped one."""

    def __init__(self, service: str, version: str, fault_ratio: float) -> None:
        self._service = service
        self._version = version
        self._fault_ratio = fault_ratio
        self._under_way = 0
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method
        if found := self._handlers.get(method):
            return found
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or method.startswith("/grpc."):
            return handler
        wrapped = grpc.unary_unary_rpc_method_handler(
            self._guarded(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        self._handlers[method] = wrapped
        return wrapped

    def _guarded(self, method: str, behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        name, traced = method.rsplit("/", 1)[1], _attributes(method)
        seconds = telemetry.SERVER_SECONDS.labels(self._service, self._version, name)

        async def answer(request: Any, call: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            context.enter(_call_of(call))
            span = tracing.enter(SpanKind.SERVER, method[1:], traced)
            code, failure = grpc.StatusCode.OK, Error(INTERNAL_MESSAGE)
            self._under_way += 1
            try:
                if self._under_way > MOST_UNDER_WAY:
                    raise Exhausted("too many calls are under way", reason=Reason.QUEUE_FULL, retry_after_s=1.0)
                if self._fault_ratio and random.random() < self._fault_ratio:
                    raise RuntimeError("a fault was asked for by fault_ratio")
                return await behaviour(request, call)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                if told := _told(error, request):
                    code, failure = status_of(told).grpc, told
                else:  # a bug of ours, or one behind us that came as a bare Error
                    code = grpc.StatusCode.INTERNAL
                    telemetry.logger().error("a call failed", route=name, exc_info=True)
            finally:
                self._under_way -= 1
                elapsed = time.perf_counter() - started
                seconds.observe(elapsed)
                telemetry.SERVER_CALLS.labels(self._service, self._version, name, code.name).inc()
                telemetry.log_call(name, code.name, elapsed, None if code is grpc.StatusCode.OK else failure.reason.name)
                if span is not None:
                    _end(span, code, failed=code in _SERVERS_FAULT)
            return await call.abort(code, failure.message, ((_DETAILS_KEY, _encoded(failure, code)),))

        return answer


def _call_of(call: grpc.aio.ServicerContext[Any, Any]) -> context.Call:
    metadata = {key: value for key, value in cast(Any, call.invocation_metadata() or ()) if isinstance(value, str)}
    remaining_s = call.time_remaining()
    return context.Call(
        tenant=metadata.get(context.TENANT_KEY, ""),
        request_id=metadata.get(context.REQUEST_ID_KEY) or context.new_request_id(),
        actor=metadata.get(context.ACTOR_KEY, ""),
        deadline=time.monotonic() + remaining_s if remaining_s is not None else None,
        traceparent=metadata.get(tracing.TRACEPARENT, "") if tracing.on() else "",
    )


def _told(error: Exception, request: Message) -> Error | None:
    """What its caller hears of it; None where it is no fault of the caller's."""
    if isinstance(error, Error):
        return error if type(error) is not Error else None
    if isinstance(error, asyncpg.CharacterNotInRepertoireError):  # every text may hold a NUL but PostgreSQL's
        for field, value in request.ListFields():
            if _holds_nul(value):
                reason = Reason.MALFORMED_TEXT
                return InvalidArgument("a text holds a NUL byte, which cannot be stored", reason=reason, field=field.name)
    return None


def _holds_nul(value: object) -> bool:
    """Whether any text of a field's value does, at any depth."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Message):
        return any(_holds_nul(each) for _, each in value.ListFields())
    if isinstance(value, Mapping):
        return any(_holds_nul(key) or _holds_nul(each) for key, each in value.items())
    return isinstance(value, Sequence) and not isinstance(value, bytes) and any(_holds_nul(each) for each in value)


def _attributes(method: str) -> Mapping[str, str]:
    """What spans say of "/package.Service/Method"."""
    service, name = method[1:].rsplit("/", 1)
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _end(span: tracing.Span, code: grpc.StatusCode, *, failed: bool) -> None:
    span.end({"rpc.grpc.status_code": cast(Any, code.value)[0]}, error=code.name if failed else "")


def _encoded(error: Error, code: grpc.StatusCode) -> bytes:
    number: int = cast(Any, code.value)[0]
    status = status_pb2.Status(code=number, message=error.message)
    metadata = dict(error.metadata)
    if error.field:
        metadata["field"] = error.field
    if error.retry_after_s is not None:
        metadata["retry_after_s"] = str(error.retry_after_s)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=metadata))
    return status.SerializeToString()


def _decoded(error: grpc.aio.AioRpcError, target: str) -> Error:
    cls = error_class_of(error.code())
    info = error_details_pb2.ErrorInfo()
    for key, value in cast(Any, error.trailing_metadata() or ()):
        if key == _DETAILS_KEY:
            details = status_pb2.Status.FromString(cast(bytes, value)).details
            if details:
                details[0].Unpack(info)
    if not info.reason:  # gRPC's own: nobody answered, or not in time
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"{target} did not answer in time", reason=Reason.DEADLINE_EXCEEDED, retry_after_s=1.0)
        if error.code() in _NOBODY_ANSWERED:
            return Unavailable(f"{target} does not answer", retry_after_s=1.0)
        telemetry.logger().error("a call came back with no reason of ours", target=target, code=error.code().name)
        return Error(INTERNAL_MESSAGE)
    metadata = dict(info.metadata)
    retry_after = metadata.pop("retry_after_s", None)
    return (cls or Error)(
        error.details() or INTERNAL_MESSAGE,
        reason=Reason[info.reason] if info.reason in Reason.__members__ else Reason.INTERNAL,
        field=metadata.pop("field", ""),
        metadata=metadata,
        retry_after_s=float(retry_after) if retry_after else None,
    )


class Channel:
    """What a stub needs of a channel. Adds the call's metadata and what is left of its deadline; raises our errors.

    Not interceptors: grpc.aio's cost more than the call itself.
    """

    def __init__(self, name: str, channel: grpc.aio.Channel) -> None:
        self._name = name
        self._channel = channel

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        """The callable that a generated stub keeps for one method."""
        invoke = self._channel.unary_unary(method, *args, **kwargs)
        name, traced = method.rsplit("/", 1)[1], _attributes(method)

        async def call(request: Any, *, timeout: float | None = None) -> Any:
            present = context.current()
            span, code = tracing.begin(SpanKind.CLIENT, method[1:], traced), grpc.StatusCode.CANCELLED
            try:
                answer = await invoke(request, timeout=_left_s(present, timeout), metadata=_metadata(present, span))
                code = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                code = error.code()
                telemetry.CLIENT_CALLS.labels(self._name, name, code.name).inc()
                raise _decoded(error, self._name) from None
            finally:
                if span is not None:
                    _end(span, code, failed=code is not grpc.StatusCode.OK)
            telemetry.CLIENT_CALLS.labels(self._name, name, "OK").inc()
            return answer

        return call

    async def close(self) -> None:
        """Ends the connections."""
        await self._channel.close(None)


def _left_s(call: context.Call, timeout: float | None) -> float:
    wanted_s = timeout or DEFAULT_TIMEOUT_S
    return wanted_s if call.deadline is None else max(0.001, min(wanted_s, call.deadline - time.monotonic()))


def _metadata(call: context.Call, span: tracing.Span | None) -> tuple[tuple[str, str], ...]:
    known = (
        (context.TENANT_KEY, call.tenant),
        (context.REQUEST_ID_KEY, call.request_id or context.new_request_id()),
        (context.ACTOR_KEY, call.actor),
    )
    return known if span is None else (*known, (tracing.TRACEPARENT, span.traceparent))


def channel(name: str, target: str, *contracts: FileDescriptor) -> Any:
    """A channel to the service `name`, for all of its contracts. Typed Any, since a stub's own parameter is grpc's class.

    `target`: "host:port", "dns:///name:port" or "ipv4:host:port,host:port". Calls that a contract marks as
    idempotent are tried again while nobody answers.
    """
    options = [*_CHANNEL_OPTIONS, ("grpc.service_config", json.dumps(_service_config(contracts)))]
    return Channel(name, grpc.aio.insecure_channel(target, options=options))


def _service_config(contracts: Sequence[FileDescriptor]) -> Mapping[str, Any]:
    services = [service for contract in contracts for service in contract.services_by_name.values()]
    methods = [method for service in services for method in service.methods if _repeatable(method)]
    names: Sequence[Mapping[str, str]] = [
        {"service": method.containing_service.full_name, "method": method.name} for method in methods
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [code.name for code in _NOBODY_ANSWERED],
    }
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": names, "retryPolicy": policy}] if names else [],
    }


def _repeatable(method: MethodDescriptor) -> bool:
    return method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
