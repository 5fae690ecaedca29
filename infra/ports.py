"""Free and taken ports of 127.0.0.1."""

import random
import socket
from pathlib import Path

import psutil

from infra.failure import Refusal

HOST = "127.0.0.1"


# Below those that Linux gives to outgoing connections (ip_local_port_range, from 32768), and below Kubernetes' node ports. A
# port of theirs is gone as soon as its process is away: somebody's next connection has it, even one to this very port.
# From a place of its own each time, so that two processes seldom ask for the same at once.
_ports = iter(range(random.SystemRandom().randint(10_000, 15_000), 20_000))


def free_port() -> int:
    """One that nobody holds. It stays free while the process that it is for is away, and is given once."""
    for port in _ports:
        if is_free(port):
            return port
    raise Refusal(f"No port of {HOST} below 20000 is left to give.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def refuse_taken(ports: dict[str, int]) -> None:
    """Raises Refusal for the first taken port of `ports` (by what it is for)."""
    for purpose, port in ports.items():
        if not is_free(port):
            raise Refusal(
                f"Port {port} of {HOST} ({purpose}) is taken{_by_whom(port)}: stop that, or choose others with PORT=."
            )


def _by_whom(port: int) -> str:
    """As far as /proc tells: another user's sockets have no pid."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return ""
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            return f" by process {connection.pid} ({_command(connection.pid)})"
    return " by a process of another user"


def _command(pid: int) -> str:
    try:
        program, *words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone since"
    return " ".join([Path(program).name, *words]).strip()[:60]
