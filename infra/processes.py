"""Child processes that can't outlive us: in a process group of their own, and ended by the kernel when we end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from infra.accounts import Account

LAUNCHER = Path(__file__).with_name("launch.py")


def spawn(
    command: Sequence[str],
    *,
    output: IO[bytes] | None,
    stdin: int = subprocess.DEVNULL,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    environment: Mapping[str, str] | None = None,
    folder: str | Path = "/",
    niceness: int = 0,
) -> subprocess.Popen[bytes]:
    """`death_signal` is what it gets when the calling thread ends, so call this from a thread that lives on (the main one).

    `output` None: ours.
    """
    drop = account is not None and not account.is_ours
    user = [str(account.uid), str(account.gid)] if account is not None and drop else ["-", "-"]
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), str(niceness), *user]
    return subprocess.Popen(
        [*launcher, *command],
        cwd=folder,
        env=None if environment is None else dict(environment),
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


async def exited(process: subprocess.Popen[bytes]) -> int:
    """The exit code, once it has ended; what is left of its group is killed. By a pidfd: no thread, any event loop."""
    if (code := process.poll()) is not None:
        return code
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    handle = os.pidfd_open(process.pid)
    try:
        loop.add_reader(handle, lambda: over.done() or over.set_result(None))
        await over
        # It is a zombie until it is waited for, so the group's number can't have been given to another.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


async def end(process: subprocess.Popen[bytes], *, number: signal.Signals = signal.SIGTERM, grace_s: float) -> None:
    """Asks with `number`, kills after `grace_s`."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        await asyncio.wait_for(exited(process), grace_s)
    except TimeoutError:
        process.kill()
        await exited(process)
