"""The platform's features of some profiles at an instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from rapport.features.v1 import features_pb2

from chassis.db import Database
from chassis.errors import InvalidArgument, Reason
from ml.features import catalogue
from ml.features.compile import Compiled, compile_online
from services.profiles.domain.clock import moment_of
from services.profiles.lookup import nodes_of
from services.profiles.people import unknown_profile
from services.profiles.store.features import FeatureStore, Read
from services.profiles.tenancy import Tenant, present_us

# Whoever names no feature gets the features of the churn model: it reads them in this order.
_DEFAULT: Final = catalogue.NAMES
_POSITIONS: Final[Mapping[str, int]] = {
    feature.name: position for features in catalogue.SETS.values() for position, feature in enumerate(features)
}


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows in the order of the references, values in the order of `names`."""

    at: datetime
    names: Sequence[str]
    rows: Sequence[features_pb2.FeatureRow]


class Features:
    """The sets of the catalogue, each compiled once and one query. Who asks for a few features is answered from their sets'."""

    def __init__(self, database: Database) -> None:
        self.sets: Mapping[str, Compiled] = {name: compile_online(features) for name, features in catalogue.SETS.items()}
        self.compiled: Compiled = self.sets["churn"]
        self._store = FeatureStore(database)

    async def compute(self, tenant: Tenant, refs: Sequence[str], names: Sequence[str], at: datetime | None) -> Computed:
        """Raises InvalidArgument. `names` empty: the churn model's; `at` None: the tenant's present."""
        _check(names)
        chosen = names or _DEFAULT
        sets = list(dict.fromkeys(catalogue.SET_OF[name] for name in chosen))
        node_ids = nodes_of(tenant, refs)
        read = await self._read(tenant, node_ids, at, sets)
        found = [
            {row.profile_id: row for row in map(self.sets[name].decode, records)}
            for name, records in zip(sets, read.records, strict=True)
        ]
        places = [(sets.index(catalogue.SET_OF[name]), _POSITIONS[name]) for name in chosen]
        rows: list[features_pb2.FeatureRow] = []
        for ref, node_id in zip(refs, node_ids, strict=True):
            profile_id = read.profile_of.get(node_id)
            own = [of_set[str(profile_id)] for of_set in found if profile_id is not None]
            rows.append(_row(ref, own, places))
        return Computed(read.at, list(chosen), rows)

    async def of_node(self, tenant: Tenant, node_id: UUID, at: datetime) -> Sequence[features_pb2.FeatureValue]:
        """The churn model's, of the profile that a node belonged to. Raises NotFound where nobody knew it."""
        read = await self._read(tenant, [node_id], at, ["churn"])
        if not read.profile_of:
            raise unknown_profile("ref")
        return self.compiled.decode(read.records[0][0]).values

    async def _read(self, tenant: Tenant, node_ids: Sequence[UUID], at: datetime | None, sets: Sequence[str]) -> Read:
        queries = [self.sets[name].sql for name in sets]
        return await self._store.read(
            tenant.tenant_id, node_ids, at, lambda newest: moment_of(present_us(tenant.clock, newest)), queries
        )

    async def first(self, tenant: Tenant, limit: int) -> list[str]:
        """So many profiles, a fair sample where there are more."""
        return [str(profile_id) for profile_id in await self._store.first(tenant.tenant_id, limit)]


def _check(names: Sequence[str]) -> None:
    unknown = [index for index, name in enumerate(names) if name not in _POSITIONS]
    if unknown:
        field = f"features[{unknown[0]}]"
        raise InvalidArgument("there is no feature of that name", reason=Reason.UNKNOWN_FEATURE, field=field)


def _row(ref: str, found: Sequence[features_pb2.FeatureRow], places: Sequence[tuple[int, int]]) -> features_pb2.FeatureRow:
    """`found`: the profile's row of each set, none where nobody is known; `places`: (set, position) of each value."""
    if not found:
        nothing = features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_NOT_FOUND)
        return features_pb2.FeatureRow(ref=ref, values=[nothing] * len(places))
    values = [found[which].values[position] for which, position in places]
    row = features_pb2.FeatureRow(ref=ref, profile_id=found[0].profile_id, values=values)
    if found[0].HasField("newest_event"):
        row.newest_event.CopyFrom(found[0].newest_event)
    return row
