"""Starts the processes of import jobs, one after another, and holds them back while others are being served."""

import asyncio
import subprocess
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
from prometheus_client import Counter, Gauge

from chassis import telemetry
from chassis.errors import Reason, Unavailable
from services.profiles import child
from services.profiles.imports.spool import Spool
from services.profiles.ingest import EVENTS
from services.profiles.precedence import Precedence
from services.profiles.store.imports import Claim, ImportStore

# Jobs at a time, in this process.
WORKERS: Final = 2
# A job whose process died without a word is taken over so much later; longer than any batch takes.
LEASE_S: Final = 15.0
POLL_S: Final = 1.0
TIDY_S: Final = 60.0
# An upload that stood still for so long was given up.
ABANDONED_S: Final = 600.0
KEPT_DAYS: Final = 30
MAX_ATTEMPTS: Final = 5
# Events that may wait to be projected before an import waits for them, and for how long it does so at a time.
MAX_LAG: Final = 25_000
PATIENCE_S: Final = 2.0
_LOOK_S: Final = 0.1
# A process's exit code: nothing is wrong with the job, somebody may go on with it.
NOT_NOW: Final = 3

ROWS: Final = Counter("rapport_profiles_import_rows_total", "Rows of import jobs by what became of them.", ["status"])
RUNNING: Final = Gauge("rapport_profiles_import_running_jobs", "Import jobs that this process works on.")
CRASHES: Final = Counter("rapport_profiles_import_crashes_total", "Processes of import jobs that died.")


class Said(msgspec.Struct):
    """What a job's process says after each batch: rows by (status, reason)."""

    rows: list[tuple[str, str, int]]


_said: Final = msgspec.json.Decoder(Said).decode


class Jobs:
    """The background work. Any number of replicas: a job is worked on by who has its lease."""

    def __init__(
        self,
        store: ImportStore,
        spool: Spool,
        environment: Mapping[str, str],
        precedence: Precedence,
        lag: Callable[[], Awaitable[int]],
    ) -> None:
        """`environment`: the settings of the process, as RAPPORT_PROFILES_<FIELD>. `lag`: events that are not projected yet."""
        self._store = store
        self._spool = spool
        self._environment = environment
        self._precedence = precedence
        self._lag = lag
        self._arrived = asyncio.Event()

    def wake(self) -> None:
        """There is a job."""
        self._arrived.set()

    async def work(self) -> None:
        """Runs for ever: one job at a time."""
        while True:
            try:
                claim = await self._store.claim(uuid.uuid4().hex, LEASE_S)
            except Unavailable:
                claim = None
            if claim is not None:
                await self._carry_out(claim)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._arrived.wait()
            self._arrived.clear()

    async def tidy(self) -> None:
        """Runs for ever: removes what no job needs."""
        while True:
            with suppress(Unavailable):
                await self.tidy_once()
            await asyncio.sleep(TIDY_S)

    async def tidy_once(self) -> None:
        """Uploads that were given up, files of jobs that are over, jobs of long ago."""
        for tenant_id, job_id in await self._store.uploads(ABANDONED_S):
            idle_s = await asyncio.to_thread(self._spool.idle_s, tenant_id, job_id)
            if (idle_s is None or idle_s > ABANDONED_S) and await self._store.delete_upload(tenant_id, job_id):
                self._spool.remove(tenant_id, job_id)
        for tenant_id, job_id in await asyncio.to_thread(lambda: list(self._spool.files())):
            job = await self._store.find(tenant_id, job_id)
            if job is None or job.ended is not None:
                self._spool.remove(tenant_id, job_id)
        await self._store.forget(KEPT_DAYS)

    async def _carry_out(self, claim: Claim) -> None:
        """From here on as far as its process gets."""
        if claim.attempts > MAX_ATTEMPTS:
            message = f"the job's process died {MAX_ATTEMPTS} times at the same place"
            with suppress(Unavailable):
                await self._store.finish(claim, "failed", reason=Reason.INTERNAL.name, message=message)
                self._spool.remove(claim.tenant_id, claim.job_id)
            return
        process = self._start(claim)
        code: int | None = None
        RUNNING.inc()
        try:
            await self._converse(process)
            code = await asyncio.to_thread(process.wait)
        finally:
            RUNNING.dec()
            process.kill()
            await asyncio.to_thread(process.wait)
            with suppress(Unavailable):
                await self._store.release(claim)
            _close(process)
        if code:
            CRASHES.inc()
            telemetry.logger().error("the process of an import ended", tenant=claim.tenant_id, job=str(claim.job_id), code=code)
            await asyncio.sleep(POLL_S)

    async def _converse(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        while line := await asyncio.to_thread(process.stdout.readline):
            for status, reason, count in _said(line).rows:
                ROWS.labels(status).inc(count)
                EVENTS.labels(status, reason).inc(count)
            await self._wait()
            try:
                process.stdin.write(b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                return

    async def _wait(self) -> None:
        """Until nobody else is being served, and what was taken is nearly projected; not for long."""
        await self._precedence.wait(0.0)
        with suppress(Unavailable):
            for _ in range(round(PATIENCE_S / _LOOK_S)):
                if await self._lag() <= MAX_LAG:
                    return
                await asyncio.sleep(_LOOK_S)

    def _start(self, claim: Claim) -> subprocess.Popen[bytes]:
        # Where this process ends, the other reads the end of its stdin and does too.
        about = (claim.tenant_id, str(claim.job_id), claim.owner)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return child.start("imports.run", *about, environment=self._environment, **pipes)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
