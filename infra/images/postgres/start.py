"""PostgreSQL in a container: `initialise` before each start, then `serve`, both on the volume at HOME.

`initialise` makes the cluster where there is none, roles and database with the passwords that are mounted as files: the
superuser's is ADMIN, a role's is PASSWORDS/<role>. `serve` becomes the server, and hands it what else is on the command line.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg

from infra.accounts import database_account
from infra.cluster import FAST_SHUTDOWN, Cluster, wheel_binaries
from infra.failure import EXIT_CODE, Refusal
from infra.roles import ROLES, create_roles

HOME = Path("/var/lib/rapport/postgres")
ADMIN = Path("/etc/rapport/admin/password")
PASSWORDS = Path("/etc/rapport/passwords")
ACCESS = Path(__file__).with_name("pg_hba.conf")
PORT = 5432
# After a hard end the server first replays its log.
RECOVERY_S = 600.0
STOP_S = 60.0


def initialise() -> None:
    """Idempotent. Raises Refusal."""
    passwords = {role: _secret(PASSWORDS / role) for role in ROLES}
    cluster = _cluster(_secret(ADMIN))
    try:
        cluster.initialise()
        # The volume's driver may have opened it to a group, and then the server refuses to start.
        cluster.data.chmod(0o700)
    except OSError as error:
        raise Refusal(f"The volume at {HOME} can't be used: {error.strerror} ({error.filename}).") from error
    server = subprocess.Popen(cluster.command, env=cluster.environment)
    try:
        _wait_ready(cluster, server)
        asyncio.run(create_roles(cluster.admin_dsn, passwords))
    except asyncpg.InvalidPasswordError:
        raise Refusal(f"The database on the volume at {HOME} has another superuser's password than {ADMIN}.") from None
    finally:
        server.send_signal(FAST_SHUTDOWN)
        server.wait(timeout=STOP_S)


def serve(options: list[str]) -> None:
    """Never returns. The server stops at once on SIGTERM only when its clients are gone, on SIGINT in any case."""
    cluster = _cluster("")
    if not (HOME / "initialised").exists():
        raise Refusal(f"There is no database on the volume at {HOME}: `initialise` comes first.")
    command = [*cluster.command, "-c", "listen_addresses=*", "-c", f"hba_file={ACCESS}", *options]
    os.execve(command[0], command, cluster.environment)  # noqa: S606


def _cluster(password: str) -> Cluster:
    return Cluster(HOME, wheel_binaries(), database_account(), PORT, password)


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Refusal(f"The password in {path} can't be read: {error.strerror}.") from error


def _wait_ready(cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
    """What the file says of readiness may be of a server before this one, so its process counts too."""
    until = time.monotonic() + RECOVERY_S
    pid_file = cluster.data / "postmaster.pid"
    while not (cluster.is_ready() and pid_file.read_text().split("\n", 1)[0] == str(server.pid)):
        if server.poll() is not None:
            raise Refusal(f"PostgreSQL ended with exit code {server.returncode}; its lines above say why.")
        if time.monotonic() > until:
            raise Refusal(f"PostgreSQL was not ready after {RECOVERY_S:.0f} s.")
        time.sleep(0.05)


def main() -> None:
    """A refusal is one sentence and exit code 2."""
    match sys.argv[1:]:
        case ["initialise"]:
            work = initialise
        case ["serve", *options]:
            work = lambda: serve(options)  # noqa: E731
        case _:
            sys.exit("usage: initialise | serve [option of postgres ...]")
    try:
        work()
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
