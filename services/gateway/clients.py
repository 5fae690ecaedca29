"""The six services behind the door, and who is meant by a reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FileDescriptor
from rapport.evaluation.v1 import evaluation_pb2, evaluation_pb2_grpc
from rapport.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from rapport.profiles.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    consents_pb2,
    consents_pb2_grpc,
    identities_pb2,
    identities_pb2_grpc,
    imports_pb2,
    imports_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
    plans_pb2,
    plans_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    receipts_pb2,
    receipts_pb2_grpc,
    retention_pb2,
    retention_pb2_grpc,
)
from rapport.recommendation.v1 import recommendation_pb2, recommendation_pb2_grpc
from rapport.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from rapport.segmentation.v1 import segmentation_pb2, segmentation_pb2_grpc
from rapport.subjects.v1 import subjects_pb2, subjects_pb2_grpc

from chassis.errors import NotFound, Reason

if TYPE_CHECKING:
    from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationAsyncStub
    from rapport.feedback.v1.feedback_pb2_grpc import FeedbackAsyncStub
    from rapport.profiles.v1.catalogue_pb2_grpc import CatalogueAsyncStub
    from rapport.profiles.v1.consents_pb2_grpc import ConsentsAsyncStub
    from rapport.profiles.v1.identities_pb2_grpc import IdentitiesAsyncStub
    from rapport.profiles.v1.imports_pb2_grpc import ImportJobsAsyncStub
    from rapport.profiles.v1.matching_pb2_grpc import MatchingAsyncStub
    from rapport.profiles.v1.plans_pb2_grpc import PlansAsyncStub
    from rapport.profiles.v1.privacy_pb2_grpc import PrivacyAsyncStub
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub
    from rapport.profiles.v1.receipts_pb2_grpc import ReceiptBookAsyncStub
    from rapport.profiles.v1.retention_pb2_grpc import RetentionAsyncStub
    from rapport.recommendation.v1.recommendation_pb2_grpc import RecommendationAsyncStub
    from rapport.scoring.v1.scoring_pb2_grpc import ScoringAsyncStub
    from rapport.segmentation.v1.segmentation_pb2_grpc import SegmentationAsyncStub
    from rapport.subjects.v1.subjects_pb2_grpc import SubjectsAsyncStub

# Service -> its contracts: the field of Services below, the stub's class, the file.
CONTRACTS: Final[Mapping[str, Sequence[tuple[str, Any, FileDescriptor]]]] = MappingProxyType(
    {
        "profiles": [
            ("profiles", profiles_pb2_grpc.ProfilesStub, profiles_pb2.DESCRIPTOR),
            ("catalogue", catalogue_pb2_grpc.CatalogueStub, catalogue_pb2.DESCRIPTOR),
            ("consents", consents_pb2_grpc.ConsentsStub, consents_pb2.DESCRIPTOR),
            ("identities", identities_pb2_grpc.IdentitiesStub, identities_pb2.DESCRIPTOR),
            ("imports", imports_pb2_grpc.ImportJobsStub, imports_pb2.DESCRIPTOR),
            ("matching", matching_pb2_grpc.MatchingStub, matching_pb2.DESCRIPTOR),
            ("plans", plans_pb2_grpc.PlansStub, plans_pb2.DESCRIPTOR),
            ("receipts", receipts_pb2_grpc.ReceiptBookStub, receipts_pb2.DESCRIPTOR),
            ("privacy", privacy_pb2_grpc.PrivacyStub, privacy_pb2.DESCRIPTOR),
            ("retention", retention_pb2_grpc.RetentionStub, retention_pb2.DESCRIPTOR),
        ],
        "segmentation": [("segmentation", segmentation_pb2_grpc.SegmentationStub, segmentation_pb2.DESCRIPTOR)],
        "scoring": [("scoring", scoring_pb2_grpc.ScoringStub, scoring_pb2.DESCRIPTOR)],
        "recommendation": [("recommendation", recommendation_pb2_grpc.RecommendationStub, recommendation_pb2.DESCRIPTOR)],
        "feedback": [("feedback", feedback_pb2_grpc.FeedbackStub, feedback_pb2.DESCRIPTOR)],
        "evaluation": [("evaluation", evaluation_pb2_grpc.EvaluationStub, evaluation_pb2.DESCRIPTOR)],
    }
)

# Those that keep rows of people besides profiles, and answer for them.
SUBJECTS: Final = ("segmentation", "scoring", "recommendation", "feedback", "evaluation")

# What computes over a tenant's whole history may take longer than the usual ten seconds.
LONG_S = 120.0


@dataclass(frozen=True, slots=True)
class Services:
    """One stub each; of `subjects` one for each service of SUBJECTS."""

    profiles: "ProfilesAsyncStub"
    catalogue: "CatalogueAsyncStub"
    consents: "ConsentsAsyncStub"
    identities: "IdentitiesAsyncStub"
    imports: "ImportJobsAsyncStub"
    matching: "MatchingAsyncStub"
    plans: "PlansAsyncStub"
    receipts: "ReceiptBookAsyncStub"
    privacy: "PrivacyAsyncStub"
    retention: "RetentionAsyncStub"
    segmentation: "SegmentationAsyncStub"
    scoring: "ScoringAsyncStub"
    recommendation: "RecommendationAsyncStub"
    feedback: "FeedbackAsyncStub"
    evaluation: "EvaluationAsyncStub"
    subjects: Mapping[str, "SubjectsAsyncStub"]

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
    stubs: dict[str, Any] = {"subjects": {}}
    for service, contracts in CONTRACTS.items():
        files = [contract for _, _, contract in contracts]
        to_service = channel(service, targets[service], *files, *([subjects_pb2.DESCRIPTOR] if service in SUBJECTS else []))
        stubs |= {field: stub(to_service) for field, stub, _ in contracts}
        if service in SUBJECTS:
            stubs["subjects"][service] = subjects_pb2_grpc.SubjectsStub(to_service)
    return Services(**stubs)
