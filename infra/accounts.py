"""Which system user the database runs as, and what that user can reach.

PostgreSQL refuses to run as root, and initdb wants its user in the passwd file. `nobody` is there everywhere.
"""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.failure import Refusal

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def own(self, file: Path | int) -> None:
        """Gives it a path, or an open file."""
        if not self.is_ours:
            os.chown(file, self.uid, self.gid)

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """One command to its end, as this user, in the root folder (ours may be closed to it)."""
        user = {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL, **user
        )

    def can_enter(self, folder: Path) -> bool:
        """Asked of the kernel, by trying: modes alone don't tell (access lists, mounts)."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], timeout_s=10).returncode == 0

    def can_run(self, program: Path) -> bool:
        try:
            return self.run([str(program), "--version"], timeout_s=10).returncode == 0
        except OSError:
            return False


def database_account() -> Account:
    """Ourselves; for root the unprivileged user. Raises Refusal where that user has no passwd entry."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwnam(UNPRIVILEGED) if uid == 0 else pwd.getpwuid(uid)
    except KeyError:
        who = f"the user {UNPRIVILEGED}" if uid == 0 else f"the user with uid {uid}"
        raise Refusal(f"PostgreSQL can't run here: {who} has no entry in the passwd file.") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
