"""The facts that scoring tells the log."""

from typing import Final
from uuid import UUID

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1.profiles_pb2 import Fact

from services.scoring.domain import Purpose, Score

SOURCE: Final = "rapport.scoring"

_encode: Final = msgspec.json.Encoder().encode


def scored(profile_id: UUID, score: Score, purpose: Purpose) -> bytes:
    """A repeat with the same result is a duplicate. Late events can give the same instant another result: another fact."""
    as_of = Timestamp()
    as_of.FromDatetime(score.as_of)
    properties = {
        "model": score.model,
        "version": score.version,
        "probability": score.probability,
        "percentile": score.percentile,
        "asOf": score.as_of,
        "logisticProbability": score.logistic_probability,
        "features": score.features,
        "purpose": purpose.value,
    }
    result = f"{score.probability:.9f}"
    fact = Fact(
        message_id=f"score:{score.model}:{score.version}:{profile_id}:{as_of.ToMicroseconds()}:{purpose.value}:{result}",
        profile_id=str(profile_id),
        name="Churn Scored",
        timestamp=as_of,
        properties=_encode(properties),
        source=SOURCE,
    )
    return fact.SerializeToString()
