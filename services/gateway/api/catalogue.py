"""Definitions: feature sets, traits of the tenant's own, what they come from, and who uses them."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from pydantic import Field
from rapport.evaluation.v1 import evaluation_pb2
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2
from rapport.segmentation.v1 import segmentation_pb2

from chassis.errors import InvalidArgument, Unavailable
from services.gateway.api.admission import needs, router
from services.gateway.api.features import value_of
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import NO_NUL, Answer, Asked, At, JsonObject, Lower, OrNone, PathRef, plain, set_moment

routes = router("Catalogue")

# The only kind of model that there is; each of its versions names the set that it was trained on.
MODEL: Final = "churn"
_EXAMPLE: Final = {
    "description": "Spent on wine in the last 90 days.",
    "unit": "currency",
    "events": {"type": "track", "names": ["Order Completed"]},
    "aggregation": "sum",
    "value": {"number": "price", "times": "quantity"},
    "elements": {"property": "products", "where": [{"property": "category", "texts": ["wine"]}]},
    "windowDays": 90,
}
NewKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="Small letters, digits and _; a letter first.")]
Key = Annotated[NewKey, Path(description="The trait's key.", examples=["wine_spend_90d"])]
Words = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL)]
Definition = Annotated[
    JsonObject,
    Field(
        description="A feature as the contract rapport.features.v1.Feature has it, as JSON, without its name.",
        examples=[_EXAMPLE],
    ),
]


class FeatureSet(Answer):
    """Features that are computed together. A model names the set that it was trained on, by its digest."""

    name: str
    digest: str
    features: list[dict[str, Any]]


class FeatureSets(Answer):
    """All sets that the platform ships."""

    data: list[FeatureSet]


class TraitDraft(Asked):
    """A trait to make: events, an aggregation, a value, a window."""

    key: NewKey = Field(examples=["wine_spend_90d"])
    definition: Definition
    owner: Words = Field(description="Who answers for it.", examples=["team-cellar"])
    purpose: Words = Field(description="What it may be used for.", examples=["marketing"])


class TraitChange(Asked):
    """A new version. Owner and purpose stay as they are where they are not given."""

    definition: Definition
    owner: Words | None = None
    purpose: Words | None = None


class Trait(Answer):
    """A trait that the tenant defined. It is computed from a profile's events when it is read: nothing is to be backfilled."""

    key: str
    version: int
    definition: dict[str, Any]
    owner: str
    purpose: str
    status: Literal["ACTIVE", "RETIRED"]
    created: datetime | None
    digest: str = Field(description="SHA-256 of what the definition means.")


class VersionedTrait(Trait):
    """With the versions before it, newest first."""

    versions: list[Trait]


class Traits(Answer):
    """All traits that are computed."""

    data: list[Trait]


class RetiredTrait(Answer):
    """What is no longer computed."""

    key: str


class TraitValue(Answer):
    """A value, or why there is none."""

    key: str
    version: int
    status: Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "STALE", "CONSENT_DENIED"]
    value: float | str | None
    unit: str


class TraitValues(Answer):
    """A customer's computed traits."""

    profile_id: str
    at: datetime | None
    data: list[TraitValue]


class UsingSegment(Answer):
    """A segment whose condition reads the feature, or that is made of one that does."""

    key: str
    version: int
    directly: bool


class UsingModel(Answer):
    """A version of a model that was trained on the feature's set."""

    model: str
    version: str
    aliases: list[str]


class Lineage(Answer):
    """Where a feature comes from, and who uses it. An empty list of events, types or channels: all of them."""

    name: str
    kind: Literal["feature", "trait"]
    set: Annotated[str | None, OrNone]
    version: Annotated[int | None, OrNone]
    owner: Annotated[str | None, OrNone]
    purpose: Annotated[str | None, OrNone]
    events: list[str]
    types: list[Annotated[str, Lower]]
    properties: list[str]
    channels: list[str]
    segments: list[UsingSegment]
    models: list[UsingModel] | None = Field(description="null: the registry of models does not answer at present.")


class Lineages(Answer):
    """One of a feature; of an event as many as read it."""

    data: list[Lineage]


