"""Builds all projections anew beside the live ones, and puts them in their place: `python -m services.profiles.rebuild`.

    (nothing)        replays all of the log into profiles_next, catches up, swaps the tables
    --compare        the same, but compares the tables with the live ones row by row instead of the swap
    --from, --until  only what was received in between, for somebody to look at; never swapped
    --drop           removes what one of these left

Started again after a kill it goes on where it was. It writes as the service does (RAPPORT_PROFILES_DATABASE_URL), and makes
and moves tables as their owner (RAPPORT_MIGRATE_URL). Nothing is appended to the log: what merges were announced is in it.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chassis import telemetry
from chassis.db import Connection, Database, connect
from chassis.log import Cursor, Handle, Log, Position, PostgresLog, Reader, Record
from chassis.process import carry_out
from chassis.settings import read
from services.profiles.archived import ArchivedLog, Damaged
from services.profiles.precedence import Precedence
from services.profiles.project import Projector
from services.profiles.settings import Settings
from services.profiles.store.exports import Place
from services.profiles.store.projection import ProjectionStore
from services.profiles.store.rebuild import NEXT, Compared, Erased, NotCopied, RebuildStore, Stretch
from services.profiles.store.retention import RetentionStore
from services.profiles.store.tenants import TenantStore
from services.profiles.tenancy import Tenants
from services.profiles.vault import Vault, read_master_key

# So near to the live projector that the rest takes moments, while that one waits.
NEAR: Final = 2_000
ATTEMPTS: Final = 300
_PAUSE_S: Final = 1.0
_BATCH: Final = 1_000
_SAY_S: Final = 5.0


class Failed(Exception):
    """It can't go on; the text says why, and what to do."""


class Until:
    """A log that ends at a place."""

    def __init__(self, log: Log, end: Place) -> None:
        self._log = log
        self._end = end

    async def read(self, xid: int, seq: int, limit: int) -> Sequence[Record]:
        return [each for each in await self._log.read(xid, seq, limit) if Place(each.xid, each.seq) <= self._end]

    async def lag(self, xid: int, seq: int) -> int:
        return await self._log.lag(xid, seq)


class Progress:
    """A line of the log every few seconds: how many rows, how fast, how long still."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._said = time.monotonic()
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._said >= _SAY_S:
            self._said = now
            self.say(now)

    def say(self, now: float | None = None) -> None:
        seconds = (now or time.monotonic()) - self._started
        rate = self.done / seconds if seconds else 0.0
        left = max(0, self._total - self.done)
        telemetry.logger().info(
            "replaying",
            rows=self.done,
            total=self._total,
            percent=round(100 * self.done / self._total) if self._total else 100,
            rows_per_s=round(rate),
            seconds_left=round(left / rate) if rate else None,
        )


@dataclass(frozen=True, slots=True)
class Rebuild:
    """`database` writes the new tables, with the service's rights; `share` is that of the time in which it works."""

    store: RebuildStore
    retention: RetentionStore
    database: Database
    tenants: Tenants
    archive: Path
    share: float = 1.0

    async def swap(self) -> int:
        """Puts new tables in the place of the live ones; how many rows were replayed. Raises Failed."""
        await self._made(Stretch())
        progress = await self._catch_up(Stretch())
        await self.store.analyse()
        for _ in range(ATTEMPTS):
            async with self._level(progress) as connection:
                try:
                    if await self.store.swap(connection):
                        break
                except Erased:
                    raise Failed("somebody was erased meanwhile; remove the new tables with --drop and start again") from None
            await asyncio.sleep(_PAUSE_S)
        else:
            raise Failed("somebody reads for so long that the tables could not be swapped; start it again at a quieter time")
        await self.store.drop()
        return progress.done

    async def compare(self) -> Sequence[Compared]:
        """Builds new tables, and compares them with the live ones of the same instant."""
        await self._made(Stretch())
        progress = await self._catch_up(Stretch())
        async with AsyncExitStack() as stack:
            async with self._level(progress):
                connection = await stack.enter_async_context(self.store.snapshot())
            return await self.store.compare(connection)

    async def replay(self, stretch: Stretch) -> int:
        """Only what was received then; the tables stay in profiles_next."""
        await self._made(stretch)
        return (await self._catch_up(stretch)).done

    async def _made(self, stretch: Stretch) -> None:
        try:
            found = await self.store.make(stretch)
        except NotCopied as error:
            raise Failed(f"these tables have triggers or references that would be lost: {error}") from None
        if found != stretch:
            raise Failed(f"{NEXT} holds another stretch of the log; remove it with --drop")

    async def _catch_up(self, stretch: Stretch) -> Progress:
        """What was moved to the archive first, then the log, up to where the live projector is now."""
        place, done = await self.store.place(self.store.live), await self.store.place(self.store.next)
        floors = await self.retention.floors()
        archived = sum([await self.retention.archived_count(tenant_id) for tenant_id in floors]) if done == Place(0, 0) else 0
        progress = Progress(archived + await self.store.total(done, place))
        for tenant_id, floor in floors.items():
            await self._replay_archive(tenant_id, floor, done, stretch, progress)
        await self._replay(place, stretch, progress)
        progress.say()
        return progress

    @asynccontextmanager
    async def _level(self, progress: Progress) -> AsyncGenerator[Connection]:
        """The live projector waits, and the new tables are where its own are."""
        for _ in range(ATTEMPTS):
            await self._near(progress)
            async with self.store.holding() as (connection, place):
                if place is not None:
                    await self._replay(place, Stretch(), progress)
                    yield connection
                    return
            await asyncio.sleep(_PAUSE_S)
        raise Failed("the partitions of Kafka are never at one place; let profiles follow PostgreSQL meanwhile")

    async def _near(self, progress: Progress) -> None:
        for _ in range(ATTEMPTS):
            place, done = await self.store.place(self.store.live), await self.store.place(self.store.next)
            if await self.store.total(done, place) <= NEAR:
                return
            await self._replay(place, Stretch(), progress)
        raise Failed("events come faster than they are replayed; give it a greater --share")

    async def _replay_archive(self, tenant_id: str, floor: Place, done: Place, stretch: Stretch, progress: Progress) -> None:
        """The part of a tenant's log that is no longer in the table. What was replayed from the table is past."""
        cursor = Cursor(NEXT, f"archive of {tenant_id}")
        files = await self.retention.files(tenant_id)
        log = Until(ArchivedLog(self.archive / tenant_id, tenant_id, files, after=done), floor)
        await self._follow(cursor, log, stretch, progress)

    async def _replay(self, upto: Place, stretch: Stretch, progress: Progress) -> None:
        """Ends at this very place, where the live projector was: the event there may have gone to the archive since."""
        await self._follow(self.store.next, Until(PostgresLog(self.database), upto), stretch, progress)
        place = await self.store.place(self.store.next)
        if place < upto:
            position = Position(place.xid, place.seq, upto.xid, upto.seq)
            await ProjectionStore(self.database, self.store.next, announces=False).save([], position, _nothing)

    async def _follow(self, cursor: Cursor, log: Log, stretch: Stretch, progress: Progress) -> None:
        handle = self._handle(cursor, stretch)
        reader = Reader(self.database, cursor, log=log, batch=_BATCH)
        while True:
            started = time.monotonic()
            if not (count := await reader.step(handle)):
                return
            progress.add(count)
            if self.share < 1:
                await asyncio.sleep((time.monotonic() - started) * (1 - self.share) / self.share)

    def _handle(self, cursor: Cursor, stretch: Stretch) -> Handle:
        store = ProjectionStore(self.database, cursor, announces=False)
        projector = Projector(store, self.tenants, Precedence())

        async def handle(records: Sequence[Record], position: Position) -> None:
            if kept := [record for record in records if stretch.holds(record.received_at)]:
                await projector.handle(kept, position)
            else:
                await store.save([], position, _nothing)

        return handle


