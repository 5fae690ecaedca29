"""`rapport run` as a process, with stand-ins for the services: how it starts, what it refuses, how it ends."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.infra.conftest import Start
from tests.integration.infra.stand_ins import free_base


def test_once_ends_after_the_report_with_exit_code_0(start: Start) -> None:
    run = start(free_base(), "--once")
    assert run.wait() == 0
    assert "the report" in run.output
    assert "Ctrl-C" not in run.output


def test_what_the_journey_refuses_ends_the_run_with_exit_code_2(start: Start) -> None:
    run = start(free_base(), "--seed", "13")
    assert run.wait() == 2
    assert "The data is of no use." in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_order(start: Start, open_folder: Path, number: signal.Signals) -> None:
    run = start(free_base())
    run.wait_up()
    run.process.send_signal(number)
    assert run.wait(30) == 0
    assert run.left(patience_s=0.5) == []
    assert "database system is shut down" in (open_folder / "state" / "logs" / "postgres.log").read_text()


def test_a_second_signal_ends_everything_at_once(start: Start) -> None:
    run = start(free_base())
    run.wait_up()
    for process in run.family:
        if "services.profiles.main" in process.cmdline():
            process.suspend()  # it will not end by itself
    run.process.send_signal(signal.SIGINT)
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(run.process.pid).wait(3)
    run.process.send_signal(signal.SIGINT)
    run.wait(10)
    assert run.left(patience_s=5) == []


def test_nothing_outlives_a_killed_supervisor_and_the_next_run_recovers(start: Start) -> None:
    base = free_base()
    run = start(base)
    run.wait_up()
    assert len(run.family) > 9
    run.process.kill()
    run.wait(10)
    assert run.left(patience_s=20) == []
    assert start(base, "--once").wait() == 0


def test_what_dies_is_started_again(start: Start, open_folder: Path) -> None:
    run = start(free_base())
    run.wait_up()
    words = ("services.profiles.main", "services.scoring.main", "mlflow.server:app", "-D")
    before = {word: _child_with(run.process.pid, word) for word in words}
    for process in before.values():
        process.kill()
    for word, killed in before.items():
        assert _child_with(run.process.pid, word, other_than=killed.pid)
    notices = (open_folder / "state" / "logs" / "supervisor.log").read_text()
    assert "postgres ended (killed by SIGKILL) and starts again in 0.2 s." in notices


def _child_with(pid: int, word: str, *, other_than: int = 0) -> psutil.Process:
    """The child with that word on its command line, once it is there."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for child in psutil.Process(pid).children():
            # One that is read may end meanwhile: it was not the one.
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.pid != other_than and child.status() != psutil.STATUS_ZOMBIE and word in child.cmdline():
                    return child
        time.sleep(0.1)
    raise AssertionError(f"no process with {word}")


def test_a_second_run_on_the_folder_is_refused_with_one_sentence(start: Start, open_folder: Path) -> None:
    first = start(free_base())
    first.wait_up()
    (open_folder / "link").symlink_to("state")
    second = start(free_base(), state=open_folder / "link")
    assert second.wait(30) == 2
    folder, pid = open_folder / "state", first.process.pid
    assert second.output.splitlines() == [
        f"rapport: The state folder {folder} is in use by process {pid}: stop that, or choose another with STATE=."
    ]


@pytest.mark.parametrize("offset", [0, 3, 20, 31])
def test_a_taken_port_is_refused_with_its_number_and_who_has_it(start: Start, offset: int) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + offset)):
        run = start(base)
        assert run.wait(30) == 2
    assert f"Port {base + offset} of 127.0.0.1" in run.output
    assert f"is taken by process {os.getpid()}" in run.output
    assert "Traceback" not in run.output


def test_a_data_file_that_is_not_there_is_refused_before_anything_starts(start: Start, open_folder: Path) -> None:
    run = start(free_base(), "--data", "/nowhere/orders.csv")
    assert run.wait(30) == 2
    assert run.output.strip() == "rapport: The file /nowhere/orders.csv can't be read: No such file or directory."
    assert not (open_folder / "state").exists()
