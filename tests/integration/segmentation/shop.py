"""A profiles service of our own, for one process: customers with orders, answered over real gRPC."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import consents_pb2, consents_pb2_grpc, profiles_pb2_grpc
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import InvalidArgument

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEATURES = ("orders_count", "revenue_total", "refunds_total", "days_since_last_order", "days_since_first_order")


@dataclass(slots=True)
class Customer:
    """Orders as (time, amount)."""

    orders: list[tuple[datetime, Decimal]] = field(default_factory=list)
    refunds: Decimal = Decimal(0)


class Shop(profiles_pb2_grpc.ProfilesServicer):
    """Keeps customers by tenant. `lag` is how many rows of the log it says to be behind."""

    def __init__(self) -> None:
        self.customers: dict[str, dict[str, Customer]] = defaultdict(dict)
        self.merged: dict[str, dict[str, str]] = defaultdict(dict)
        self.facts: dict[str, dict[str, pb.Fact]] = defaultdict(dict)
        self.now: dict[str, datetime] = {}
        self.lag = 0
        self.batches: list[int] = []

    def add(self, tenant: str, *order_ages_days: float, amount: float = 10.0) -> str:
        """A new customer with orders of these ages; returns the profile id."""
        profile_id = str(uuid4())
        orders = [(self.clock(tenant) - timedelta(days=age), Decimal(str(amount))) for age in order_ages_days]
        self.customers[tenant][profile_id] = Customer(orders)
        return profile_id

    def order(self, tenant: str, profile_id: str, *, amount: float = 10.0) -> None:
        """An order, a minute ago."""
        orders = self.customers[tenant][profile_id].orders
        orders.append((self.clock(tenant) - timedelta(minutes=1), Decimal(str(amount))))

    def merge(self, tenant: str, source: str, target: str) -> None:
        """All of one customer becomes the other's."""
        self.customers[tenant][target].orders += self.customers[tenant].pop(source).orders
        self.merged[tenant][source] = target

    def clock(self, tenant: str) -> datetime:
        return self.now.get(tenant, NOW)

    def told(self, tenant: str) -> list[tuple[str, str, str]]:
        """(name, segment, profile id) of the facts, in the order of their times."""
        facts = sorted(self.facts[tenant].values(), key=lambda fact: fact.timestamp.ToMicroseconds())
        return [(fact.name, fact.properties.decode().split('"')[3], fact.profile_id) for fact in facts]

    async def ListFeatures(self, request: Any, call: Any) -> pb.ListFeaturesResponse:
        return pb.ListFeaturesResponse(features=[features_pb2.Feature(name=name) for name in FEATURES], digest="d")

    async def ListProfiles(self, request: pb.ListProfilesRequest, call: Any) -> pb.ListProfilesResponse:
        after = [each for each in sorted(self.customers[context.tenant()]) if each > request.page_token]
        page = after[: request.page_size]
        return pb.ListProfilesResponse(
            profiles=[pb.Profile(profile_id=each) for each in page],
            next_page_token=page[-1] if len(after) > len(page) else "",
        )

    async def GetFreshness(self, request: Any, call: Any) -> pb.GetFreshnessResponse:
        answer = pb.GetFreshnessResponse(lag_events=self.lag)
        answer.now.FromDatetime(self.clock(context.tenant()))
        return answer

    async def ComputeFeatures(self, request: pb.ComputeFeaturesRequest, call: Any) -> pb.ComputeFeaturesResponse:
        assert 0 < len(request.refs) <= 1000
        assert request.features
        tenant = context.tenant()
        self.batches.append(len(request.refs))
        answer = pb.ComputeFeaturesResponse(features=request.features)
        answer.at.FromDatetime(self.clock(tenant))
        for ref in request.refs:
            answer.rows.append(self._row(tenant, ref, request.features))
        return answer

    def _row(self, tenant: str, ref: str, names: Any) -> features_pb2.FeatureRow:
        profile_id = self.merged[tenant].get(ref, ref)
        customer = self.customers[tenant].get(profile_id)
        if customer is None:
            values = [features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_NOT_FOUND) for _ in names]
            return features_pb2.FeatureRow(ref=ref, values=values)
        known = _features(customer, self.clock(tenant))
        return features_pb2.FeatureRow(ref=ref, profile_id=profile_id, values=[known[name] for name in names])

    async def Ingest(self, request: pb.IngestRequest, call: Any) -> pb.IngestResponse:
        answer = pb.IngestResponse()
        known = self.facts[context.tenant()]
        for fact in request.facts:
            UUID(fact.profile_id)
            is_new = fact.message_id not in known
            known.setdefault(fact.message_id, fact)
            status = pb.RECEIPT_STATUS_ACCEPTED if is_new else pb.RECEIPT_STATUS_DUPLICATE
            answer.facts.add(message_id=fact.message_id, status=status)
        return answer


class Ledger(consents_pb2_grpc.ConsentsServicer):
    """Everybody allows everything, but what is in `denied`: (profile id, purpose, channel)."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str, str]] = set()
        self.calls = 0

    async def CheckConsents(self, request: Any, call: Any) -> consents_pb2.CheckConsentsResponse:
        self.calls += 1
        answer = consents_pb2.CheckConsentsResponse()
        for use in request.uses:
            if use.channel == "fog":
                raise InvalidArgument("a channel is one of any, sms", field="uses[0].channel")
        for ref in request.refs:
            answer.checks.add(
                profile_id=ref, allowed=[(ref, use.purpose, use.channel) not in self.denied for use in request.uses]
            )
        return answer


def _features(customer: Customer, now: datetime) -> dict[str, features_pb2.FeatureValue]:
    present, null = features_pb2.FEATURE_STATUS_PRESENT, features_pb2.FEATURE_STATUS_NULL_VALUE
    ages = sorted((now - ts) / timedelta(days=1) for ts, _ in customer.orders if ts < now)
    revenue = sum((amount for _, amount in customer.orders), Decimal(0))
    nothing = features_pb2.FeatureValue(status=null)
    return {
        "orders_count": features_pb2.FeatureValue(status=present, number=len(ages)),
        "revenue_total": features_pb2.FeatureValue(status=present, decimal=str(revenue)),
        "refunds_total": features_pb2.FeatureValue(status=present, decimal=str(customer.refunds)),
        "days_since_last_order": features_pb2.FeatureValue(status=present, number=ages[0]) if ages else nothing,
        "days_since_first_order": features_pb2.FeatureValue(status=present, number=ages[-1]) if ages else nothing,
    }
