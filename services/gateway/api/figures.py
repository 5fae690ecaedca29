"""How features are spread in a segment, and how they go together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from rapport.profiles.v1 import catalogue_pb2
from rapport.segmentation.v1 import segmentation_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Moment, Slug, plain, set_moment

routes = router("Figures")

MOST_PROFILES: Final = 10_000
_PAGE: Final = 1_000
_NOTE: Final = "Correlation: that two values go together does not say that one causes the other."


class _Question(Asked):
    segment: Slug | None = Field(None, description="Only its members; none: all customers.", examples=["high_value"])
    at: Moment | None = None


class DescribeQuestion(_Question):
    """Which features of whom."""

    features: list[Slug] = Field(min_length=1, max_length=50, examples=[["orders_count", "revenue_total"]])


class CorrelateQuestion(_Question):
    """Which features of whom; two or more that are numbers."""

    features: list[Slug] = Field(min_length=2, max_length=20, examples=[["orders_count", "days_since_last_order"]])


class Quantile(Answer):
    """So large a share has at most this value."""

    share: float
    value: float


class Category(Answer):
    """A text, and how many have it."""

    text: str
    count: int


class Description(Answer):
    """How one feature is spread. Numbers have mean, variance (of a sample) and quantiles; texts have categories."""

    feature: str
    unit: str
    count: int = Field(description="Customers with a value.")
    missing_count: int
    mean: float | None
    median: float | None
    variance: float | None
    minimum: float | None
    maximum: float | None
    quantiles: list[Quantile]
    categories: list[Category] = Field(description="The ten most frequent.")
    category_count: int


class _Figures(Answer):
    at: datetime | None
    segment: str | None
    profile_count: int
    sampled: bool = Field(description=f"There are more: these are the first {MOST_PROFILES:,} by id, which is a hash.")


class Descriptions(_Figures):
    """One description for each feature."""

    data: list[Description]


class Correlation(Answer):
    """Of two features. No coefficient: too few customers have both values, or one value is the same for all."""

    left: str
    right: str
    method: Literal["PEARSON", "SPEARMAN"]
    n: int = Field(description="Customers with both values.")
    coefficient: float | None
    absent: Annotated[Literal["NOT_ENOUGH_DATA", "CONSTANT"] | None, Field(description="Why there is no coefficient.")]


class Correlations(_Figures):
    """Every pair by both methods."""

    note: str = _NOTE
    fewest: int = Field(description="Fewer customers than this make no coefficient.")
    data: list[Correlation]


@routes.post("/v1/features:describe")
@needs(Scope.READ)
async def describe_features(services: Services, question: DescribeQuestion) -> Descriptions:
    """Count, mean, median, variance and quantiles of features, of a segment or of everybody."""
    members, sampled = await _members(services, question.segment)
    request = catalogue_pb2.DescribeFeaturesRequest(
        features=question.features, profile_ids=members or (), everybody=members is None
    )
    set_moment(request, "at", question.at)
    answer = await services.catalogue.DescribeFeatures(request, timeout=LONG_S)
    data = [plain(each) | {"median": _median(each)} for each in answer.descriptions]
    return Descriptions.model_validate(_about(answer, question, sampled=sampled) | {"data": data})


@routes.post("/v1/features:correlate")
@needs(Scope.READ)
async def correlate_features(services: Services, question: CorrelateQuestion) -> Correlations:
    """Pearson's and Spearman's coefficient of every two features, of a segment or of everybody. Correlation, not cause."""
    members, sampled = await _members(services, question.segment)
    request = catalogue_pb2.CorrelateFeaturesRequest(
        features=question.features, profile_ids=members or (), everybody=members is None
    )
    set_moment(request, "at", question.at)
    answer = await services.catalogue.CorrelateFeatures(request, timeout=LONG_S)
    data = [plain(each) | {"absent": each.absent or None} for each in answer.correlations]
    about = _about(answer, question, sampled=sampled) | {"fewest": answer.fewest}
    return Correlations.model_validate(about | {"data": data})


async def _members(services: Services, segment: str | None) -> tuple[Sequence[str] | None, bool]:
    """(profile ids, whether there are more); None for everybody. A page holds a thousand, so there are at most ten calls."""
    if segment is None:
        return None, False
    found: list[str] = []
    token = ""
    while len(found) < MOST_PROFILES:
        request = segmentation_pb2.ListMembersRequest(key=segment, page_size=_PAGE, page_token=token)
        page = await services.segmentation.ListMembers(request)
        found += [member.profile_id for member in page.members]
        if not (token := page.next_page_token):
            break
    return found[:MOST_PROFILES], bool(token)


def _median(one: catalogue_pb2.Description) -> float | None:
    return next((quantile.value for quantile in one.quantiles if quantile.share == 0.5), None)


def _about(
    answer: catalogue_pb2.DescribeFeaturesResponse | catalogue_pb2.CorrelateFeaturesResponse,
    question: _Question,
    *,
    sampled: bool,
) -> dict[str, Any]:
    at = plain(answer)["at"]
    full = question.segment is None and answer.profile_count >= MOST_PROFILES
    return {"at": at, "segment": question.segment, "profile_count": answer.profile_count, "sampled": sampled or full}
