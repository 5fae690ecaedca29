"""Folders that other users can enter, platforms of stand-ins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.infra import stand_ins

Start = Callable[..., stand_ins.Run]


@pytest.fixture(scope="session")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return stand_ins.write(tmp_path_factory.mktemp("stand_ins"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with stand_ins.folder_open_to_all() as folder:
        yield folder


@pytest.fixture
def start(module_path: str, open_folder: Path) -> Iterator[Start]:
    """`start(port, "--once")`: a run on this test's state folder."""
    runs: list[stand_ins.Run] = []

    def begin(port: int, *options: str, state: Path | None = None) -> stand_ins.Run:
        run = stand_ins.Run(module_path, state or open_folder / "state", port, *options)
        runs.append(run)
        return run

    yield begin
    for run in reversed(runs):
        run.stop()
