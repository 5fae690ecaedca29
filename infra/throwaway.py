"""A PostgreSQL for the length of a test: in a temporary folder, on a free port, gone afterwards, even after a kill."""

import asyncio
import fcntl
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.accounts import Account, database_account
from infra.cluster import IMMEDIATE_SHUTDOWN, Cluster, wheel_binaries
from infra.failure import Refusal
from infra.ports import free_port
from infra.processes import spawn
from infra.roles import DATABASE, OWNER, ROLES, create_roles, grant

PREFIX = "rapport-postgres-"
START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Temporary:
    """`admin_dsn` is the superuser's; `dsn("rapport_profiles")` is a role's, of the database `rapport`."""

    cluster: Cluster
    passwords: dict[str, str]

    @property
    def admin_dsn(self) -> str:
        return self.cluster.admin_dsn

    def dsn(self, role: str, *, database: str = DATABASE) -> str:
        return self.cluster.dsn(role, self.passwords[role], database=database)


@contextmanager
def temporary() -> Iterator[Temporary]:
    """Roles, database and schemas are made. To be entered by a thread that lives on: when it ends, so does the server."""
    account = database_account()
    with _folder(account) as folder:
        binaries = wheel_binaries()
        if not account.can_run(binaries.program("postgres")):
            binaries = binaries.copy_to(folder / "binaries")
        cluster = Cluster(folder, binaries, account, free_port(), secrets.token_hex(16))
        cluster.initialise()
        server = _start(cluster)
        try:
            passwords = {role: secrets.token_hex(16) for role in ROLES}
            _wait_ready(cluster, server)
            _run_aside(create_roles(cluster.admin_dsn, passwords))
            made = Temporary(cluster, passwords)
            _run_aside(grant(made.dsn(OWNER)))
            yield made
        finally:
            server.send_signal(IMMEDIATE_SHUTDOWN)
            server.wait(timeout=10)


def _start(cluster: Cluster) -> subprocess.Popen[bytes]:
    with (cluster.home / "server.log").open("wb") as log:
        return spawn(
            cluster.command,
            output=log,
            environment=cluster.environment,
            account=cluster.account,
            death_signal=IMMEDIATE_SHUTDOWN,
        )


def _wait_ready(cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while not cluster.is_ready():
        if server.poll() is not None or time.monotonic() > until:
            raise Refusal(f"PostgreSQL did not start: {(cluster.home / 'server.log').read_text(errors='replace')[-500:]}")
        time.sleep(0.02)


def _run_aside(work: Coroutine[Any, Any, None]) -> None:
    """Our caller may be inside an event loop of its own, or in none."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@contextmanager
def _folder(account: Account) -> Iterator[Path]:
    """A folder that the account can pass through: for root TMPDIR may be closed to others."""
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108
        _sweep(Path(base))
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        folder.chmod(0o711)
        if account.can_enter(folder):
            break
        folder.rmdir()
    else:
        raise Refusal(f"No temporary folder can be reached by the user {account.name}.")
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The lock says that the folder is in use; it goes with its process."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(base: Path) -> None:
    """Removes what killed test runs left."""
    for lock in base.glob(f"{PREFIX}*/lock"):
        try:
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            continue
