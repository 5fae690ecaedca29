"""How features are spread among some profiles, and how they go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rapport.features.v1 import features_pb2

from chassis.errors import InvalidArgument
from ml.features import catalogue
from ml.features.compile import as_number
from ml.features.definition import KINDS, Kind
from services.profiles.aside import Aside
from services.profiles.domain.figures import Correlation, Description
from services.profiles.features import Features
from services.profiles.tenancy import Tenant

# What one question may cost: ten batches, a few seconds of one connection.
MAX_PROFILES: Final = 10_000
BATCH: Final = 1_000
MAX_DESCRIBED: Final = 50
MAX_CORRELATED: Final = 20
_DEFINITIONS: Final[Mapping[str, features_pb2.Feature]] = {feature.name: feature for feature in catalogue.EVERY}

Cell = float | str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which features of whom. `profile_ids` None: everybody, up to MAX_PROFILES by id."""

    features: Sequence[str]
    profile_ids: Sequence[str] | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Sample:
    """`columns` by feature, in the order that was asked for."""

    at: datetime | None
    profile_count: int
    columns: dict[str, list[Cell]]


class Spread:
    """Reads values in batches, and has the figures made aside."""

    def __init__(self, features: Features, aside: Aside) -> None:
        self._features = features
        self._aside = aside

    async def describe(self, tenant: Tenant, asked: Asked) -> tuple[Sample, dict[str, Description]]:
        """Raises InvalidArgument."""
        if not 1 <= len(asked.features) <= MAX_DESCRIBED:
            raise InvalidArgument(f"1 to {MAX_DESCRIBED} features are described at a time", field="features")
        sample = await self._sample(tenant, asked)
        return sample, await self._aside.describe(sample.columns)

    async def correlate(self, tenant: Tenant, asked: Asked) -> tuple[Sample, list[Correlation]]:
        """Raises InvalidArgument."""
        if not 2 <= len(set(asked.features)) <= MAX_CORRELATED:
            raise InvalidArgument(f"2 to {MAX_CORRELATED} different features are correlated at a time", field="features")
        for index, name in enumerate(asked.features):
            if name in _DEFINITIONS and KINDS[_DEFINITIONS[name].aggregation] is Kind.TEXT:
                raise InvalidArgument(f"{name} is a text; only numbers are correlated", field=f"features[{index}]")
        sample = await self._sample(tenant, asked)
        numbers: dict[str, list[float | None]] = {
            name: [None if isinstance(cell, str) else cell for cell in cells] for name, cells in sample.columns.items()
        }
        return sample, await self._aside.correlate(numbers)

    async def _sample(self, tenant: Tenant, asked: Asked) -> Sample:
        if asked.profile_ids is not None and len(asked.profile_ids) > MAX_PROFILES:
            raise InvalidArgument(f"at most {MAX_PROFILES:,} profiles at a time", field="profile_ids")
        at, count = asked.at, 0
        names = list(dict.fromkeys(asked.features))
        columns: dict[str, list[Cell]] = {name: [] for name in names}
        profile_ids = await self._features.first(tenant, MAX_PROFILES) if asked.profile_ids is None else asked.profile_ids
        for first in range(0, max(len(profile_ids), 1), BATCH):
            computed = await self._features.compute(tenant, profile_ids[first : first + BATCH], names, at)
            # All batches are read at the instant of the first.
            at = computed.at
            for row in computed.rows:
                if row.profile_id:
                    count += 1
                    for name, value in zip(computed.names, row.values, strict=True):
                        columns[name].append(_cell(value))
        return Sample(at, count, columns)


def _cell(value: features_pb2.FeatureValue) -> Cell:
    match value.WhichOneof("value"):
        case None:
            return None
        case "text":
            return value.text
        case _:
            return as_number(value)
