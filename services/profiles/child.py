"""Starts a module of this package as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def start(module: str, *arguments: str, environment: Mapping[str, str] | None = None, **pipes: Any) -> subprocess.Popen[bytes]:
    """`python -m services.profiles.<module>`, with `environment` on top of ours.

    Not the loop's own subprocesses: uvloop forks, and the child dies in gRPC's handlers. This is a vfork.
    """
    command = [sys.executable, "-m", f"services.profiles.{module}", *arguments]
    return subprocess.Popen[bytes](command, env={**os.environ, **(environment or {})}, **pipes)
