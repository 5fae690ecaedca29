"""Feature sets, traits, lineage and figures."""

from collections.abc import Sequence
from datetime import datetime

from rapport.profiles.v1 import catalogue_pb2 as pb
from rapport.profiles.v1 import catalogue_pb2_grpc

from chassis.errors import InvalidArgument
from ml.features import catalogue
from services.profiles import lineage
from services.profiles.domain import figures
from services.profiles.features import Features
from services.profiles.rpc import wire
from services.profiles.spread import Asked, Sample, Spread
from services.profiles.tenancy import Tenants
from services.profiles.traits import Draft, Trait, Traits

_UNITS = {feature.name: feature.unit for feature in catalogue.EVERY}


class CatalogueRpc(catalogue_pb2_grpc.CatalogueServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, features: Features, traits: Traits, spread: Spread) -> None:
        self._tenants = tenants
        self._features = features
        self._traits = traits
        self._spread = spread

    async def ListFeatureSets(self, request: pb.ListFeatureSetsRequest, context: object) -> pb.ListFeatureSetsResponse:
        await self._tenants.present()
        sets = [
            pb.FeatureSet(name=name, digest=compiled.digest, features=compiled.features)
            for name, compiled in self._features.sets.items()
        ]
        return pb.ListFeatureSetsResponse(sets=sets)

    async def CreateTrait(self, request: pb.CreateTraitRequest, context: object) -> pb.CreateTraitResponse:
        tenant = await self._tenants.present()
        return pb.CreateTraitResponse(trait=_trait(await self._traits.create(tenant, _draft(request))))

    async def UpdateTrait(self, request: pb.UpdateTraitRequest, context: object) -> pb.UpdateTraitResponse:
        tenant = await self._tenants.present()
        return pb.UpdateTraitResponse(trait=_trait(await self._traits.update(tenant, _draft(request))))

    async def DeleteTrait(self, request: pb.DeleteTraitRequest, context: object) -> pb.DeleteTraitResponse:
        await self._traits.delete(await self._tenants.present(), request.key)
        return pb.DeleteTraitResponse()

    async def GetTrait(self, request: pb.GetTraitRequest, context: object) -> pb.GetTraitResponse:
        active, versions = await self._traits.get(await self._tenants.present(), request.key)
        return pb.GetTraitResponse(trait=_trait(active), versions=[_trait(one) for one in versions])

    async def ListTraits(self, request: pb.ListTraitsRequest, context: object) -> pb.ListTraitsResponse:
        tenant = await self._tenants.present()
        return pb.ListTraitsResponse(traits=[_trait(one) for one in await self._traits.all(tenant)])

    async def ComputeTraits(self, request: pb.ComputeTraitsRequest, context: object) -> pb.ComputeTraitsResponse:
        tenant = await self._tenants.present()
        computed = await self._traits.compute(tenant, request.ref, wire.instant_of(request, "at"))
        values = [
            pb.TraitValue(key=trait.key, version=trait.version, value=value, unit=trait.definition.unit)
            for trait, value in zip(computed.traits, computed.values, strict=True)
        ]
        at = wire.timestamp(computed.at)
        return pb.ComputeTraitsResponse(profile_id=str(computed.profile_id), at=at, values=values)

    async def GetLineage(self, request: pb.GetLineageRequest, context: object) -> pb.GetLineageResponse:
        traits = await self._traits.all(await self._tenants.present())
        match request.WhichOneof("subject"):
            case "feature":
                found: Sequence[lineage.Lineage] = [lineage.of_feature(request.feature, traits)]
            case "event":
                found = lineage.of_event(request.event, traits)
            case _:
                raise InvalidArgument("lineage is of a feature or of an event", field="feature")
        return pb.GetLineageResponse(lineages=[_lineage(one) for one in found])

    async def DescribeFeatures(self, request: pb.DescribeFeaturesRequest, context: object) -> pb.DescribeFeaturesResponse:
        tenant = await self._tenants.present()
        sample, described = await self._spread.describe(tenant, _asked(request, wire.instant_of(request, "at")))
        answer = pb.DescribeFeaturesResponse(profile_count=sample.profile_count)
        _set_at(answer, sample)
        answer.descriptions.extend(_description(name, described[name]) for name in sample.columns)
        return answer

    async def CorrelateFeatures(self, request: pb.CorrelateFeaturesRequest, context: object) -> pb.CorrelateFeaturesResponse:
        tenant = await self._tenants.present()
        sample, found = await self._spread.correlate(tenant, _asked(request, wire.instant_of(request, "at")))
        answer = pb.CorrelateFeaturesResponse(profile_count=sample.profile_count, fewest=figures.FEWEST)
        _set_at(answer, sample)
        answer.correlations.extend(_correlation(one) for one in found)
        return answer


def _draft(request: pb.CreateTraitRequest | pb.UpdateTraitRequest) -> Draft:
    return Draft(request.key, request.definition, request.owner, request.purpose)


def _trait(one: Trait) -> pb.Trait:
    return pb.Trait(
        key=one.key,
        version=one.version,
        definition=one.definition,
        owner=one.owner,
        purpose=one.purpose,
        status=pb.TRAIT_STATUS_RETIRED if one.retired else pb.TRAIT_STATUS_ACTIVE,
        created=wire.timestamp(one.created),
        digest=one.digest,
    )


def _lineage(one: lineage.Lineage) -> pb.Lineage:
    trait = one.trait
    return pb.Lineage(
        name=one.name,
        kind="feature" if trait is None else "trait",
        set=one.set,
        set_digest=one.set_digest,
        version=trait.version if trait else 0,
        owner=trait.owner if trait else "",
        purpose=trait.purpose if trait else "",
        events=one.events,
        types=one.types,
        properties=one.properties,
        channels=one.channels,
    )


def _asked(request: pb.DescribeFeaturesRequest | pb.CorrelateFeaturesRequest, at: datetime | None) -> Asked:
    return Asked(list(request.features), None if request.everybody else list(request.profile_ids), at)


def _set_at(answer: pb.DescribeFeaturesResponse | pb.CorrelateFeaturesResponse, sample: Sample) -> None:
    if sample.at is not None:
        answer.at.CopyFrom(wire.timestamp(sample.at))


def _description(name: str, one: figures.Description) -> pb.Description:
    return pb.Description(
        feature=name,
        unit=_UNITS[name],
        count=one.count,
        missing_count=one.missing_count,
        mean=one.mean,
        variance=one.variance,
        minimum=one.minimum,
        maximum=one.maximum,
        quantiles=[pb.Quantile(share=a, value=b) for a, b in zip(figures.SHARES, one.quantiles, strict=False)],
        categories=[pb.Category(text=text, count=count) for text, count in one.categories],
        category_count=one.category_count,
    )


def _correlation(one: figures.Correlation) -> pb.Correlation:
    return pb.Correlation(
        left=one.left,
        right=one.right,
        method=pb.CorrelationMethod.Value(f"CORRELATION_METHOD_{one.method}"),
        n=one.n,
        coefficient=one.coefficient,
        absent=one.absent,
    )
