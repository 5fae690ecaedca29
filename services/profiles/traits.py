"""Traits that a tenant defines: checked, compiled and tried when they are saved, computed from the events when they are read.

So a trait is there for every profile at once, with all its history, and as fresh as the timeline. All traits of a tenant
are one query, which is compiled anew when one of them changes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2

from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml.features import catalogue
from ml.features.compile import Compiled
from ml.features.definition import check, digest, leaves, reads_of
from services.profiles.aside import Aside
from services.profiles.consents import Consents
from services.profiles.domain.classify import UNDECLARED, Kind, Sort, kind_of, sort_of
from services.profiles.domain.clock import moment_of
from services.profiles.domain.consent import Use
from services.profiles.judge import Judge
from services.profiles.lookup import Lookup
from services.profiles.people import unknown_profile
from services.profiles.plans import Plans
from services.profiles.store.traits import Active, Added, TraitRow, TraitStore
from services.profiles.tenancy import Tenant, Tenants

MAX_TRAITS: Final = 50
MAX_DEFINITION_BYTES: Final = 16 * 1024
_WORDS: Final = re.compile(r"[^\x00-\x1f]{1,64}")


@dataclass(frozen=True, slots=True)
class Draft:
    """A trait to save. `owner` and `purpose` are words for people and for consent."""

    key: str
    definition: features_pb2.Feature
    owner: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Trait:
    """One version. `retired`: another one, or none, took its place."""

    key: str
    version: int
    definition: features_pb2.Feature
    owner: str
    purpose: str
    created: datetime
    digest: str
    retired: bool


@dataclass(frozen=True, slots=True)
class Computed:
    """`values` in the order of `traits`."""

    profile_id: UUID
    at: datetime
    traits: Sequence[Trait]
    values: Sequence[features_pb2.FeatureValue]


class Traits:
    """A tenant's traits, and their values."""

    def __init__(
        self, store: TraitStore, aside: Aside, lookup: Lookup, tenants: Tenants, consents: Consents, plans: Plans
    ) -> None:
        self._store = store
        self._aside = aside
        self._lookup = lookup
        self._tenants = tenants
        self._consents = consents
        self._plans = plans
        # By tenant, with the revision that they are of.
        self._compiled: dict[str, tuple[int, Sequence[Trait], Compiled]] = {}

    async def create(self, tenant: Tenant, draft: Draft) -> Trait:
        """Raises InvalidArgument, or Conflict where the key is taken or the tenant has as many as it may have."""
        draft = _checked(draft, await self._plans.judge(tenant.tenant_id))
        if draft.key in catalogue.SET_OF:
            raise Conflict("the platform has a feature of that name; choose another key", field="key")
        active = await self._store.active(tenant.tenant_id)
        if any(row.key == draft.key for row in active.rows):
            raise Conflict("there is a trait of that key; update it, or choose another key", field="key")
        if len(active.rows) >= MAX_TRAITS:
            raise Conflict(f"a tenant has at most {MAX_TRAITS} traits", reason=Reason.TOO_MANY_TRAITS, field="key")
        return await self._save(tenant, active, draft)

    async def update(self, tenant: Tenant, draft: Draft) -> Trait:
        """A new version; empty owner and purpose stay as they were. Raises NotFound, InvalidArgument, or Conflict."""
        active = await self._store.active(tenant.tenant_id)
        known = _find(active.rows, draft.key)
        draft = Draft(draft.key, draft.definition, draft.owner or known.owner, draft.purpose or known.purpose)
        draft = _checked(draft, await self._plans.judge(tenant.tenant_id))
        return await self._save(tenant, active, draft)

    async def delete(self, tenant: Tenant, key: str) -> None:
        """Its versions are kept, and no longer computed. Raises NotFound where there was never one."""
        active = await self._store.active(tenant.tenant_id)
        left = [row for row in active.rows if row.key != key]
        if len(left) == len(active.rows):
            if not await self._store.versions(tenant.tenant_id, key):
                raise _unknown()
            return
        sql = await self._compile([_trait(row).definition for row in left])
        await self._store.save(tenant.tenant_id, active.revision, sql, retired=key, added=None)

    async def get(self, tenant: Tenant, key: str) -> tuple[Trait, list[Trait]]:
        """(the one that is computed, all versions). Raises NotFound."""
        versions = [_trait(row) for row in await self._store.versions(tenant.tenant_id, key)]
        active = next((one for one in versions if not one.retired), None)
        if active is None:
            raise _unknown()
        return active, versions

    async def all(self, tenant: Tenant) -> list[Trait]:
        """Those that are computed, by key."""
        return [_trait(row) for row in (await self._store.active(tenant.tenant_id)).rows]

    async def compute(self, tenant: Tenant, ref: str, at: datetime | None) -> Computed:
        """Raises NotFound where nobody is known by it, or InvalidArgument. `at` None: the tenant's present.

        A trait whose purpose the person does not allow now has no value but CONSENT_DENIED.
        """
        if at is None:
            at = moment_of(await self._tenants.now_us(tenant))
        profile_id = await self._lookup.one(tenant, ref, at=at)
        traits, compiled = await self._current(tenant)
        if not traits:
            return Computed(profile_id, at, [], [])
        found = await self._store.compute(tenant.tenant_id, compiled.sql, profile_id, at)
        if found is None:
            raise unknown_profile("ref")
        profile_id, record = found
        (check,) = await self._consents.check_nodes(tenant, [profile_id], [Use(one.purpose) for one in traits])
        values = [
            value if is_allowed else features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_CONSENT_DENIED)
            for value, is_allowed in zip(compiled.decode(record).values, check.allowed, strict=True)
        ]
        return Computed(profile_id, at, traits, values)

    async def _current(self, tenant: Tenant) -> tuple[Sequence[Trait], Compiled]:
        """As they are in the database now: another process may have changed them."""
        known = self._compiled.get(tenant.tenant_id)
        if known is None or known[0] != await self._store.revision(tenant.tenant_id):
            active = await self._store.active(tenant.tenant_id)
            traits = [_trait(row) for row in active.rows]
            features = tuple(one.definition for one in traits)
            known = (active.revision, traits, Compiled(features, digest(features), active.sql))
            self._compiled[tenant.tenant_id] = known
        return known[1], known[2]

    async def _save(self, tenant: Tenant, active: Active, draft: Draft) -> Trait:
        versions = await self._store.versions(tenant.tenant_id, draft.key)
        others = {row.key: _trait(row).definition for row in active.rows}
        sql = await self._compile([definition for _, definition in sorted((others | {draft.key: draft.definition}).items())])
        await self._store.attempt(tenant.tenant_id, sql, moment_of(await self._tenants.now_us(tenant)))
        version = versions[0].version + 1 if versions else 1
        serialized = draft.definition.SerializeToString(deterministic=True)
        added = Added(draft.key, version, serialized, digest([draft.definition]), draft.owner, draft.purpose)
        await self._store.save(tenant.tenant_id, active.revision, sql, retired=draft.key, added=added)
        return (await self.get(tenant, draft.key))[0]

    async def _compile(self, features: Sequence[features_pb2.Feature]) -> str:
        return await self._aside.compile(catalogue_pb2.FeatureSet(features=features)) if features else ""


