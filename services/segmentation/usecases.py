"""What more than one trigger asks for: evaluate some profiles, all of them, cut quintiles, define, preview, explain."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Histogram

from chassis import context
from chassis.errors import Conflict, NotFound, Reason, Unavailable
from services.segmentation.clients import ProfilesClient, Row, fact_of
from services.segmentation.domain import (
    RFM_FEATURES,
    Change,
    Condition,
    Cuts,
    Definition,
    Facts,
    Finding,
    Plan,
    RfmValue,
    Use,
    changes,
    check,
    check_new_definition,
    cuts_of,
    features_of,
    matches,
    rfm_value_of,
    traits_of,
)
from services.segmentation.store import EvaluationStore, Known, Mark, Outcome, Overtaken, SegmentStore

CHANGES: Final = Counter("rapport_segmentation_changes_total", "Memberships that began or ended.", ["kind"])
EVALUATED: Final = Counter("rapport_segmentation_evaluations_total", "Profiles that were evaluated.", [])
SWEEP_SECONDS: Final = Histogram(
    "rapport_segmentation_sweep_duration_seconds",
    "Time to evaluate every profile of a tenant.",
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0),
)
ATTEMPTS: Final = 5
MAX_SEGMENTS: Final = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """What an evaluation of every profile came to. `at`: the tenant's clock at its end."""

    profile_count: int
    entered_count: int
    exited_count: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Preview:
    """How many of how many profiles a condition holds, at the tenant's clock."""

    member_count: int
    profile_count: int
    at: datetime


class Memberships:
    """Keeps who is in what, for the tenant of the present call.

    What was computed is saved only while nobody else has written since the plan was loaded (its turn); within a process
    a lock for each tenant makes this rare. So no older view of a profile ever replaces a newer one.
    """

    def __init__(self, store: EvaluationStore, profiles: ProfilesClient) -> None:
        self._store = store
        self._profiles = profiles
        self._writing = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._sweeping = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def evaluate(self, refs: Sequence[str], marks: Sequence[Mark] = ()) -> tuple[datetime, Sequence[Change]]:
        """Evaluates all segments for up to 1,000 profiles, saves what changed, and settles the marks."""
        tenant = context.tenant()
        for _ in range(ATTEMPTS):
            try:
                async with self._writing[tenant]:
                    at, found = await self._evaluate(tenant, refs, marks)
            except Overtaken:
                continue
            EVALUATED.inc(len(refs))
            for change in found:
                CHANGES.labels("entered" if change.entered else "exited").inc()
            return at, found
        raise Unavailable("the tenant's memberships are being written by others", retry_after_s=1.0)

    async def _evaluate(self, tenant: str, refs: Sequence[str], marks: Sequence[Mark]) -> tuple[datetime, Sequence[Change]]:
        loaded = await self._store.load(tenant)
        plan = loaded.plan
        at, rows = await self._profiles.features(refs, sorted(plan.features))
        moves = {UUID(row.ref): row.profile_id for row in rows if row.ref != str(row.profile_id)}
        profile_of = moves | {row.profile_id: row.profile_id for row in rows}
        known = await self._store.known(tenant, profile_of, traits=sorted(plan.traits))
        found = [change for row in _each_profile(rows) for change in _changes(plan, row, known, at)]
        if found or moves or marks:
            facts = [fact_of(change, plan.by_key[change.segment].version) for change in found]
            await self._store.save(tenant, loaded.turn, Outcome(found, facts, moves, marks))
        return at, found

    def is_sweeping(self, tenant: str) -> bool:
        """Whether every profile of the tenant is being evaluated by this process."""
        return self._sweeping[tenant].locked()

    async def sweep(self) -> Swept:
        """Evaluates every profile. One sweep of a tenant at a time; the next waits for it."""
        async with self._sweeping[context.tenant()]:
            return await self._sweep(with_cuts=False)

    async def recompute(self) -> Swept:
        """Cuts the RFM quintiles anew, then evaluates every profile."""
        async with self._sweeping[context.tenant()]:
            await self._cut()
            return await self._sweep(with_cuts=True)

    async def _sweep(self, *, with_cuts: bool) -> Swept:
        tenant = context.tenant()
        with SWEEP_SECONDS.time():
            turn = (await self._store.load(tenant)).turn
            at: datetime | None = None
            profiles = entered = exited = 0
            async for refs in self._profiles.pages():
                at, found = await self.evaluate(refs)
                profiles += len(refs)
                entered += sum(change.entered for change in found)
                exited += sum(not change.entered for change in found)
            at = at or await self._profiles.now()
            await self._store.finish_sweep(tenant, turn, at, with_cuts=with_cuts)
        return Swept(profiles, entered, exited, at)

    async def _cut(self) -> Cuts:
        tenant = context.tenant()
        at: datetime | None = None
        values: list[RfmValue] = []
        async for refs in self._profiles.pages():
            at, rows = await self._profiles.features(refs, RFM_FEATURES)
            values += [value for row in rows if (value := rfm_value_of(row.features))]
        at = at or await self._profiles.now()
        for _ in range(ATTEMPTS):
            try:
                async with self._writing[tenant]:
                    loaded = await self._store.load(tenant)
                    cuts = cuts_of(values, at=at, last=loaded.plan.cuts)
                    await self._store.save_cuts(tenant, loaded.turn, cuts)
                    return cuts
            except Overtaken:
                continue
        raise Unavailable("the tenant's memberships are being written by others", retry_after_s=1.0)


