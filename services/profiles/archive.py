"""Starts exports: each in a short-lived process of its own."""

import asyncio
import os
import subprocess
import sys

import msgspec

from chassis import telemetry


class Exported(msgspec.Struct, frozen=True):
    """What services.profiles.export answers with."""

    path: str
    event_count: int
    digest: str
    through_us: int


class Archive:
    """The Parquet archive."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment`: the settings of the process, as RAPPORT_PROFILES_<FIELD>."""
        self._environment = environment

    async def export(self, tenant_id: str) -> Exported:
        """Brings the tenant's archive up to date. Ends the process where nobody waits for it any more."""
        process = self._start(tenant_id)
        try:
            answer, complaint = await asyncio.to_thread(process.communicate)
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode != 0:
            telemetry.logger().error(
                "an export failed", code=process.returncode, output=complaint.decode(errors="replace")[-2000:]
            )
            raise RuntimeError("the export failed")
        return msgspec.json.decode(answer, type=Exported)

    def _start(self, tenant_id: str) -> subprocess.Popen[bytes]:
        # Not the loop's own subprocesses: uvloop forks, and the child dies in gRPC's handlers. This is a vfork.
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "services.profiles.export", tenant_id],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
