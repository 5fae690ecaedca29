"""A collector of traces: OTLP over gRPC, as OpenTelemetry's contract has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Told

from chassis import tracing

Servicer: Any = trace_service_pb2_grpc.TraceServiceServicer


@dataclass(frozen=True)
class Span:
    """One that arrived, in words that a test compares."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: frozenset[str]
    attributes: dict[str, str | int]
    failed: bool
    text: str


class Collector(Servicer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self._requests: list[pb.ExportTraceServiceRequest] = []

    async def Export(self, request: pb.ExportTraceServiceRequest, call: Any) -> pb.ExportTraceServiceResponse:
        self._requests.append(request)
        return pb.ExportTraceServiceResponse()

    async def all(self) -> list[Span]:
        """What was told until now; there are no more traces after it."""
        await asyncio.to_thread(tracing.close)
        scopes = [scope for request in self._requests for part in request.resource_spans for scope in part.scope_spans]
        return [_read(span) for scope in scopes for span in scope.spans]

    async def by_name(self, trace_id: str = "") -> dict[str, Span]:
        """The same, or those of one trace, where no two are of one kind and name."""
        spans = [span for span in await self.all() if trace_id in ("", span.trace_id)]
        found = {f"{span.kind} {span.name}": span for span in spans}
        assert len(found) == len(spans)
        return found

    @property
    def resource(self) -> dict[str, str]:
        [attributes] = {
            tuple(sorted((each.key, each.value.string_value) for each in part.resource.attributes))
            for request in self._requests
            for part in request.resource_spans
        }
        return dict(attributes)


def _read(span: Told) -> Span:
    values = {each.key: each.value for each in span.attributes}
    return Span(
        name=span.name,
        kind=Told.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=frozenset(link.span_id.hex() for link in span.links),
        attributes={
            key: value.int_value if value.HasField("int_value") else value.string_value for key, value in values.items()
        },
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        text=str(span),
    )


@asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Traces are on while inside, and go to a collector."""
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv(tracing.ENDPOINT, f"http://127.0.0.1:{port}")
    tracing.configure("weather", "7")
    try:
        yield collector
    finally:
        await asyncio.to_thread(tracing.close)
        await server.stop(None)