def _nothing(_tenant_id: str, _found: object) -> tuple[()]:
    return ()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Builds all projections of profiles anew from the log.")
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--compare", action="store_true", help="compare with the live tables instead of taking their place")
    does.add_argument("--drop", action="store_true", help="remove what is beside the live tables")
    parser.add_argument("--from", dest="received_from", type=_moment, metavar="INSTANT", help="only what was received since")
    parser.add_argument("--until", dest="received_until", type=_moment, metavar="INSTANT", help="only what was received before")
    parser.add_argument("--share", type=float, default=0.5, help="of the time that it works; the rest is the live traffic's")
    arguments = parser.parse_args()
    stretch = arguments.received_from or arguments.received_until
    if stretch and (arguments.compare or arguments.drop):
        parser.error("--from and --until are for looking at a stretch: neither --compare nor --drop goes with them")
    if not 0 < arguments.share <= 1:
        parser.error("--share is above 0 and at most 1")
    return arguments


async def _run(arguments: argparse.Namespace, settings: Settings, owner_url: str) -> int:
    async with AsyncExitStack() as stack:
        owner = await connect(owner_url, connections=4, service="profiles-rebuild")
        stack.push_async_callback(owner.close)
        store = RebuildStore(owner)
        if not await stack.enter_async_context(store.alone()):
            raise Failed("a rebuild, or the retention of the log, is running already")
        if arguments.drop:
            sys.stdout.write("removed\n" if await store.drop() else "there was nothing to remove\n")
            return 0
        session = {"search_path": NEXT}
        database = await connect(
            settings.database_url, connections=2, service="profiles-rebuild", everyone=True, session=session
        )
        stack.push_async_callback(database.close)
        tenants = Tenants(TenantStore(database), Vault(read_master_key(Path(settings.master_key_file))))
        await tenants.check_master_key()
        archive = Path(settings.archive_folder)
        rebuild = Rebuild(store, RetentionStore(database), database, tenants, archive, arguments.share)
        return await _done(rebuild, arguments)


async def _done(rebuild: Rebuild, arguments: argparse.Namespace) -> int:
    stretch = Stretch(arguments.received_from, arguments.received_until)
    if arguments.compare:
        compared = await rebuild.compare()
        for each in compared:
            words = "equal" if each.equal else f"differs: {each.live_only} rows only live, {each.next_only} only replayed"
            sys.stdout.write(f"{each.table:<20} {each.row_count:>12} rows  {words}\n")
        equal = all(each.equal for each in compared)
        sys.stdout.write("equal\n" if equal else "not equal\n")
        await rebuild.store.drop()
        return 0 if equal else 1
    if not stretch.is_all:
        sys.stdout.write(f"{await rebuild.replay(stretch)} rows replayed into {NEXT}; remove it with --drop\n")
        return 0
    sys.stdout.write(f"{await rebuild.swap()} rows replayed; the new tables are live\n")
    return 0


def main() -> None:
    """Entry point."""
    arguments = _arguments()
    owner_url = os.environ.get("RAPPORT_MIGRATE_URL")
    if not owner_url:
        sys.exit("RAPPORT_MIGRATE_URL is not set: it is postgresql://rapport_owner:PASSWORD@HOST:PORT/rapport.")
    settings, code = read(Settings), 0

    async def work() -> None:
        nonlocal code
        try:
            code = await _run(arguments, settings, owner_url)
        except (Failed, Damaged) as error:
            telemetry.logger().error("the rebuild can't go on", detail=str(error))
            code = 1

    carry_out("profiles", settings, work())
    sys.exit(code)


if __name__ == "__main__":
    main()
