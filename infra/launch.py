"""Becomes another program, as another user and bound to its parent's life. Run as a script, never imported.

    python -I -S launch.py <parent pid> <signal number> <niceness> <uid or -> <gid or -> <program> [argument ...]

A script and not a `preexec_fn`: that one runs Python between fork and exec, which may deadlock where the parent has threads.
The kernel sends the signal when the thread that started us ends, however it ends, so nothing outlives a killed supervisor.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def drop_to(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def bind_to_parent(parent: int, signal_number: int) -> None:
    """After the drop of the uid, which clears the setting. The second look closes the gap before the first."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"prctl failed with errno {ctypes.get_errno()}")
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


def main(arguments: list[str]) -> None:
    parent, signal_number, niceness, uid, gid, *command = arguments
    os.nice(int(niceness))
    if uid != "-":
        drop_to(int(uid), int(gid))
    bind_to_parent(int(parent), int(signal_number))
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
