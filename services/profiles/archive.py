"""Starts exports and what else is done to the archive: each in a short-lived process of its own."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from chassis import telemetry
from services.profiles import child
from services.profiles.domain.consent import Use


class Exported(msgspec.Struct, frozen=True):
    """What services.profiles.export and select answer with."""

    path: str
    event_count: int
    digest: str
    through_us: int
    # Profiles that are left out for what they do not allow.
    withheld_count: int = 0


class Redacted(msgspec.Struct, frozen=True):
    """What services.profiles.redact answers with."""

    row_count: int
    file_count: int


class Archive:
    """The Parquet archive."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment`: the settings of the process, as RAPPORT_PROFILES_<FIELD>."""
        self._environment = environment

    async def export(self, tenant_id: str) -> Exported:
        """Brings the tenant's archive up to date. Ends the process where nobody waits for it any more."""
        return msgspec.json.decode(await self._run("export", tenant_id), type=Exported)

    async def select(self, tenant_id: str, use: Use) -> Exported:
        """The same, and a copy of it without those who do not allow a use."""
        return msgspec.json.decode(await self._run("select", tenant_id, use.purpose, use.channel), type=Exported)

    async def redact(self, tenant_id: str, node_ids: Sequence[UUID], upto: datetime) -> Mapping[str, int]:
        """Takes people's events that were received up to a time out of the tenant's archive; how many rows."""
        answer = await self._run("redact", tenant_id, upto.isoformat(), *map(str, node_ids))
        return {"archive": msgspec.json.decode(answer, type=Redacted).row_count}

    async def _run(self, module: str, *arguments: str) -> bytes:
        process = self._start(module, arguments)
        try:
            answer, complaint = await asyncio.to_thread(process.communicate)
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode != 0:
            said = complaint.decode(errors="replace")[-2000:]
            telemetry.logger().error("the archive could not be written", task=module, code=process.returncode, output=said)
            raise RuntimeError(f"{module} of the archive failed")
        return answer

    def _start(self, module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return child.start(module, *arguments, environment=self._environment, **pipes)
