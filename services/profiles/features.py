"""The platform's features of some profiles at an instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rapport.features.v1 import features_pb2

from chassis.db import Database
from chassis.errors import InvalidArgument, Reason
from ml.features import catalogue
from ml.features.compile import Compiled, compile_online
from services.profiles.domain.clock import moment_of
from services.profiles.lookup import nodes_of
from services.profiles.store.features import FeatureStore
from services.profiles.tenancy import Tenant, present_us

_POSITIONS: Final = {name: position for position, name in enumerate(catalogue.NAMES)}


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows in the order of the references, values in the order of `names`."""

    at: datetime
    names: Sequence[str]
    rows: Sequence[features_pb2.FeatureRow]


class Features:
    """The catalogue, compiled once. A call that asks for a few of them is answered from the same query."""

    def __init__(self, database: Database) -> None:
        self.compiled: Compiled = compile_online(catalogue.FEATURES)
        self._store = FeatureStore(database, self.compiled.sql)

    async def compute(self, tenant: Tenant, refs: Sequence[str], names: Sequence[str], at: datetime | None) -> Computed:
        """Raises InvalidArgument. `names` empty: all; `at` None: the tenant's present."""
        positions = _chosen(names)
        node_ids = nodes_of(tenant, refs)
        read = await self._store.read(
            tenant.tenant_id, node_ids, at, lambda newest: moment_of(present_us(tenant.clock, newest))
        )
        found = {row.profile_id: row for row in map(self.compiled.decode, read.records)}
        rows: list[features_pb2.FeatureRow] = []
        for ref, node_id in zip(refs, node_ids, strict=True):
            profile_id = read.profile_of.get(node_id)
            rows.append(_row(ref, found.get(str(profile_id)) if profile_id is not None else None, positions))
        return Computed(read.at, [catalogue.NAMES[position] for position in positions], rows)


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