def definition_message(definition: dict[str, Any]) -> features_pb2.Feature:
    """The JSON of a definition as the contract has it. Raises InvalidArgument, saying what is not understood."""
    feature = features_pb2.Feature()
    try:
        ParseDict(_with_prefixes(definition), feature, max_recursion_depth=20)
    except (ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as refusal:
        said = str(refusal).split(" at Feature")[0][:200] if isinstance(refusal, ParseError) else "it is no definition"
        raise InvalidArgument(f"the definition is not understood: {said}", field="definition") from None
    return feature


def _with_prefixes(definition: Any) -> Any:
    """ "sum" is AGGREGATION_SUM, here and in parts."""
    if not isinstance(definition, dict):
        return definition
    made = dict(definition)
    if isinstance(name := made.get("aggregation"), str):
        made["aggregation"] = f"AGGREGATION_{name.upper().removeprefix('AGGREGATION_')}"
    value = made.get("value")
    if isinstance(value, dict) and isinstance(name := value.get("field"), str):
        made["value"] = value | {"field": f"EVENT_FIELD_{name.upper().removeprefix('EVENT_FIELD_')}"}
    if isinstance(parts := made.get("parts"), list):
        made["parts"] = [_with_prefixes(part) for part in parts]
    return made


def definition_shown(feature: features_pb2.Feature) -> dict[str, Any]:
    """The JSON that `definition_message` would read it from; with its name, where it has one."""
    return _without_prefixes(MessageToDict(feature))


def _without_prefixes(shown: dict[str, Any]) -> dict[str, Any]:
    if "aggregation" in shown:
        shown["aggregation"] = shown["aggregation"].removeprefix("AGGREGATION_").lower()
    if "field" in shown.get("value", {}):
        shown["value"]["field"] = shown["value"]["field"].removeprefix("EVENT_FIELD_").lower()
    for part in shown.get("parts", []):
        _without_prefixes(part)
    return shown


def _trait(message: catalogue_pb2.Trait) -> dict[str, Any]:
    definition = definition_shown(message.definition)
    definition.pop("name", None)
    return plain(message) | {"definition": definition}


@routes.get("/v1/feature-sets")
@needs(Scope.READ)
async def list_feature_sets(services: Services) -> FeatureSets:
    """What the platform computes of every customer, by set, with the definitions."""
    answer = await services.catalogue.ListFeatureSets(catalogue_pb2.ListFeatureSetsRequest())
    return FeatureSets(
        data=[
            FeatureSet(name=each.name, digest=each.digest, features=[definition_shown(one) for one in each.features])
            for each in answer.sets
        ]
    )


@routes.get("/v1/traits")
@needs(Scope.READ)
async def list_traits(services: Services) -> Traits:
    """The traits that the tenant defined."""
    answer = await services.catalogue.ListTraits(catalogue_pb2.ListTraitsRequest())
    return Traits(data=[Trait.model_validate(_trait(each)) for each in answer.traits])


@routes.post("/v1/traits")
@needs(Scope.DEFINE, creates=True)
async def create_trait(services: Services, draft: TraitDraft) -> Trait:
    """Defines a trait. Every customer has it from now on, with all of their history."""
    request = catalogue_pb2.CreateTraitRequest(
        key=draft.key, definition=definition_message(draft.definition), owner=draft.owner, purpose=draft.purpose
    )
    answer = await services.catalogue.CreateTrait(request, timeout=LONG_S)
    return Trait.model_validate(_trait(answer.trait))


@routes.get("/v1/traits/{key}")
@needs(Scope.READ)
async def get_trait(services: Services, key: Key) -> VersionedTrait:
    """One trait with its versions."""
    answer = await services.catalogue.GetTrait(catalogue_pb2.GetTraitRequest(key=key))
    return VersionedTrait.model_validate(_trait(answer.trait) | {"versions": [_trait(each) for each in answer.versions]})


@routes.put("/v1/traits/{key}")
@needs(Scope.DEFINE)
async def update_trait(services: Services, key: Key, change: TraitChange) -> Trait:
    """Gives a trait another definition: a new version, computed from now on."""
    request = catalogue_pb2.UpdateTraitRequest(
        key=key, definition=definition_message(change.definition), owner=change.owner or "", purpose=change.purpose or ""
    )
    answer = await services.catalogue.UpdateTrait(request, timeout=LONG_S)
    return Trait.model_validate(_trait(answer.trait))


@routes.delete("/v1/traits/{key}")
@needs(Scope.DEFINE)
async def delete_trait(services: Services, key: Key) -> RetiredTrait:
    """Ends a trait. Its versions are kept for the record."""
    await services.catalogue.DeleteTrait(catalogue_pb2.DeleteTraitRequest(key=key), timeout=LONG_S)
    return RetiredTrait(key=key)


@routes.get("/v1/profiles/{ref}/traits")
@needs(Scope.READ)
async def compute_traits(services: Services, ref: PathRef, at: At = None) -> TraitValues:
    """A customer's computed traits, from their events up to now."""
    request = catalogue_pb2.ComputeTraitsRequest(ref=ref)
    set_moment(request, "at", at)
    answer = await services.catalogue.ComputeTraits(request)
    values = [
        plain(each)
        | {
            "status": features_pb2.FeatureStatus.Name(each.value.status).removeprefix("FEATURE_STATUS_"),
            "value": value_of(each.value),
        }
        for each in answer.values
    ]
    return TraitValues.model_validate(plain(answer) | {"data": values})


@routes.get("/v1/lineage")
@needs(Scope.READ)
async def get_lineage(
    services: Services,
    feature: Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="A feature's or trait's name.")] = None,
    event: Annotated[
        str | None,
        Query(min_length=1, max_length=256, pattern=NO_NUL, description="An event's name.", examples=["Order Completed"]),
    ] = None,
) -> Lineages:
    """Which events a feature is made of, and which segments and models use it; or what is made of an event."""
    if (feature is None) == (event is None):
        raise InvalidArgument("exactly one of feature and event is needed", field="feature")
    subject = {"feature": feature} if feature is not None else {"event": event}
    request = catalogue_pb2.GetLineageRequest(**subject)  # pyright: ignore[reportArgumentType]
    found, listed, models = await asyncio.gather(
        services.catalogue.GetLineage(request),
        services.segmentation.ListSegments(segmentation_pb2.ListSegmentsRequest()),
        _model_versions(services),
    )
    return Lineages(data=[_lineage(one, listed.segments, models) for one in found.lineages])