def _checked(draft: Draft, judge: Judge | None) -> Draft:
    """With the key as its definition's name. Raises InvalidArgument."""
    for field, text in (("owner", draft.owner), ("purpose", draft.purpose)):
        if not _WORDS.fullmatch(text):
            raise InvalidArgument(f"a trait needs its {field}: 1 to 64 characters", field=field)
    definition = features_pb2.Feature()
    definition.CopyFrom(draft.definition)
    definition.name = draft.key
    if definition.ByteSize() > MAX_DEFINITION_BYTES:
        raise InvalidArgument(f"a definition has at most {MAX_DEFINITION_BYTES // 1024} KB", field="definition")
    try:
        check([definition])
    except InvalidArgument as refusal:
        below = refusal.field.removeprefix("features").lstrip(".")
        refusal.field = "key" if below == "name" else f"definition.{below}".rstrip(".")
        raise
    _refuse_personal(definition, judge)
    return Draft(draft.key, definition, draft.owner, draft.purpose)


def _refuse_personal(definition: features_pb2.Feature, judge: Judge | None) -> None:
    """Personal properties are sealed, so nothing would ever be found: better said than silently empty."""
    for leaf in leaves(definition):
        type_ = leaf.events.type or "track"
        for read in reads_of(leaf):
            if leaf.events.names:
                is_sealed = all(_is_personal(read.property, type_, name, judge) for name in leaf.events.names)
            else:
                is_sealed = all(sort_of(read.property, kind) is Sort.PERSONAL for kind in Kind)
            if is_sealed:
                raise InvalidArgument(
                    f"{read.property} is personal: features read public properties only", field="definition.value"
                )


def _is_personal(key: str, type_: str, name: str, judge: Judge | None) -> bool:
    """Of every event of that name, by the field's own name or by the tracking plan."""
    declared = judge.classes(type_, name) if judge else UNDECLARED
    return key in declared or sort_of(key, kind_of(type_, name)) is Sort.PERSONAL


def _find(rows: Sequence[TraitRow], key: str) -> TraitRow:
    found = next((row for row in rows if row.key == key), None)
    if found is None:
        raise _unknown()
    return found


def _unknown() -> NotFound:
    return NotFound("there is no trait of that key", field="key")


def _trait(row: TraitRow) -> Trait:
    definition = features_pb2.Feature.FromString(row.definition)
    retired = row.retired_at is not None
    return Trait(row.key, row.version, definition, row.owner, row.purpose, row.created_at, row.digest, retired)
