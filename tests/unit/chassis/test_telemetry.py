"""What a process says of itself: JSON by line, numbers by labels that are few."""

import importlib
import logging
import pkgutil
import sys

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import chassis
import services
from chassis import context, telemetry
from chassis.migrate import SERVICES
from tests.unit.chassis.output import process_output

# What a label may say: each has a closed set of values in a running platform.
CLOSED_LABELS = frozenset(
    {
        "service", "version", "method", "code", "target", "route", "status", "consumer", "name", "reason", "kind", "verdict",
        "subject", "type", "strategy", "stage", "model", "action", "result", "source", "purpose", "outcome", "family", "scope",
        "age", "mode", "decision",
    }
)  # fmt: skip
# What would make a series for each customer, tenant or request, or hold something personal.
FORBIDDEN = ("id", "tenant", "profile", "user", "email", "request", "path", "message", "key", "ref")


def test_every_line_is_one_json_object_with_request_id_and_tenant() -> None:
    with process_output() as output:
        with context.use(tenant="shop", request_id="r1"):
            telemetry.logger().info("something happened", count=3)
            logging.getLogger("some.library").warning("it\nsays %s", "this")
            telemetry.log_call("GetWeather", "OK", 0.0123)
        first, second, third = output.lines()
        for line in (first, second, third):
            assert (line["service"], line["tenant"], line["request_id"]) == ("weather", "shop", "r1")
            assert str(line["timestamp"]).endswith(("Z", "+00:00"))
        assert (first["event"], first["count"], first["level"]) == ("something happened", 3, "info")
        assert second["event"] == "it\nsays this"
        assert (third["route"], third["status"], third["duration_ms"]) == ("GetWeather", "OK", 12.3)


def test_a_call_that_failed_says_why() -> None:
    with process_output() as output:
        telemetry.log_call("GET /v1/profiles/{ref}", 404, 0.001, reason="UNKNOWN_PROFILE", service="gateway")
        [line] = output.lines()
        assert (line["status"], line["reason"], line["service"]) == (404, "UNKNOWN_PROFILE", "gateway")


def test_a_traceback_stays_on_one_line() -> None:
    with process_output() as output:
        try:
            raise ValueError("no")
        except ValueError:
            telemetry.logger().error("a call failed", exc_info=True)
        [line] = output.lines()
        assert "ValueError: no" in str(line["exception"])
        assert "test_telemetry.py" in str(line["exception"])


def test_what_json_does_not_know_is_told_as_text() -> None:
    with process_output() as output:
        telemetry.logger().info("odd", thing=ValueError, bytes_=b"\xff", path=logging)
        [line] = output.lines()
        assert "ValueError" in str(line["thing"])


def test_lines_below_the_level_are_left_out() -> None:
    with process_output() as output:
        telemetry.logger().debug("details")
        logging.getLogger("some.library").info("chatter")
        assert output.lines() == []


def every_metric() -> list[MetricWrapperBase]:
    """Of the chassis and of each service that is there."""
    for package in (chassis, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and module.name not in sys.modules:
                importlib.import_module(module.name)
    collectors = dict.fromkeys(REGISTRY._names_to_collectors.values())
    return [each for each in collectors if isinstance(each, MetricWrapperBase) and each._name.startswith("rapport_")]


def test_no_metric_has_a_label_that_holds_an_id() -> None:
    metrics = every_metric()
    assert len(metrics) > 10
    wrong = [
        f"{metric._name}: {label}"
        for metric in metrics
        for label in metric._labelnames
        if label not in CLOSED_LABELS or any(part in FORBIDDEN for part in label.split("_"))
    ]
    assert wrong == []


def test_every_metric_is_named_by_its_owner_and_ends_in_a_unit() -> None:
    owners = ("rpc", "http", "log", "database", "outbox", "build", *SERVICES)
    wrong = [metric._name for metric in every_metric() if metric._name.split("_")[1] not in owners]
    assert wrong == []
    assert all(metric._documentation.endswith((".", "runs.")) for metric in every_metric())
