"""Files of Segment calls as a source: JSON lines, each a single call or a batch (`{"batch": [...]}`).

Calls are passed on as they are, but for two things. A call without a message id gets one from its content and its place,
so that a second feed gives only duplicates. `sentAt` is dropped: it is for correcting a client's clock, and would move
history to today.
"""

import codecs
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from demo.source import ZERO, Call, RejectedRow, Tally, money_of
from infra.failure import Refusal


class SegmentLines:
    """See demo.source.Source. A row is a call, or a line that cannot be read. Each run of `calls` counts anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tally = Tally()

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def kind(self) -> str:
        return "segment"

    @property
    def clock(self) -> Literal["events"]:
        return "events"

    @property
    def call_count(self) -> None:
        return None

    @property
    def tally(self) -> Tally:
        return self._tally

    def calls(self) -> Iterator[Call]:
        """In the file's order. Of calls with the same message id the first is given, the others are rejected rows."""
        self._tally = Tally()
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if text := line.removeprefix(codecs.BOM_UTF8).strip():
                    yield from self._calls_of(number, text)

    def _calls_of(self, number: int, line: bytes) -> Iterator[Call]:
        try:
            content = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            self._tally.reject(RejectedRow(number, "not_json", "", ZERO))
            return
        batch = content.get("batch") if isinstance(content, dict) else None
        for place, item in enumerate(batch if isinstance(batch, list) else [content]):
            if not isinstance(item, dict) or not isinstance(item.get("type"), str):
                self._tally.reject(RejectedRow(number, "not_a_call", "", ZERO))
                continue
            call = _with_message_id(dict[str, Any](item), number, place)
            if self._tally.count_call(call):
                yield call
            else:
                self._tally.reject(RejectedRow(number, "repeated_message_id", "", money_of(call)))


def open_segment_lines(path: Path) -> SegmentLines:
    """Raises Refusal where the file cannot be read, or where its first line is no JSON object."""
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise Refusal(f"The data file {path} cannot be read: {error.strerror}.") from error
    if not first:
        raise Refusal(f"The data file {path} is empty.")
    if not first.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        raise Refusal(f"The data file {path} is not JSON lines: its first line is no JSON object.")
    return SegmentLines(path)


def _with_message_id(call: Call, number: int, place: int) -> Call:
    call.pop("sentAt", None)
    if not isinstance(call.get("messageId"), str) or not call["messageId"]:
        digest = hashlib.sha256(msgspec.json.encode(call, order="sorted")).hexdigest()[:24]
        call["messageId"] = f"segment:{digest}:{number}:{place}"
    return call
