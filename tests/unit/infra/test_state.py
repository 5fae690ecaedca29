"""The state folder: what is in it, who may use it, when it is refused."""

import os
import shutil
from pathlib import Path

import pytest

from infra.failure import Refusal
from infra.state import opened, refuse_full_disk


def test_a_secret_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as state:
        first = state.secret("rapport_owner")
        assert len(first) == 64
        assert state.secret("rapport_owner") == first != state.secret("rapport_scoring")
        assert (state.secrets / "rapport_owner").stat().st_mode & 0o777 == 0o600
        assert state.secrets.stat().st_mode & 0o777 == 0o700


def test_the_folder_may_be_passed_through_and_what_is_in_it_is_private(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as state:
        assert state.root.stat().st_mode & 0o777 == 0o711
        assert {path.stat().st_mode & 0o777 for path in state.root.iterdir() if path.is_dir()} == {0o700}


def test_a_second_run_on_the_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Refusal, match=f"in use by process {os.getpid()}"), opened(tmp_path):
        pass


def test_the_pid_of_a_run_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "rapport.lock").write_text("1\n")
    with opened(tmp_path):
        assert (tmp_path / "rapport.lock").read_text() == f"{os.getpid()}\n"


def test_a_path_that_is_no_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(Refusal, match=r"^The state folder .* can't be used: .*\.$"), opened(path):
            pass


def test_a_folder_that_nobody_may_write_is_refused() -> None:
    """/proc takes no folders, not even root's."""
    with pytest.raises(Refusal, match="can't be used"), opened(Path("/proc/rapport")):
        pass


def test_a_full_disk_is_refused_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    refuse_full_disk(tmp_path, needed=free // 2)
    with pytest.raises(Refusal, match=r"is full: .* GB are free, .* GB are needed"):
        refuse_full_disk(tmp_path, needed=free * 2)
