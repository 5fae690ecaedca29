"""The folder that holds everything that a platform on one machine remembers, and the lock that one run holds on it."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.failure import Refusal

NEEDED_BYTES = 2 * 1024**3
PRIVATE_FOLDERS = ("mlflow", "prometheus", "archive", "imports", "models", "secrets", "logs")


@dataclass(frozen=True, slots=True)
class State:
    """Paths inside the folder. `root` is absolute, without symlinks."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def prometheus(self) -> Path:
        return self.root / "prometheus"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def imports(self) -> Path:
        return self.root / "imports"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @property
    def rejected_rows(self) -> Path:
        return self.root / "rejected_rows.csv"

    @property
    def master_key(self) -> Path:
        return self.secrets / "master.key"

    def secret(self, name: str) -> str:
        """Made at the first call (64 hexadecimal digits, 256 bits), the same ever after."""
        path = self.secrets / name
        if not path.exists():
            draft = path.with_suffix(".new")
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        return path.read_text().strip()


@contextmanager
def opened(path: Path) -> Iterator[State]:
    """The state folder, made where it is missing, locked while inside. Raises Refusal."""
    state = State(path.expanduser().resolve())
    with ExitStack() as stack:
        try:
            _make_folders(state)
            stack.enter_context(_locked(state))
            refuse_full_disk(state.root)
        except OSError as error:
            why = f"{error.strerror} ({error.filename})"
            raise Refusal(f"The state folder {state.root} can't be used: {why}.") from error
        yield state


def refuse_full_disk(folder: Path, *, needed: int = NEEDED_BYTES) -> None:
    """Raises Refusal where `needed` bytes are not free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refusal(f"The disk of {folder} is full: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed.")


def _make_folders(state: State) -> None:
    """The folder itself may be passed through (the database may run as another user), what is in it is private."""
    if not state.root.exists():
        state.root.mkdir(parents=True)
        state.root.chmod(0o711)
    for name in PRIVATE_FOLDERS:
        (state.root / name).mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _locked(state: State) -> Iterator[None]:
    """The kernel frees the lock with its process, so a stale pid in the file means nothing."""
    with (state.root / "rapport.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise Refusal(
                f"The state folder {state.root} is in use by process {pid}: stop that, or choose another with STATE=."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
