"""Features, freshness and the export: what models are made of."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import profiles_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import DenialsOf, People, in_order
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Lower, Moment, OrNone, Refs, Slug, plain, set_moment

routes = router("Features")


class Feature(Answer):
    """A definition that the platform serves."""

    name: str
    description: str
    unit: str
    window_days: int = Field(description="Only events of so many days before the instant; 0: all history.")
    aggregation: Annotated[str, Lower] = Field(examples=["count_distinct"])


class Features(Answer):
    """All definitions. `digest` is of those that the churn model reads: a version that was trained on others is refused."""

    digest: str
    features: list[Feature]


class FeaturesQuestion(Asked):
    """Whose features, which, and when."""

    refs: Refs
    features: list[Slug] = Field([], max_length=256, description="Names; none: all.", examples=[["orders_count"]])
    at: Moment | None = None


class Cell(Answer):
    """A value, or why there is none. Exact decimals are texts, "12.50"."""

    status: Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "STALE", "CONSENT_DENIED"]
    value: float | str | None


class Row(Answer):
    """One profile's values, in the order of `features`."""

    ref: str
    profile_id: Annotated[str | None, OrNone] = Field(description="null: nobody is known by that reference.")
    newest_event: datetime | None
    values: list[Cell]


class FeatureValues(Answer):
    """Rows in the order of `refs`."""

    at: datetime | None
    digest: str
    features: list[str]
    rows: list[Row]


class Freshness(Answer):
    """How far behind what can be read is."""

    event_count: int
    profile_count: int
    identified_count: int
    lag_events: int = Field(description="Events in the log that the profiles do not show yet.")
    p50_s: float = Field(alias="p50Seconds", description="Received to readable, of the last events.")
    p99_s: float = Field(alias="p99Seconds")
    now: datetime | None = Field(description="The tenant's clock.")
    rejected_count: int
    duplicate_count: int
    quarantined_count: int = Field(description="Events that the tracking plan held back, ")
    replayed_count: int = Field(description="and those of them that were appended later.")


class Export(Answer):
    """A Parquet export of the log, on the platform's disk."""

    path: str
    event_count: int
    digest: str
    through: datetime | None = Field(description="Everything received before this is in it.")
    withheld_count: int = Field(description="Profiles that are left out: they do not allow the purpose.")


@routes.get("/v1/features")
@needs(Scope.READ)
async def list_features(services: Services) -> Features:
    """The features that the platform declares."""
    answer = await services.profiles.ListFeatures(profiles_pb2.ListFeaturesRequest())
    return Features(digest=answer.digest, features=[Feature.of(each) for each in answer.features])


@routes.post("/v1/features:compute")
@needs(Scope.READ, people=People.IN_BODY)
async def compute_features(services: Services, denials: DenialsOf, question: FeaturesQuestion) -> FeatureValues:
    """Values for up to 1,000 profiles at one instant; each is answered."""
    denied = await denials.of(services, question.refs)
    allowed = [ref for ref in question.refs if ref not in denied]
    request = profiles_pb2.ComputeFeaturesRequest(refs=allowed, features=question.features)
    set_moment(request, "at", question.at)
    answer = await services.profiles.ComputeFeatures(request)
    rows = in_order(question.refs, denied, map(_row, answer.rows), partial(_denied, count=len(answer.features)))
    return FeatureValues.model_validate(plain(answer) | {"rows": rows})


def _row(row: features_pb2.FeatureRow) -> dict[str, Any]:
    cells = [
        {"status": features_pb2.FeatureStatus.Name(cell.status).removeprefix("FEATURE_STATUS_"), "value": value_of(cell)}
        for cell in row.values
    ]
    return plain(row) | {"values": cells}


def _denied(ref: str, profile_id: str, count: int) -> dict[str, Any]:
    cells = [{"status": "CONSENT_DENIED", "value": None}] * count
    return {"ref": ref, "profile_id": profile_id, "newest_event": None, "values": cells}


def value_of(cell: features_pb2.FeatureValue) -> float | str | None:
    """The arm that is set; None where none is."""
    kind = cell.WhichOneof("value")
    return getattr(cell, kind) if kind else None


@routes.get("/v1/freshness")
@needs(Scope.READ)
async def get_freshness(services: Services) -> Freshness:
    """How many events and profiles there are, and how far the profiles are behind the events."""
    return Freshness.of(await services.profiles.GetFreshness(profiles_pb2.GetFreshnessRequest()))


@routes.post("/v1/exports")
@needs(Scope.MODELS, people=People.BY_SERVICE)
async def create_export(services: Services, denials: DenialsOf) -> Export:
    """Writes the tenant's log to Parquet, for training. What stands already is not written again.

    For a purpose: a copy without those who do not allow it now.
    """
    request = profiles_pb2.ExportLogRequest()
    if (use := denials.passed_on()) is not None:
        request.purpose, request.channel = use.purpose, use.channel
    return Export.of(await services.profiles.ExportLog(request, timeout=LONG_S))
