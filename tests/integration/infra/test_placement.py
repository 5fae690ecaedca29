"""Where PostgreSQL's files lie, and what an earlier run left there."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.accounts import database_account
from infra.cluster import Cluster
from infra.failure import Refusal
from infra.placement import end_leftover, settle
from infra.ports import free_port
from infra.processes import spawn
from infra.state import State, opened

PASSWORD = "secret"


@pytest.fixture
def state(open_folder: Path) -> Iterator[State]:
    with opened(open_folder / "state") as state:
        yield state


@pytest.fixture
def elsewhere(open_folder: Path) -> Path:
    return open_folder / "elsewhere"


def cluster_of(state: State, elsewhere: Path) -> tuple[Cluster, list[str]]:
    """What a start would make, and what it would say."""
    said: list[str] = []
    place = settle(state, said.append, elsewhere=elsewhere)
    cluster = Cluster(place.home, place.binaries, place.account, free_port(), PASSWORD)
    cluster.initialise()
    return cluster, said


def start(cluster: Cluster, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        server = spawn(cluster.command, output=output, account=cluster.account, environment=cluster.environment)
    until = time.monotonic() + 30
    while not cluster.is_ready():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until
        time.sleep(0.02)
    return server


def test_a_folder_that_can_be_entered_holds_the_database(state: State, elsewhere: Path) -> None:
    cluster, said = cluster_of(state, elsewhere)
    assert cluster.home == state.postgres
    assert not elsewhere.exists()
    assert said == []
    assert cluster.home.stat().st_uid == os.geteuid()
    assert cluster.data.stat().st_uid == database_account().uid
    assert cluster.data.stat().st_mode & 0o777 == 0o700


def test_a_cluster_that_stands_is_left_as_it_is(state: State, elsewhere: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    made = (cluster.data / "PG_VERSION").stat().st_mtime_ns
    again, said = cluster_of(state, elsewhere)
    assert (again.data / "PG_VERSION").stat().st_mtime_ns == made
    assert said == []


def test_half_a_cluster_is_made_anew(state: State, elsewhere: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    (cluster.home / "initialised").unlink()
    (cluster.data / "global" / "pg_control").unlink()
    cluster_of(state, elsewhere)
    assert (cluster.data / "global" / "pg_control").exists()


def test_root_leaves_a_closed_parent_closed_and_puts_the_files_elsewhere(tmp_path: Path, elsewhere: Path) -> None:
    """Any other user's database runs as that user, who can enter."""
    tmp_path.chmod(0o700)
    with opened(tmp_path / "state") as state:
        cluster, _ = cluster_of(state, elsewhere)
        server = start(cluster, tmp_path / "log")
        server.send_signal(signal.SIGQUIT)
        server.wait(10)
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        assert state.postgres.resolve() == cluster.home
        assert (cluster.home.parent == elsewhere) == (os.geteuid() == 0)


def test_what_a_deleted_state_folder_left_elsewhere_is_removed(tmp_path: Path, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        return  # nothing is ever put elsewhere
    tmp_path.chmod(0o700)
    with opened(tmp_path / "state") as state:
        first, _ = cluster_of(state, elsewhere)
        (first.home / "old").touch()
        state.postgres.unlink()
        second, said = cluster_of(state, elsewhere)
        assert second.home == first.home
        assert not (second.home / "old").exists()
        assert [sentence for sentence in said if sentence.startswith("Removed")]


def test_an_orphan_is_stopped_cleanly_with_a_notice(state: State, elsewhere: Path, open_folder: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    orphan = start(cluster, open_folder / "log")
    _, said = cluster_of(state, elsewhere)
    assert orphan.wait(10) == 0
    assert said == [f"Stopped a PostgreSQL (process {orphan.pid}) that an earlier run left."]
    assert "database system is shut down" in (open_folder / "log").read_text()


def test_a_stale_pid_file_is_removed_with_a_notice(state: State, elsewhere: Path, open_folder: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    killed = start(cluster, open_folder / "log")
    family = psutil.Process(killed.pid).children()
    killed.kill()
    killed.wait(10)
    psutil.wait_procs(family, timeout=20)
    _, said = cluster_of(state, elsewhere)
    assert said == [f"Removed a stale postmaster.pid: its process {killed.pid} is gone."]
    assert not (cluster.data / "postmaster.pid").exists()


def test_a_pid_that_is_now_another_programs_is_stale_and_that_program_lives(state: State, elsewhere: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    with subprocess.Popen(["sleep", "60"], cwd="/") as other:
        (cluster.data / "postmaster.pid").write_text(f"{other.pid}\n")
        said: list[str] = []
        end_leftover(cluster.data, said.append)
        assert said
        assert other.poll() is None
        other.kill()


def test_a_database_of_another_version_is_refused(state: State, elsewhere: Path) -> None:
    cluster, _ = cluster_of(state, elsewhere)
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(Refusal, match="was made by PostgreSQL 17"):
        settle(state, print, elsewhere=elsewhere)
