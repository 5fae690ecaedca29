"""The facts that evaluation tells the log. A message id says what is told, so a repeat is a duplicate."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1.profiles_pb2 import Fact

from services.evaluation.domain.promotions import Promotion

SOURCE: Final = "rapport.evaluation"


def assigned(experiment_id: str, profile_id: UUID, variant: str, *, at: datetime) -> bytes:
    """A customer was given a variant."""
    return _about("Experiment Assigned", "assigned", experiment_id, profile_id, variant, at)


def viewed(experiment_id: str, profile_id: UUID, variant: str, *, at: datetime) -> bytes:
    """A customer met the variant."""
    return _about("Experiment Viewed", "viewed", experiment_id, profile_id, variant, at)


def promoted(promotion: Promotion, promotion_id: int) -> bytes:
    """A version became champion. Without a time of its own: it happened at the tenant's clock."""
    properties = {
        "model": promotion.model,
        "registeredName": promotion.registered_name,
        "fromVersion": promotion.from_version,
        "toVersion": promotion.to_version,
        "alias": "champion",
        "digest": promotion.digest,
        "featureDigest": promotion.feature_digest,
        "kind": promotion.kind.value,
        "reason": promotion.reason,
        "actor": promotion.actor,
    }
    message_id = f"promotion:{promotion.model}:{promotion_id}:{promotion.promoted:%Y%m%dT%H%M%S.%f}"
    return _encoded("Model Promoted", message_id, properties)


def _about(name: str, verb: str, experiment_id: str, profile_id: UUID, variant: str, at: datetime) -> bytes:
    properties = {"experiment_id": experiment_id, "variation_id": variant}
    message_id = f"{verb}:{experiment_id}:{profile_id}"
    return _encoded(name, message_id, properties, profile_id=str(profile_id), at=at)


def _encoded(
    name: str, message_id: str, properties: dict[str, Any], *, profile_id: str = "", at: datetime | None = None
) -> bytes:
    timestamp = None
    if at is not None:
        timestamp = Timestamp()
        timestamp.FromDatetime(at)
    fact = Fact(
        message_id=message_id,
        profile_id=profile_id,
        name=name,
        timestamp=timestamp,
        properties=msgspec.json.encode(properties),
        source=SOURCE,
    )
    return fact.SerializeToString()
