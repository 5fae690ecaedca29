"""Works off one job: `python -m services.profiles.imports.run <tenant> <job> <owner>`, started by `manage`.

A process of its own: reading and taking millions of rows would leave the serving one no time, and Arrow takes memory. After
each batch it says on stdout what became of the rows, and goes on when it is told to on stdin; where stdin ends, so does it.

A batch is noted before it is taken (how many rows, and the time under which they are received) and counted afterwards. After a
crash the same rows are taken again under the same time: those whose receipts bear that time were accepted the first time.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from chassis import context, telemetry
from chassis.errors import Error, InvalidArgument, Reason, Unavailable
from chassis.settings import read
from services.profiles.domain.clock import moment_of
from services.profiles.domain.validate import MAX_BATCH
from services.profiles.erase import LOOK_S
from services.profiles.imports.manage import LEASE_S, NOT_NOW, Said
from services.profiles.imports.mapping import read_mapping
from services.profiles.imports.rows import Batches, Row, body_of, csv_rows, identifying, json_rows
from services.profiles.imports.spool import SealedFile, Spool, binding
from services.profiles.ingest import Ingest, Receipt, ReceiptStatus, Submission
from services.profiles.main import opened, parts_of
from services.profiles.settings import Settings
from services.profiles.store.erasures import ErasureStore
from services.profiles.store.imports import Claim, ImportStore, JobRow, RowRejection, Step
from services.profiles.tenancy import Tenant
from services.profiles.vault import Unreadable, open_sealed

_NICE: Final = 10
_STATUSES: Final = ("accepted", "duplicate", "rejected", "quarantined")


class Lost(Exception):
    """The job is another process's by now."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that can be read: its rows, and up to which place there are some."""

    batches: Batches
    total: int


