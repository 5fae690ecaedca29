"""When a model is worth building anew."""

from dataclasses import dataclass
from typing import Final

# Purchases come in bursts: a model is built when they pause, and in a stream that never does, once a minute.
QUIET_S: Final = 3.0
STREAM_S: Final = 60.0
# A trickle of purchases that changes little waits this long.
TRICKLE_S: Final = 600.0
LEAST_NEW: Final = 20
LEAST_NEW_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Freshness:
    """`built_count`: purchases that the model has seen; `quiet_s`: since the last new one; `age_s`: of the model."""

    built_count: int
    count: int
    quiet_s: float
    age_s: float


def is_due(model: Freshness) -> bool:
    """Whether enough has come, and has come to rest."""
    new = model.count - model.built_count
    if new <= 0:
        return False
    if new < max(LEAST_NEW, LEAST_NEW_SHARE * model.built_count):
        return model.age_s >= TRICKLE_S
    return model.quiet_s >= QUIET_S or model.age_s >= STREAM_S
