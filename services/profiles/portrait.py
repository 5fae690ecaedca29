"""The portrait of one profile: gathered, unsealed for this answer only, and put into its blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from rapport.features.v1 import features_pb2

from ml.features import catalogue
from services.profiles.domain import classify
from services.profiles.domain.clock import moment_of
from services.profiles.domain.portrait import Entry, Known, blocks
from services.profiles.features import Features
from services.profiles.jsontext import loads
from services.profiles.lookup import Lookup
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.store.portrait import PortraitStore, SealedRow
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.vault import Unreadable, open_sealed

_UNITS: Final = {feature.name: feature.unit for feature in catalogue.FEATURES}


@dataclass(frozen=True, slots=True)
class Portrait:
    """`blocks` in their order."""

    profile_id: UUID
    at: datetime
    blocks: Mapping[str, Sequence[Entry]]


class Portraits:
    """Reads profiles at an instant, by what was known of them then."""

    def __init__(
        self,
        store: PortraitStore,
        lookup: Lookup,
        features: Features,
        people: People,
        tenants: Tenants,
        plans: Plans,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._features = features
        self._people = people
        self._tenants = tenants
        self._plans = plans

    async def of(self, tenant: Tenant, ref: str, at: datetime | None) -> Portrait:
        """Raises NotFound, or InvalidArgument. `at` None: the tenant's present."""
        if at is None:
            at = moment_of(await self._tenants.now_us(tenant))
        profile_id, node_ids = await self._lookup.person(tenant, ref, at=at)
        rows = await self._store.read(tenant.tenant_id, node_ids, at)
        public, personal = _merged(rows.traits), await self._personal(tenant, rows.sealed)
        if declared := await self._plans.classes(tenant.tenant_id, "identify", ""):
            public, older = classify.split(public, classify.Kind.TRAITS, declared)  # from before they were declared
            personal = classify.join(personal, older)
        known = Known(
            public=public,
            personal=personal,
            classes=declared,
            features=_texts(await self._features.of_node(tenant, profile_id, at)),
            activities=rows.activities,
            visit_days=rows.visit_days,
            categories=rows.categories,
            products=rows.products,
            answers=rows.answers,
        )
        return Portrait(profile_id, at, blocks(known))

    async def _personal(self, tenant: Tenant, sealed: Sequence[SealedRow]) -> dict[str, Any]:
        """The newest value of each personal trait. What no key opens any more is not there."""
        ciphers = await self._people.ciphers(tenant, {row.node_id for row in sealed})
        traits: dict[str, Any] = {}
        for row in reversed(sealed):
            if (cipher := ciphers.get(row.node_id)) is None:
                continue
            try:
                plain = open_sealed(cipher, row.sealed, tenant.keys.of_event(row.event_id))
                traits |= loads(plain).get("traits", {})
            except (Unreadable, msgspec.MsgspecError):
                continue
        return {key: value for key, value in traits.items() if value is not None}


def _merged(rows: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Public traits of identify calls, newest first, as they stood after the newest. A null takes a trait away."""
    traits: dict[str, Any] = {}
    for parts in reversed(rows):
        for part in parts:
            traits |= loads(part.encode())
    return {key: value for key, value in traits.items() if value is not None}


def _texts(values: Sequence[features_pb2.FeatureValue]) -> dict[str, tuple[str, str]]:
    """(value, unit) of the features that have one; days with one decimal."""
    texts: dict[str, tuple[str, str]] = {}
    for name, value in zip(catalogue.NAMES, values, strict=True):
        match value.WhichOneof("value"):
            case "number":
                text = f"{value.number:.1f}" if not value.number.is_integer() else str(int(value.number))
            case "decimal":
                text = value.decimal
            case "text":
                text = value.text
            case _:
                continue
        texts[name] = (text, _UNITS[name])
    return texts
