"""`make` on a machine that lacks something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of the project as an installation looks at."""
    for name in ("Makefile", "pyproject.toml", "infra/venv.sh", "locks"):
        source, target = PROJECT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)


def stub(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_make_alone_prints_its_targets(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    for target in ("run", "test", "check", "bench", "protos", "fmt", "help"):
        assert f"make {target} " in done.stdout


def test_no_python_that_is_new_enough_is_one_sentence_and_exit_code_2(checkout: Path) -> None:
    done = make(checkout, "run", PYTHON=stub(checkout, 'case "$*" in *version_info*) exit 1;; esac'))
    assert done.returncode == 2
    assert "rapport: Python 3.11 or newer is needed" in done.stderr
    assert not (checkout / ".venv").exists()


def test_no_venv_module_is_one_sentence_with_the_package_to_install(checkout: Path) -> None:
    python = stub(checkout, 'case "$*" in *ensurepip*) exit 1;; esac')
    done = make(checkout, "run", PYTHON=python)
    assert done.returncode == 2
    assert f"rapport: {python} has no venv module: on Debian or Ubuntu, install the package python3-venv." in done.stderr
