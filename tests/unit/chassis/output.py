"""What a process would write to stdout."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from chassis import telemetry


class Output:
    """What was written to stdout since it was last asked."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def lines(self) -> list[dict[str, Any]]:
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return [json.loads(line) for line in text.splitlines()]


@contextmanager
def process_output() -> Iterator[Output]:
    """Logs configured as in a process, on a stdout of the test's own; afterwards all is as it was."""
    root = logging.getLogger()
    handlers, level, stdout = list(root.handlers), root.level, sys.stdout
    root.handlers.clear()
    sys.stdout = stream = io.StringIO()
    telemetry.configure_logs("weather", "info")
    try:
        yield Output(stream)
    finally:
        sys.stdout = stdout
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        telemetry._service = ""