@dataclass(slots=True)
class Tally:
    """What became of the rows of one batch."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    rejections: list[RowRejection] = field(default_factory=list[RowRejection])

    def add(self, status: str, reason: str = "") -> None:
        self.counts[status, reason] += 1

    def reject(self, row_number: int, error: InvalidArgument) -> None:
        self.add("rejected", error.reason.name)
        self.rejections.append(RowRejection(row_number, error.reason.name, error.field, error.message))

    def of(self, status: str) -> int:
        return sum(count for (its, _), count in self.counts.items() if its == status)


class Run:
    """One job, from where it stands to its end."""

    def __init__(self, store: ImportStore, ingest: Ingest, tenant: Tenant, spool: Spool, claim: Claim) -> None:
        self._store = store
        self._ingest = ingest
        self._tenant = tenant
        self._spool = spool
        self._claim = claim
        self._began = time.monotonic()
        self._count = 0

    async def carry_out(self, pause: Callable[[Tally], None]) -> None:
        """`pause` is told of each batch, and returns when the next may be taken. Raises Lost."""
        job = await self._store.find(self._claim.tenant_id, self._claim.job_id)
        if job is None or job.state != "running":
            raise Lost
        try:
            cipher = self._tenant.keys.unwrap(job.job_id, job.wrapped_key or b"")
            bound = binding(job.tenant_id, job.job_id)
            mapping = open_sealed(cipher, job.mapping, bound)
            with SealedFile(self._spool.path(job.tenant_id, job.job_id), cipher, bound, job.size_bytes) as file:
                opened = await asyncio.to_thread(self._open, job, file, mapping)
                cancelled = await self._read(job, opened, pause)
            if cancelled:
                await self._end("cancelled")
            else:
                await self._check(opened.total)
        except InvalidArgument as error:
            await self._end("failed", reason=error.reason, field_=error.field, message=error.message)
        except (Unreadable, FileNotFoundError):
            message = "the file cannot be opened: it is gone, or its key is another one"
            await self._end("failed", reason=Reason.INTERNAL, message=message)

    def _open(self, job: JobRow, file: SealedFile, mapping: bytes) -> Opened:
        identify = identifying(self._tenant.keys, job.source)
        if job.format == "jsonl":
            return Opened(Batches(json_rows(file, job.place, identify)), job.size_bytes)
        if job.format == "csv":
            return Opened(Batches(csv_rows(file, job.place, read_mapping(mapping), identify)), job.size_bytes)
        from services.profiles.imports.parquet import ParquetRows

        parquet = ParquetRows(file, read_mapping(mapping), identify)
        return Opened(Batches(parquet.rows(job.place)), parquet.total)

    async def _read(self, job: JobRow, opened: Opened, pause: Callable[[Tally], None]) -> bool:
        """Whether it was cancelled."""
        row_number = job.row_count
        # What was noted and not counted is in doubt: the same rows come first, under the same time.
        in_doubt, received_us = job.planned_us is not None, job.planned_us or time.time_ns() // 1_000
        rows = await asyncio.to_thread(opened.batches.take, job.planned_rows or MAX_BATCH)
        cancelled = await self._step(rows, received_us, opened.total, tally=Tally())
        while rows and not cancelled:
            reading = asyncio.create_task(asyncio.to_thread(opened.batches.take))
            try:
                tally = await self._take(rows, row_number, received_us, in_doubt=in_doubt)
            finally:
                following = await asyncio.gather(reading, return_exceptions=True)
            read, place, in_doubt = len(rows), rows[-1].place, False
            row_number, self._count = row_number + read, self._count + read
            received_us = max(received_us + 1, time.time_ns() // 1_000)
            rows = following[0] if isinstance(following[0], list) else []
            cancelled = await self._step(rows, received_us, opened.total, read=read, place=place, tally=tally)
            await asyncio.to_thread(pause, tally)
            if isinstance(following[0], BaseException):
                raise following[0]
        return cancelled

    async def _step(
        self, rows: Sequence[Row], received_us: int, total: int, *, read: int = 0, place: int | None = None, tally: Tally
    ) -> bool:
        """`rows` come next; `read` were taken before them, up to `place`. Whether the job is to be cancelled."""
        counts = {status: tally.of(status) for status in _STATUSES}
        step = Step(
            planned_rows=len(rows) or None,
            planned_us=received_us if rows else None,
            total=total,
            place=place,
            rows=read,
            rows_per_s=self._count / max(time.monotonic() - self._began, 1e-3),
            rejections=tally.rejections,
            **counts,
        )
        if (cancelled := await self._store.step(self._claim, step, LEASE_S)) is None:
            raise Lost
        return cancelled

    async def _take(self, rows: Sequence[Row], row_number: int, received_us: int, *, in_doubt: bool) -> Tally:
        tally = Tally()
        numbered = [(row_number + position, row.call) for position, row in enumerate(rows, 1)]
        calls = [(number, call) for number, call in numbered if isinstance(call, bytes)]
        for number, call in numbered:
            if isinstance(call, InvalidArgument):
                tally.reject(number, call)
        receipts = await self._receipts([call for _, call in calls], received_us) if calls else []
        received, seen = moment_of(received_us), set[str]()
        for (number, _), receipt in zip(calls, receipts, strict=True):
            if isinstance(receipt, InvalidArgument):
                tally.reject(number, receipt)
                continue
            status, error = receipt.status, receipt.error
            if status is ReceiptStatus.REJECTED and error is not None:
                tally.reject(number, error)
                continue
            if in_doubt and receipt.first == received and receipt.message_id not in seen:
                # The first time it was new, and either accepted or held back.
                status = ReceiptStatus.QUARANTINED if error else ReceiptStatus.ACCEPTED
            seen.add(receipt.message_id)
            tally.add(status.name.lower(), error.reason.name if error and status is ReceiptStatus.QUARANTINED else "")
        return tally

    async def _receipts(self, calls: Sequence[bytes], received_us: int) -> list[Receipt | InvalidArgument]:
        (answer,), _ = await self._ingest.take(self._tenant, [Submission("import", body_of(calls), received_us)], [])
        if not isinstance(answer, InvalidArgument):
            return list(answer)
        # One row spoilt the body: each for itself, so that the others are not refused for it.
        singly = [Submission("import", body_of([call]), received_us) for call in calls]
        answers, _ = await self._ingest.take(self._tenant, singly, [])
        return [each if isinstance(each, InvalidArgument) else each[0] for each in answers]

    async def _check(self, total: int) -> None:
        """Every row has become something, and every rejection was kept: else the job has failed, whatever was taken."""
        job = await self._store.find(self._claim.tenant_id, self._claim.job_id)
        if job is None:
            raise Lost
        kept = await self._store.rejection_count(self._claim)
        if adds_up(job, kept, total):
            await self._end("succeeded")
            return
        telemetry.logger().error(
            "the sums of an import do not add up", job=str(job.job_id), rows=job.row_count, rejections=kept, place=job.place
        )
        await self._end("failed", reason=Reason.INTERNAL, message="the sums do not add up: rows were lost or counted twice")

    async def _end(self, state: str, *, reason: Reason | None = None, field_: str = "", message: str = "") -> None:
        if not await self._store.finish(
            self._claim, state, reason=reason.name if reason else "", field=field_, message=message
        ):
            raise Lost
        self._spool.remove(self._claim.tenant_id, self._claim.job_id)


def adds_up(job: JobRow, rejections_kept: int, total: int) -> bool:
    """Whether every row that was read has one fate, and every rejection was kept."""
    fates = job.accepted_count + job.duplicate_count + job.rejected_count + job.quarantined_count
    is_whole = job.format != "parquet" or job.place == job.row_count == total
    return is_whole and job.row_count == fates and job.rejected_count == rejections_kept


async def _let_go(erasures: ErasureStore, tenant: Tenant) -> None:
    """Runs for ever: this process too remembers no keys that are about to be destroyed."""
    while True:
        with suppress(Unavailable):
            rows = [row for row in await erasures.open() if row.tenant_id == tenant.tenant_id]
            tenant.keys.bar(frozenset(node_id for row in rows for node_id in row.node_ids))
        await asyncio.sleep(LOOK_S)


async def _main(settings: Settings, claim: Claim, pause: Callable[[Tally], None]) -> None:
    with context.use(tenant=claim.tenant_id, request_id=context.new_request_id(), actor="import"):
        async with opened(settings) as database:
            assembled = parts_of(settings, database)
            if (tenant := await assembled.tenants.find(claim.tenant_id)) is None:
                raise Lost
            run = Run(ImportStore(database), assembled.ingest, tenant, Spool(Path(settings.import_folder)), claim)
            letting_go = asyncio.create_task(_let_go(ErasureStore(database), tenant))
            try:
                await run.carry_out(pause)
            finally:
                letting_go.cancel()


def main() -> None:
    """Entry point. Exit code 3: not now, but perhaps later."""
    tenant_id, job_id, owner = sys.argv[1:]
    os.nice(_NICE)
    # What anybody prints goes to the log's place, not into the conversation.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    settings = read(Settings)
    telemetry.configure_logs("profiles", settings.log_level)

    def pause(tally: Tally) -> None:
        rows = [(status, reason, count) for (status, reason), count in tally.counts.items()]
        answers.write(msgspec.json.encode(Said(rows)) + b"\n")
        if not os.read(0, 1):  # unbuffered: a reader that waits must not hold up the end of the process
            os._exit(NOT_NOW)  # who started this is gone; the batch is counted, and another goes on

    try:
        asyncio.run(_main(settings, Claim(tenant_id, UUID(job_id), owner), pause))
    except (Lost, Error, BrokenPipeError) as error:
        telemetry.logger().warning("an import is interrupted", job=job_id, error=type(error).__name__)
        sys.exit(NOT_NOW)


if __name__ == "__main__":
    main()
