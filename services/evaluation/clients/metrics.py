"""The metrics source: Prometheus over its HTTP API. How two versions of a service answered, by the chassis' own counters."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from chassis.errors import Reason, Unavailable
from services.evaluation.clients.http import JsonStore, Rejected
from services.evaluation.domain.rollouts import Samples, Traffic, increase, traffic_of

# Points of a window that are read, and how close they may come: the platform is scraped every five seconds.
MAX_POINTS: Final = 240
MIN_STEP_S: Final = 5.0

# Summed over methods, and not over processes: a process's counters begin anew all at once.
_CODES: Final = 'sum by (instance, code) (rapport_rpc_server_requests_total{{service="{service}",version="{version}"}})'
_BOUNDS: Final = 'sum by (instance, le) (rapport_rpc_server_duration_seconds_bucket{{service="{service}",version="{version}"}})'


class _Series(msgspec.Struct):
    metric: dict[str, str] = {}
    values: list[tuple[float, str]] = []


class _Matrix(msgspec.Struct):
    resultType: Literal["matrix"]  # noqa: N815 - Prometheus' name
    result: list[_Series] = []


class _Answer(msgspec.Struct):
    status: Literal["success"]
    data: _Matrix


class Metrics:
    """Raises Unavailable where it does not answer. `clock` is seconds since the epoch: Prometheus knows no other time."""

    def __init__(self, store: JsonStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def traffic(self, service: str, version: str, *, window_s: float) -> Traffic:
        """Of the last `window_s` seconds. Both names must be plain: they become part of a query."""
        end = self._clock()
        start = end - window_s
        by_code = await self._rises(_CODES.format(service=service, version=version), "code", start, end)
        by_bound = await self._rises(_BOUNDS.format(service=service, version=version), "le", start, end)
        bounds = {_bound(bound): rise for bound, rise in by_bound.items()}
        return traffic_of(version, by_code, {bound: rise for bound, rise in bounds.items() if bound > 0})

    async def _rises(self, query: str, label: str, start: float, end: float) -> Mapping[str, float]:
        """By the value of a label: how far the counters rose, all processes together."""
        step = max(MIN_STEP_S, (end - start) / MAX_POINTS)
        parameters = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        try:
            answer = await self._store.ask("GET", "/api/v1/query_range", _Answer, parameters=parameters)
        except Rejected as refusal:
            raise Unavailable(
                f"the metrics source refuses: status {refusal.status}", reason=Reason.METRICS_UNAVAILABLE, retry_after_s=5.0
            ) from None
        rises: dict[str, float] = {}
        for series in answer.data.result:
            value = series.metric.get(label, "")
            rises[value] = rises.get(value, 0.0) + increase(_samples(series.values), start=start + step / 2)
        return rises


def _samples(values: Sequence[tuple[float, str]]) -> Samples:
    numbers = ((at, _number(text)) for at, text in values)
    return [(at, value) for at, value in numbers if math.isfinite(value) and value >= 0]


def _bound(text: str) -> float:
    return math.inf if text == "+Inf" else _number(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
