"""Where tests find the shared data sets, which are not part of the project."""

import os
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parent.parent


def dataset(path: str) -> Path:
    """A file of the shared data folder (RAPPORT_TEST_DATA, else ../shared/data). Skips where it is not there."""
    folder = Path(os.environ.get("RAPPORT_TEST_DATA") or _PROJECT.parent / "shared" / "data")
    found = folder / path
    if not found.exists():
        pytest.skip(f"the shared data folder is missing, or has no {path}: looked in {folder} (set RAPPORT_TEST_DATA)")
    return found
