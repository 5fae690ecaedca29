"""The six services behind the door, and who is meant by a reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FileDescriptor
from rapport.evaluation.v1 import evaluation_pb2, evaluation_pb2_grpc
from rapport.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from rapport.profiles.v1 import profiles_pb2, profiles_pb2_grpc
from rapport.recommendation.v1 import recommendation_pb2, recommendation_pb2_grpc
from rapport.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from rapport.segmentation.v1 import segmentation_pb2, segmentation_pb2_grpc

from chassis.errors import NotFound, Reason

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub
    from rapport.feedback.v1.feedback_pb2_grpc import FeedbackAsyncStub
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub
    from rapport.recommendation.v1.recommendation_pb2_grpc import RecommendationAsyncStub
    from rapport.scoring.v1.scoring_pb2_grpc import ScoringAsyncStub
    from rapport.segmentation.v1.segmentation_pb2_grpc import SegmentationAsyncStub

# Service -> its contracts: the field of Services below, the stub's class, the file.
CONTRACTS: Final[Mapping[str, Sequence[tuple[str, Any, FileDescriptor]]]] = MappingProxyType(
    {
        "profiles": [
            ("profiles", profiles_pb2_grpc.ProfilesStub, profiles_pb2.DESCRIPTOR),
        ],
        "segmentation": [("segmentation", segmentation_pb2_grpc.SegmentationStub, segmentation_pb2.DESCRIPTOR)],
        "scoring": [("scoring", scoring_pb2_grpc.ScoringStub, scoring_pb2.DESCRIPTOR)],
        "recommendation": [("recommendation", recommendation_pb2_grpc.RecommendationStub, recommendation_pb2.DESCRIPTOR)],
        "feedback": [("feedback", feedback_pb2_grpc.FeedbackStub, feedback_pb2.DESCRIPTOR)],
        "evaluation": [("evaluation", evaluation_pb2_grpc.EvaluationStub, evaluation_pb2.DESCRIPTOR)],
    }
)

# What computes over a tenant's whole history may take longer than the usual ten seconds.
LONG_S = 120.0


@dataclass(frozen=True, slots=True)
class Services:
    """One stub each."""

    profiles: "ProfilesAsyncStub"
    segmentation: "SegmentationAsyncStub"
    scoring: "ScoringAsyncStub"
    recommendation: "RecommendationAsyncStub"
    feedback: "FeedbackAsyncStub"
    evaluation: "EvaluationAsyncStub"

    async def resolve(self, refs: Sequence[str]) -> list[str]:
        """The profile ids, in order; empty where nobody is known by a reference."""
        answer = await self.profiles.ResolveProfiles(profiles_pb2.ResolveProfilesRequest(refs=refs))
        return list(answer.profile_ids)

    async def profile_id_of(self, ref: str) -> str:
        """Raises NotFound where nobody is known by it."""
        if not (profile_id := (await self.resolve([ref]))[0]):
            raise unknown_profile()
        return profile_id


def unknown_profile() -> NotFound:
    """Does not repeat the reference: it may be somebody's address."""
    return NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field="ref")


def connect(channel: Callable[..., Any], targets: Mapping[str, str]) -> Services:
    """Stubs on `channel(name, target, *contracts)`, one channel a service; `targets` by name."""
    stubs: dict[str, Any] = {}
    for service, contracts in CONTRACTS.items():
        to_service = channel(service, targets[service], *(contract for _, _, contract in contracts))
        stubs |= {field: stub(to_service) for field, stub, _ in contracts}
    return Services(**stubs)
