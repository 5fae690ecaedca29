import json
from decimal import Decimal
from pathlib import Path

from demo.opening import open_source

ORDER = {"type": "track", "event": "Order Completed", "userId": "u", "messageId": "m1", "properties": {"revenue": 19.99}}
REFUND = {"type": "track", "event": "Order Refunded", "anonymousId": "a", "messageId": "m2", "properties": {"total": 5}}
PAGE = {"type": "page", "anonymousId": "a", "sentAt": "2024-01-01T00:00:00Z"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_calls_and_batches_are_passed_on(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.jsonl", ORDER, {"batch": [REFUND, PAGE]}, ""))
    first, second, third = source.calls()
    assert (first, second) == (ORDER, REFUND)
    assert third["type"] == "page"
    assert "sentAt" not in third
    sums = source.tally.sums()
    assert (sums.rows_in, sums.rows_carried) == (3, 3)
    assert (sums.money_profiles, sums.money_anonymous) == (Decimal("19.99"), Decimal(-5))
    assert sums.hold


def test_a_call_without_a_message_id_gets_the_same_one_each_time(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.jsonl", PAGE, PAGE))
    first = [call["messageId"] for call in source.calls()]
    assert first == [call["messageId"] for call in source.calls()]
    assert len(set(first)) == 2
    assert source.tally.sums().rows_in == 2


def test_unreadable_lines_are_counted_and_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ORDER, "{broken", "[1]", {"batch": [7, {"type": 3}]}, ORDER, "{}")
    with path.open("ab") as file:
        file.write(b'{"type": "\xff"}\n')
    source = open_source(path)
    assert list(source.calls()) == [ORDER]
    assert [(row.row, row.reason) for row in source.tally.rejected] == [
        (2, "not_json"),
        (3, "not_a_call"),
        (4, "not_a_call"),
        (4, "not_a_call"),
        (5, "repeated_message_id"),
        (6, "not_a_call"),
        (7, "not_json"),
    ]
    assert source.tally.sums().hold
