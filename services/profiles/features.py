"""The platform's features of some profiles at an instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rapport.features.v1 import features_pb2

from chassis.errors import InvalidArgument, Reason
from ml.features import catalogue
from ml.features.compile import Compiled, compile_online
from services.profiles.domain.clock import moment_of
from services.profiles.lookup import Lookup
from services.profiles.store.profiles import ProfileStore
from services.profiles.tenancy import Tenant, Tenants

_POSITIONS: Final = {name: position for position, name in enumerate(catalogue.NAMES)}


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows in the order of the references, values in the order of `names`."""

    at: datetime
    names: Sequence[str]
    rows: Sequence[features_pb2.FeatureRow]


class Features:
    """The catalogue, compiled once. A call that asks for a few of them is answered from the same query."""

    def __init__(self, store: ProfileStore, lookup: Lookup, tenants: Tenants) -> None:
        self._store = store
        self._lookup = lookup
        self._tenants = tenants
        self.compiled: Compiled = compile_online(catalogue.FEATURES)

    async def compute(self, tenant: Tenant, refs: Sequence[str], names: Sequence[str], at: datetime | None) -> Computed:
        """Raises InvalidArgument. `names` empty: all; `at` None: the tenant's present."""
        positions = _chosen(names)
        if at is None:
            at = moment_of(await self._tenants.now_us(tenant))
        profile_ids = await self._lookup.many(tenant, refs, at=at)
        wanted = list({profile_id for profile_id in profile_ids if profile_id is not None})
        records = await self._store.compute(tenant.tenant_id, self.compiled.sql, wanted, at) if wanted else []
        found = {row.profile_id: row for row in map(self.compiled.decode, records)}
        rows: list[features_pb2.FeatureRow] = []
        for ref, profile_id in zip(refs, profile_ids, strict=True):
            row = found.get(str(profile_id)) if profile_id is not None else None
            rows.append(_row(ref, row, positions))
        return Computed(at, [catalogue.NAMES[position] for position in positions], rows)


def _chosen(names: Sequence[str]) -> list[int]:
    unknown = [index for index, name in enumerate(names) if name not in _POSITIONS]
    if unknown:
        field = f"features[{unknown[0]}]"
        raise InvalidArgument("there is no feature of that name", reason=Reason.UNKNOWN_FEATURE, field=field)
    return [_POSITIONS[name] for name in names] or list(range(len(_POSITIONS)))


def _row(ref: str, found: features_pb2.FeatureRow | None, positions: Sequence[int]) -> features_pb2.FeatureRow:
    if found is None:
        nothing = features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_NOT_FOUND)
        return features_pb2.FeatureRow(ref=ref, values=[nothing] * len(positions))
    values = found.values if len(positions) == len(found.values) else [found.values[position] for position in positions]
    row = features_pb2.FeatureRow(ref=ref, profile_id=found.profile_id, values=values)
    if found.HasField("newest_event"):
        row.newest_event.CopyFrom(found.newest_event)
    return row
