"""Which source a data file is."""

from pathlib import Path
from typing import Final

from demo.orders import open_order_lines
from demo.segment_lines import open_segment_lines
from demo.source import Source
from infra.failure import Refusal

ORDER_LINES: Final = (".csv", ".tsv", ".txt", ".parquet")
SEGMENT_LINES: Final = (".jsonl", ".ndjson", ".json")


def open_source(path: Path, mapping: Path | None = None) -> Source:
    """Order lines or Segment calls, by the file's ending. Raises Refusal where it cannot be read."""
    if not path.exists():
        raise Refusal(f"There is no data file {path}.")
    if path.is_dir():
        raise Refusal(f"{path} is a folder, not a data file.")
    if path.suffix in ORDER_LINES:
        return open_order_lines(path, mapping)
    if path.suffix in SEGMENT_LINES:
        return open_segment_lines(path)
    known = ", ".join((*ORDER_LINES, *SEGMENT_LINES))
    raise Refusal(f"The data file {path} ends in none of {known}.")