def _each_profile(rows: Sequence[Row]) -> Sequence[Row]:
    """Several references may lead to one profile."""
    return list({row.profile_id: row for row in rows}.values())


def _changes(plan: Plan, row: Row, known: Known, at: datetime) -> Iterator[Change]:
    wanted = plan.memberships(Facts(row.features, known.traits.get(row.profile_id, {})))
    return changes(row.profile_id, wanted, known.standings.get(row.profile_id, {}), known=plan.by_key, at=at)


class Definitions:
    """Makes and revises segments, for the tenant of the present call."""

    def __init__(self, store: SegmentStore, profiles: ProfilesClient) -> None:
        self._store = store
        self._profiles = profiles

    async def check(self, condition: Condition, plan: Plan) -> None:
        """Raises InvalidArgument where a condition is not well formed or names what there is not."""
        features = await self._profiles.feature_names(wanted=features_of(condition))
        check(condition, features=features, segments=plan.by_key.keys())

    async def create(self, definition: Definition, condition: Condition) -> bool:
        """False where the same is there. Raises Conflict where another of that key is."""
        tenant = context.tenant()
        async for turn, plan in self._turns(tenant):
            if definition.key not in plan.by_key and len(plan.by_key) >= MAX_SEGMENTS:
                raise Conflict(f"a tenant has at most {MAX_SEGMENTS} segments", reason=Reason.TOO_MANY_SEGMENTS)
            check_new_definition(definition.key, condition, plan)
            await self.check(condition, plan)
            try:
                return await self._store.add(tenant, definition, turn=turn, actor=context.current().actor)
            except Overtaken:
                continue
        raise _contended()

    async def revise(self, key: str, condition: Condition, use: Use | None) -> bool:
        """False where the segment has that condition. Raises NotFound."""
        tenant = context.tenant()
        async for turn, plan in self._turns(tenant):
            if key not in plan.by_key:
                raise NotFound("there is no such segment", reason=Reason.NOT_FOUND, field="key")
            check_new_definition(key, condition, plan)
            await self.check(condition, plan)
            try:
                return await self._store.revise(tenant, key, condition, use, turn=turn, actor=context.current().actor)
            except Overtaken:
                continue
        raise _contended()

    async def _turns(self, tenant: str) -> AsyncIterator[tuple[int, Plan]]:
        for _ in range(ATTEMPTS):
            yield await self._store.plan(tenant)


def _contended() -> Unavailable:
    return Unavailable("the tenant's memberships are being written by others", retry_after_s=1.0)


class Inquiries:
    """Evaluates without writing, for the tenant of the present call."""

    def __init__(self, store: EvaluationStore, profiles: ProfilesClient) -> None:
        self._store = store
        self._profiles = profiles

    async def preview(self, condition: Condition, plan: Plan) -> Preview:
        """Over all profiles. The condition is well formed."""
        needed = plan.around(condition)
        names, traits = _read(needed, condition)
        at: datetime | None = None
        members = profiles = 0
        async for refs in self._profiles.pages():
            at, facts = await self._facts(refs, names, traits)
            members += sum(matches(condition, each, memberships=needed.memberships(each)) for each in facts.values())
            profiles += len(facts)
        return Preview(members, profiles, at or await self._profiles.now())

    async def explain(self, key: str, ref: str, plan: Plan) -> tuple[bool, Sequence[Finding]]:
        """(whether the profile is in the segment now, what decided it). Raises NotFound for an unknown segment or profile."""
        if key not in plan.by_key:
            raise NotFound("there is no such segment", reason=Reason.NOT_FOUND, field="key")
        _, facts = await self._facts([ref], sorted(plan.features), sorted(plan.traits))
        if not facts:
            raise NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field="profile_id")
        found = list(plan.why(key, next(iter(facts.values()))))
        return found[0].held, found

    async def _facts(
        self, refs: Sequence[str], names: Sequence[str], traits: Sequence[str]
    ) -> tuple[datetime, Mapping[UUID, Facts]]:
        at, rows = await self._profiles.features(refs, names)
        profile_of = {row.profile_id: row.profile_id for row in rows}
        known = await self._store.known(context.tenant(), profile_of, traits=traits, with_standings=False)
        return at, {row.profile_id: Facts(row.features, known.traits.get(row.profile_id, {})) for row in rows}


def _read(plan: Plan, condition: Condition) -> tuple[list[str], list[str]]:
    """Names of all features and traits that a condition needs. One feature at least: it is how a profile is found."""
    features = sorted(plan.features | features_of(condition)) or list(RFM_FEATURES[:1])
    return features, sorted(plan.traits | traits_of(condition))
