"""Works off match runs: `python -m services.profiles.match [--tenant <tenant> [--accept-from 0.99]]`.

A process of its own: what people are called is decrypted in its memory only, and goes with it; the matcher's database writes to
no disk. With a tenant it queues a run of that tenant first. What it writes are profile ids, weights and the names of levels.
"""

import argparse
import asyncio
import os
import sys
import threading
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from chassis import context, telemetry
from chassis.errors import Conflict, NotFound, Unavailable
from chassis.settings import read
from ml.matching.columns import Role
from ml.matching.engine import Matched, NotEnoughData, Source, deduplicate
from services.profiles.domain.matching import (
    COLUMNS,
    MAX_PEOPLE,
    SUGGEST_FROM,
    Said,
    Suggested,
    compared,
    two_of,
    worth_a_look,
)
from services.profiles.jsontext import loads
from services.profiles.main import deciding, opened, parts_of
from services.profiles.matching import MAX_ATTEMPTS, Matching
from services.profiles.people import People
from services.profiles.settings import Settings
from services.profiles.store.matching import MatchStore, RunRow, SealedTraits
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.vault import Unreadable, open_sealed

LEASE_S: Final = 3_600.0
ACTOR: Final = "match-run"
_PAGE: Final = 1_000
_ROLES: Final = {column: Role(column) for column in COLUMNS}


class Runs:
    """Works off one run after another."""

    def __init__(self, store: MatchStore, tenants: Tenants, people: People, matching: Matching, owner: str) -> None:
        self._store = store
        self._tenants = tenants
        self._people = people
        self._matching = matching
        self._owner = owner

    async def work_off(self) -> int:
        """Until none is queued; how many there were."""
        count = 0
        while run := await self._store.claim(self._owner, LEASE_S, MAX_ATTEMPTS):
            count += 1
            with context.use(tenant=run.tenant_id, request_id=str(run.run_id), actor=ACTOR):
                await self._carry_out(run)
        return count

    async def _carry_out(self, run: RunRow) -> None:
        if (tenant := await self._tenants.find(run.tenant_id)) is None:
            await self._store.finish(run, self._owner, "failed", message="the tenant is no more")
            return
        records = await self._records(tenant)
        if len(records) > MAX_PEOPLE:
            message = f"there are more than {MAX_PEOPLE} people, which is more than one run holds"
            await self._store.finish(run, self._owner, "failed", people=len(records), message=message)
            return
        try:
            matched = await asyncio.to_thread(_match, records)
        except NotEnoughData as lack:
            message = f"not enough data: {lack}"
            await self._store.finish(run, self._owner, "not_enough_data", people=len(records), message=message)
            return
        decided, parted = await self._store.decided(run.tenant_id)
        suggested = worth_a_look(_suggested(matched), decided, parted)
        await self._store.suggest(run.tenant_id, run.run_id, suggested)
        accepted = await self._accept(tenant, run) if run.accept_from is not None else 0
        await self._store.finish(
            run, self._owner, "succeeded", people=len(records), suggested=len(suggested), accepted=accepted
        )

    async def _records(self, tenant: Tenant) -> dict[UUID, dict[str, str]]:
        """What can be compared of each identified person of whom there is something."""
        records: dict[UUID, dict[str, str]] = {}
        after = UUID(int=0)
        while len(records) <= MAX_PEOPLE and (page := await self._store.people(tenant.tenant_id, after, _PAGE)):
            after = page[-1]
            rows = await self._store.sealed(tenant.tenant_id, page)
            for profile_id, traits in (await self._opened(tenant, rows)).items():
                if found := compared(traits):
                    records[profile_id] = found
        return records

    async def _opened(self, tenant: Tenant, rows: Sequence[SealedTraits]) -> dict[UUID, dict[str, Any]]:
        """The newest value of each personal trait. What no key opens any more is not there."""
        ciphers = await self._people.ciphers(tenant, {row.node_id for row in rows})
        traits: dict[UUID, dict[str, Any]] = {}
        for row in rows:
            if (cipher := ciphers.get(row.node_id)) is None:
                continue
            try:
                plain = open_sealed(cipher, row.sealed, tenant.keys.of_event(row.event_id))
                traits.setdefault(row.profile_id, {}).update(loads(plain).get("traits", {}))
            except (Unreadable, msgspec.MsgspecError):
                continue
        return traits

    async def _accept(self, tenant: Tenant, run: RunRow) -> int:
        """Accepts what this run is sure of; how many."""
        before, count = (float("inf"), UUID(int=2**128 - 1)), 0
        while rows := await self._store.page(run.tenant_id, "open", 0.0, before, _PAGE):
            before = rows[-1].weight, rows[-1].suggestion_id
            for row in rows:
                if row.run_id == run.run_id and run.accept_from is not None and row.probability >= run.accept_from:
                    count += await self._accepts(tenant, row.suggestion_id, f"probability at least {run.accept_from}")
        return count

    async def _accepts(self, tenant: Tenant, suggestion_id: UUID, reason: str) -> bool:
        """False: a limit forbids it, or it is not to be seen yet; it stays open for a person."""
        try:
            await self._matching.accept(tenant, suggestion_id, reason)
        except (Conflict, NotFound, Unavailable):
            return False
        return True


def _match(records: dict[UUID, dict[str, str]]) -> Matched:
    columns = {column: [each.get(column) for each in records.values()] for column in COLUMNS}
    return deduplicate(Source(list(records), columns), _ROLES, floor=SUGGEST_FROM)


def _suggested(matched: Matched) -> Iterable[Suggested]:
    for pair in matched.pairs:
        said = [Said(each.comparison, each.level, round(each.weight, 2)) for each in pair.agreements]
        yield Suggested(two_of(pair.left, pair.right), round(pair.weight, 3), pair.probability, said)


async def work(settings: Settings, owner: str, tenant_id: str | None = None, accept_from: float | None = None) -> int:
    """Works off what is queued, after a run of `tenant_id` where one is named; how many runs there were."""
    async with opened(settings, everyone=True) as database:
        assembled = parts_of(settings, database)
        store = MatchStore(database)
        matching = deciding(database, assembled)
        if tenant_id is not None:
            if (tenant := await assembled.tenants.find(tenant_id)) is None:
                raise SystemExit("there is no such tenant")
            await matching.start(tenant, accept_from)
        return await Runs(store, assembled.tenants, assembled.people, matching, owner).work_off()


def _end_with_parent() -> None:
    """Ends this process where the one that started it is gone."""
    while os.read(0, 4096):  # unbuffered: a reader that waits must not hold up the end of the process
        pass
    os._exit(1)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Works off match runs.")
    parser.add_argument("--tenant", help="queue a run of this tenant first")
    parser.add_argument("--accept-from", type=float, help="accept suggestions from this probability on")
    parser.add_argument("--owner", help="set by the service that starts this: it ends with it")
    asked = parser.parse_args()
    if asked.owner:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    settings, code = read(Settings), 0
    try:
        telemetry.configure_logs("profiles", settings.log_level)
        runs = asyncio.run(work(settings, asked.owner or uuid.uuid4().hex, asked.tenant, asked.accept_from))
        telemetry.logger().info("match runs worked off", runs=runs)
    except Exception as error:
        # No traceback and no message: either may hold what people are called.
        telemetry.logger().error("the match runs failed", kind=type(error).__name__)
        code = 1
    # Past the interpreter's own end: a thread is still reading, and DuckDB's bindings complain of what they find alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