async def _model_versions(services: Services) -> Sequence[evaluation_pb2.ModelVersion] | None:
    try:
        request = evaluation_pb2.ListModelVersionsRequest(model=MODEL)
        return (await services.evaluation.ListModelVersions(request)).versions
    except Unavailable:
        return None


def _lineage(
    one: catalogue_pb2.Lineage,
    segments: Iterable[segmentation_pb2.Segment],
    versions: Sequence[evaluation_pb2.ModelVersion] | None,
) -> Lineage:
    models = None
    if versions is not None:
        models = [
            UsingModel(model=MODEL, version=each.version, aliases=list(each.aliases))
            for each in versions
            if one.set_digest and each.feature_digest == one.set_digest
        ]
    return Lineage.model_validate(plain(one) | {"segments": using_segments(one.name, segments), "models": models})


def using_segments(feature: str, segments: Iterable[segmentation_pb2.Segment]) -> list[UsingSegment]:
    """Those that read it, and those made of them, by key."""
    known = {segment.key: segment for segment in segments}
    read = {key: _reads(segment.condition) for key, segment in known.items()}
    direct = {key for key, (features, _) in read.items() if feature in features}
    found = set(direct)
    while more := {key for key, (_, inner) in read.items() if inner & found} - found:
        found |= more
    return [UsingSegment(key=key, version=known[key].version, directly=key in direct) for key in sorted(found)]


def _reads(condition: segmentation_pb2.Condition) -> tuple[set[str], set[str]]:
    """(features, segments) that a condition reads."""
    features, segments = set[str](), set[str]()
    left = [condition]
    while left:
        one = left.pop()
        match one.WhichOneof("kind"):
            case "all_of":
                left += one.all_of.conditions
            case "any_of":
                left += one.any_of.conditions
            case "not":
                left.append(getattr(one, "not").condition)
            case "in_segment":
                segments.add(one.in_segment)
            case "comparison":
                features.add(one.comparison.feature)
            case _:
                pass
    return features, segments
