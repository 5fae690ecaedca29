"""Logs and metrics. One JSON line a call; labels from closed sets, never an id; nothing personal in either."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

from chassis import context

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

SERVER_CALLS = Counter("rapport_rpc_server_requests_total", "gRPC calls answered.", ["service", "version", "method", "code"])
SERVER_SECONDS = Histogram(
    "rapport_rpc_server_duration_seconds", "Time to answer a gRPC call.", ["service", "version", "method"], buckets=BUCKETS_S
)
CLIENT_CALLS = Counter("rapport_rpc_client_requests_total", "gRPC calls made.", ["target", "method", "code"])
HTTP_CALLS = Counter("rapport_http_server_requests_total", "HTTP requests answered.", ["service", "method", "route", "status"])
HTTP_SECONDS = Histogram(
    "rapport_http_server_duration_seconds", "Time to answer an HTTP request.", ["service", "route"], buckets=BUCKETS_S
)
LOG_LAG = Gauge("rapport_log_reader_lag_events", "Events in the log that a reader has not handled yet.", ["consumer"])
LOG_HANDLED = Counter("rapport_log_reader_events_total", "Events that a reader handled.", ["consumer"])
LOG_FAILURES = Counter(
    "rapport_log_reader_failures_total", "Batches that a reader could not handle and tried again.", ["consumer"]
)
LOG_UNREADABLE = Counter(
    "rapport_log_reader_unreadable_events_total",
    "Events of the log that a reader passed over: they say nothing it can read.",
    ["consumer"],
)
DATABASE_FAILURES = Counter("rapport_database_failures_total", "Statements that failed for want of the database.", [])
OUTBOX_PENDING = Gauge("rapport_outbox_pending_events", "Facts that wait to be appended to the log.", ["service"])
OUTBOX_AGE = Gauge("rapport_outbox_oldest_seconds", "Age of the oldest fact that waits to be appended to the log.", ["service"])
BUILD = Gauge("rapport_build_info", "1, with the version that runs.", ["service", "version"])


_encoder = msgspec.json.Encoder(enc_hook=str)
_service = ""


def configure_logs(service: str, level: str = "info") -> None:
    """Every line, the libraries' included, as one JSON object on stdout."""
    global _service
    _service = service

    def add_call(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        call = context.current()
        event.setdefault("service", service)
        if call.request_id:
            event.setdefault("request_id", call.request_id)
        if call.traceparent:
            event.setdefault("trace_id", call.trace_id)
        if call.tenant:
            event.setdefault("tenant", call.tenant)
        return event

    processors: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        add_call,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors, processor=structlog.processors.JSONRenderer(serializer=_dumps)
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _dumps(value: Any, **_: Any) -> str:
    return _encoder.encode(value).decode()


def logger() -> Any:
    """The process's logger: `logger().info("event", key=value)`."""
    return structlog.get_logger()


def log_call(route: str, status: str | int, elapsed_s: float, reason: str | None = None, service: str | None = None) -> None:
    """The one line of a request: request id, tenant, route, status, duration. Not structlog: it is on every path."""
    call = context.current()
    line: dict[str, Any] = {"event": "call", "level": "info", "service": service or _service, "route": route, "status": status}
    line |= {"duration_ms": round(elapsed_s * 1e3, 3), "request_id": call.request_id, "tenant": call.tenant}
    if call.traceparent:
        line["trace_id"] = call.trace_id
    if reason:
        line["reason"] = reason
    line["timestamp"] = datetime.now(UTC).isoformat()
    sys.stdout.write(_encoder.encode(line).decode() + "\n")
