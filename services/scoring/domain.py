"""Who is scored, what a score says, and which model says it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

# The one kind of model that there is.
CHURN: Final = "churn"
ORDERS: Final = "orders_count"


class Purpose(StrEnum):
    """SERVING: the champion, now; it becomes the profile's latest score. EVALUATION: anything else."""

    SERVING = "serving"
    EVALUATION = "evaluation"


def purpose_of(version: str, at: datetime | None) -> Purpose:
    """A named version is a candidate on trial; a given instant is a look back."""
    return Purpose.EVALUATION if version or at is not None else Purpose.SERVING


class Refusal(Enum):
    """Why somebody is not scored; the value is for people."""

    NEVER_BOUGHT = "never bought, so there is nothing to come back for"
    UNKNOWN_PROFILE = "nobody is known by this reference at that time"
    NO_MODEL = "no model has been promoted yet"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that the newest promotion names. `promoted` by the tenant's clock, `recorded` by the wall's."""

    registered_name: str
    version: str
    digest: str
    feature_digest: str
    promoted: datetime
    recorded: datetime


def registered_name_of(tenant_id: str, model: str) -> str:
    """The name of a tenant's model in the registry. Tenants share the registry, so the name keeps them apart."""
    return f"{tenant_id}.{model}"


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody to be scored. `profile_id` None: nobody is known by `ref`. `values` by feature, NaN where there is none."""

    ref: str
    profile_id: UUID | None
    values: Mapping[str, float]
    newest_event: datetime | None


def refusal_of(subject: Subject) -> Refusal | None:
    """None: can be scored."""
    if subject.profile_id is None:
        return Refusal.UNKNOWN_PROFILE
    # Also where the count is missing.
    return None if subject.values.get(ORDERS, 0.0) > 0 else Refusal.NEVER_BOUGHT


def matrix_of(subjects: Sequence[Subject], names: Sequence[str]) -> NDArray[np.float64]:
    """[subjects, names], NaN where there is no value."""
    rows = [[subject.values.get(name, math.nan) for name in names] for subject in subjects]
    return np.array(rows, np.float64).reshape(len(rows), len(names))


@dataclass(frozen=True, slots=True)
class Reason:
    """`contribution` in log-odds, positive where it raises the risk; `value` None where there was none."""

    feature: str
    text: str
    contribution: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """`percentile` in [0, 100]; `features` as the model saw them, without those that had no value."""

    model: str
    version: str
    probability: float
    percentile: float
    reasons: list[Reason]
    as_of: datetime
    scored: datetime
    newest_event: datetime | None
    feature_digest: str
    logistic_probability: float
    features: dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """A score, or why there is none."""

    ref: str
    profile_id: UUID | None
    score: Score | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Ten bins of equal width over [0, 1]."""

    bin_counts: list[int]
    profile_count: int
    mean_probability: float
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Ages:
    """How many latest scores were made within a day, two days, seven, earlier; each is counted once."""

    day: int
    two_days: int
    week: int
    older: int

    def shares(self) -> Mapping[str, float]:
        """Zeros where there are no scores: nothing is stale."""
        total = self.day + self.two_days + self.week + self.older
        counts = {"1d": self.day, "2d": self.two_days, "7d": self.week, "older": self.older}
        return {age: count / total if total else 0.0 for age, count in counts.items()}


@dataclass(slots=True)
class Changes:
    """What one batch of the log says of one tenant."""

    champions: dict[str, Champion] = field(default_factory=dict[str, Champion])
    merges: list[tuple[UUID, UUID]] = field(default_factory=list[tuple[UUID, UUID]])
    # Profiles that were one with another and are not any more: no score of either holds.
    parted: set[UUID] = field(default_factory=set[UUID])


def final_profiles(merges: Iterable[tuple[UUID, UUID]]) -> Mapping[UUID, UUID]:
    """(from, into) in the order in which they happened -> from: the last into, with chains followed to their end."""
    into_of: dict[UUID, UUID] = {}
    for gone, kept in merges:
        end = into_of.get(kept, kept)
        if end == gone:
            continue  # what it went into had gone into it: nothing to follow
        for earlier, target in into_of.items():
            if target == gone:
                into_of[earlier] = end
        into_of[gone] = end
    return into_of
