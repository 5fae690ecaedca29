"""The catalogue of profiles as the gateway knows it: keeps traits by tenant, and has one figure for everything."""

from collections import defaultdict
from typing import Any

from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2 as pb
from rapport.profiles.v1.catalogue_pb2_grpc import CatalogueServicer

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound
from tests.integration.gateway.stand_ins import Profiles, stamp

SPENT = features_pb2.Feature(name="revenue_total", aggregation=features_pb2.AGGREGATION_SUM, unit="currency")


class Catalogue(CatalogueServicer):
    """`described` is the last question."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._traits: dict[str, dict[str, pb.Trait]] = defaultdict(dict)
        self.described = pb.DescribeFeaturesRequest()

    def _get(self, key: str) -> pb.Trait:
        if key not in self._traits[context.tenant()]:
            raise NotFound("there is no trait of that key", field="key")
        return self._traits[context.tenant()][key]

    async def ListFeatureSets(self, request: Any, call: object) -> pb.ListFeatureSetsResponse:
        return pb.ListFeatureSetsResponse(sets=[pb.FeatureSet(name="churn", digest="f" * 64, features=[SPENT])])

    async def CreateTrait(self, request: Any, call: object) -> pb.CreateTraitResponse:
        if request.key in self._traits[context.tenant()]:
            raise Conflict("there is a trait of that key", field="key")
        if not request.definition.aggregation:
            raise InvalidArgument("names no known aggregation", field="definition.aggregation")
        made = pb.Trait(key=request.key, version=1, owner=request.owner, purpose=request.purpose, created=stamp())
        made.definition.CopyFrom(request.definition)
        made.definition.name, made.status = request.key, pb.TRAIT_STATUS_ACTIVE
        self._traits[context.tenant()][request.key] = made
        return pb.CreateTraitResponse(trait=made)

    async def UpdateTrait(self, request: Any, call: object) -> pb.UpdateTraitResponse:
        trait = self._get(request.key)
        trait.definition.CopyFrom(request.definition)
        trait.version += 1
        return pb.UpdateTraitResponse(trait=trait)

    async def GetTrait(self, request: Any, call: object) -> pb.GetTraitResponse:
        return pb.GetTraitResponse(trait=self._get(request.key), versions=[self._get(request.key)])

    async def ListTraits(self, request: Any, call: object) -> pb.ListTraitsResponse:
        return pb.ListTraitsResponse(traits=self._traits[context.tenant()].values())

    async def DeleteTrait(self, request: Any, call: object) -> pb.DeleteTraitResponse:
        self._get(request.key)
        del self._traits[context.tenant()][request.key]
        return pb.DeleteTraitResponse()

    async def ComputeTraits(self, request: Any, call: object) -> pb.ComputeTraitsResponse:
        value = features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_PRESENT, decimal="12.50")
        profile_id = self._profiles.get(request.ref)
        values = [pb.TraitValue(key=key, version=1, value=value) for key in self._traits[context.tenant()]]
        return pb.ComputeTraitsResponse(profile_id=profile_id, at=stamp(), values=values)

    async def GetLineage(self, request: Any, call: object) -> pb.GetLineageResponse:
        name = request.feature or "orders_count"
        one = pb.Lineage(
            name=name, kind="feature", set="churn", set_digest="f" * 64, events=["Order Completed"], types=["track"]
        )
        return pb.GetLineageResponse(lineages=[one])

    async def DescribeFeatures(self, request: Any, call: object) -> pb.DescribeFeaturesResponse:
        self.described = request
        one = pb.Description(
            feature=request.features[0], unit="orders", count=3, mean=2.0, quantiles=[pb.Quantile(share=0.5, value=2)]
        )
        return pb.DescribeFeaturesResponse(at=stamp(), profile_count=3, descriptions=[one])

    async def CorrelateFeatures(self, request: Any, call: object) -> pb.CorrelateFeaturesResponse:
        left, right = request.features[:2]
        one = pb.Correlation(left=left, right=right, method=pb.CORRELATION_METHOD_PEARSON, n=40, coefficient=0.5)
        few = pb.Correlation(left=left, right=right, method=pb.CORRELATION_METHOD_SPEARMAN, n=4, absent="NOT_ENOUGH_DATA")
        return pb.CorrelateFeaturesResponse(at=stamp(), profile_count=40, fewest=30, correlations=[one, few])
