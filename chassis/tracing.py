"""Traces in W3C's trace context, sent by OTLP where a collector is named. Where none is, the SDK is not even loaded.

The present span travels as text, in `context.Call.traceparent`: into log lines, into the metadata of calls, into the log.
What a span says comes from closed sets (route templates, methods, codes), as in metrics: never an id, never a person's data,
never the text of an error.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis import context

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT: Final = "traceparent"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
# (environment variable, default, meaning), for docs/SETTINGS.md. OpenTelemetry's SDK reads the others of its own too.
VARIABLES: Final = (
    (ENDPOINT, "", "Collector of traces, OTLP over gRPC, as http://host:4317 (https:// with TLS); empty: no traces."),
    (
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "Which requests are traced; parentbased_traceidratio for a share of them.",
    ),
    ("OTEL_TRACES_SAMPLER_ARG", "1.0", "That share, from 0 to 1. A caller's own decision, in `traceparent`, goes before it."),
    ("OTEL_RESOURCE_ATTRIBUTES", "", "What else to say of the process, as k8s.pod.name=x,k8s.namespace.name=y."),
)
MOST_LINKS: Final = 32
_CLOSE_S: Final = 3.0

Attributes = Mapping[str, str | int]

_propagator: Final = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_exporting: "tuple[TracerProvider, OTLPSpanExporter] | None" = None


def configure(service: str, version: str) -> None:
    """Begins to trace, once, where the environment names a collector."""
    global _tracer, _exporting
    if _tracer is not None or not os.environ.get(ENDPOINT):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.namespace": "rapport", "service.name": service, "service.version": version})
    # Not made the process's provider: what the libraries would say of a request, its path for one, is not ours to send.
    provider, exporter = TracerProvider(resource=resource, shutdown_on_exit=False), OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _exporting = provider, exporter
    _tracer = provider.get_tracer("rapport", version)


def close() -> None:
    """Sends what is left; gives up after some seconds, so that a lost collector holds up no end. Blocks."""
    global _tracer, _exporting
    if _exporting is None:
        return
    provider, exporter = _exporting
    _tracer = _exporting = None
    sending = threading.Thread(target=provider.shutdown, daemon=True)
    sending.start()
    sending.join(_CLOSE_S)
    if sending.is_alive():
        exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]


def on() -> bool:
    """Whether there are traces."""
    return _tracer is not None


class Span:
    """One that has begun. `end` it, or use it in a `with`, where it is the present one, for the rest of the task."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        its = span.get_span_context()
        self.traceparent = f"00-{its.trace_id:032x}-{its.span_id:016x}-{its.trace_flags:02x}"

    def end(self, attributes: Attributes | None = None, *, error: str = "", name: str = "") -> None:
        """`error`: of what kind, where it failed. `name`: where it is known only now."""
        if self._span.is_recording():
            if name:
                self._span.update_name(name)
            self._span.set_attributes(attributes or {})
            if error:
                self._span.set_attribute("error.type", error)
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def __enter__(self) -> Self:
        context.enter(replace(context.current(), traceparent=self.traceparent))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.end(error=kind.__name__ if kind else "")


def begin(kind: SpanKind, name: str, attributes: Attributes | None = None) -> Span | None:
    """A span below the present one; None where there are no traces."""
    if _tracer is None:
        return None
    return Span(_tracer.start_span(name, _below(context.current().traceparent), kind, attributes))


def enter(kind: SpanKind, name: str, attributes: Attributes | None = None) -> Span | None:
    """As `begin`, and it is the present one for the rest of the task."""
    span = begin(kind, name, attributes)
    return span and span.__enter__()


def joined(kind: SpanKind, name: str, attributes: Attributes, asking: Iterable[str]) -> AbstractContextManager[object]:
    """One span, for a `with` around what many have asked for, `asking` being their spans: it links to them.

    It is a child of the first of them that is recorded, so that it is recorded where one of them is.
    """
    if _tracer is None:
        return nullcontext()
    spans = {each: _context_of(each) for each in dict.fromkeys(asking) if each}
    recorded = [each for each, its in spans.items() if its.trace_flags.sampled][:MOST_LINKS]
    parent = next(iter(recorded or spans), "")
    return Span(_tracer.start_span(name, _below(parent), kind, attributes, [Link(spans[each]) for each in recorded]))


def recorded() -> str:
    """The present span, for what is to be found by it later; empty where it is not recorded."""
    present = context.current().traceparent
    return present if _tracer is not None and present and _context_of(present).trace_flags.sampled else ""


def _below(traceparent: str) -> Context:
    return _propagator.extract({TRACEPARENT: traceparent}, Context())


def _context_of(traceparent: str) -> SpanContext:
    return trace.get_current_span(_below(traceparent)).get_span_context()
