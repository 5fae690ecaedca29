"""The six services as the console asks them: one tenant with a shop's customers, any other with nothing at all."""

import json
from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.features.v1 import features_pb2 as features
from rapport.profiles.v1 import profiles_pb2 as profiles
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesServicer
from rapport.recommendation.v1 import recommendation_pb2 as recommendation
from rapport.recommendation.v1.recommendation_pb2_grpc import RecommendationServicer
from rapport.scoring.v1 import scoring_pb2 as scoring
from rapport.scoring.v1.scoring_pb2_grpc import ScoringServicer
from rapport.segmentation.v1 import segmentation_pb2 as segmentation
from rapport.segmentation.v1.segmentation_pb2_grpc import SegmentationServicer

from chassis import context
from chassis.errors import NotFound, Reason
from tests.unit.gateway.console_people import BY_REF, NOW, PEOPLE, Person

SHOP = "shop"
_NAMES = {
    "potential": ("Potential", "life_cycle"), "new": ("New", "life_cycle"), "active": ("Active", "life_cycle"),
    "lost": ("Lost", "life_cycle"), "champions": ("Champions", "rfm"), "loyal": ("Loyal", "rfm"),
    "potential_loyalists": ("Potential loyalists", "rfm"), "need_attention": ("Need attention", "rfm"),
    "at_risk": ("At risk", "rfm"), "hibernating": ("Hibernating", "rfm"), "big_spenders": ("Big spenders", "custom"),
}  # fmt: skip


def stamp(at: Any = NOW) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def people() -> tuple[Person, ...]:
    return PEOPLE if context.tenant() == SHOP else ()


def person_of(ref: str) -> Person:
    if context.tenant() != SHOP or ref not in BY_REF:
        raise NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field="ref")
    return BY_REF[ref]


class Profiles(ProfilesServicer):
    """Knows the shop's people."""

    async def ResolveProfiles(self, request: Any, call: object) -> profiles.ResolveProfilesResponse:
        known = BY_REF if context.tenant() == SHOP else {}
        return profiles.ResolveProfilesResponse(profile_ids=[known[r].profile_id if r in known else "" for r in request.refs])

    async def GetProfile(self, request: Any, call: object) -> profiles.GetProfileResponse:
        return profiles.GetProfileResponse(profile=self._profile(person_of(request.ref)))

    def _profile(self, person: Person) -> profiles.Profile:
        names = ("user_id", "anonymous_id") if person.identified else ("anonymous_id",)
        return profiles.Profile(
            profile_id=person.profile_id,
            first_seen=stamp(person.events[-1].at),
            last_seen=stamp(person.events[0].at),
            traits=person.traits,
            event_count=len(person.events),
            identities=[profiles.Identity(namespace=name, node_id=person.profile_id) for name in names],
            identified=person.identified,
        )

    async def ListProfiles(self, request: Any, call: object) -> profiles.ListProfilesResponse:
        chosen = [person for person in people() if person.identified or not request.identified_only]
        page, token = cut(chosen, request)
        return profiles.ListProfilesResponse(
            profiles=[self._profile(person) for person in page],
            next_page_token=token,
            total_count=len(people()),
            identified_count=sum(person.identified for person in people()),
        )

    async def GetPortrait(self, request: Any, call: object) -> profiles.GetPortraitResponse:
        person = person_of(request.ref)
        return profiles.GetPortraitResponse(profile_id=person.profile_id, blocks=_blocks(person), at=stamp())

    async def ListEvents(self, request: Any, call: object) -> profiles.ListEventsResponse:
        page, token = cut(person_of(request.ref).events, request)
        shown = [
            profiles.TimelineEvent(
                event_id="00",
                type=event.type,
                name=event.name,
                timestamp=stamp(event.at),
                received=stamp(event.at),
                properties=json.dumps(event.properties).encode(),
                source=event.source,
            )
            for event in page
        ]
        return profiles.ListEventsResponse(events=shown, next_page_token=token)

    async def ComputeFeatures(self, request: Any, call: object) -> profiles.ComputeFeaturesResponse:
        rows = [features.FeatureRow(ref=ref, profile_id=ref, values=_cells(person_of(ref))) for ref in request.refs]
        return profiles.ComputeFeaturesResponse(rows=rows, at=stamp(), features=request.features)

    async def GetFreshness(self, request: Any, call: object) -> profiles.GetFreshnessResponse:
        if not people():
            return profiles.GetFreshnessResponse()
        return profiles.GetFreshnessResponse(
            event_count=sum(len(person.events) for person in PEOPLE), profile_count=len(PEOPLE), identified_count=52,
            p50_s=0.182, p99_s=1.94, now=stamp(), rejected_count=17, duplicate_count=3,
        )  # fmt: skip


def cut(everything: Any, request: Any) -> tuple[Any, str]:
    """One page, and the token of the next."""
    start = int(request.page_token or 0)
    page = everything[start : start + request.page_size]
    return page, str(start + len(page)) if start + len(page) < len(everything) else ""


def _cells(person: Person) -> list[features.FeatureValue]:
    present = features.FEATURE_STATUS_PRESENT
    since = person.days_since
    return [
        features.FeatureValue(status=present, number=len(person.orders)),
        features.FeatureValue(status=present, decimal=f"{person.revenue:.2f}"),
        features.FeatureValue(status=features.FEATURE_STATUS_NULL_VALUE)
        if since is None
        else features.FeatureValue(status=present, number=since),
    ]


def _blocks(person: Person) -> list[profiles.PortraitBlock]:
    entry, block = profiles.PortraitEntry, profiles.PortraitBlock
    basic = [entry(name="plan", value="standard", origin="trait"), entry(name="country", value="DE", origin="trait")]
    basic.append(entry(name="email", value="ada@example.com", origin="trait", personal=True))
    basic.append(entry(name="passport", value="X1234567", origin="trait", personal=True, sensitive=True))
    bought = [
        entry(name="orders_count", value=str(len(person.orders)), unit="orders", origin="feature"),
        entry(name="revenue_total", value=f"{person.revenue:.2f}", unit="currency", origin="feature"),
        entry(name="days_since_last_order", value=str(person.days_since or ""), unit="days", origin="feature"),
        entry(name="mean_order_interval_days", value="24.71", unit="days", origin="feature"),
    ]
    bought.append(entry(name="favourite_product", value="Stoneware mug", unit="12 bought", origin="Order Completed"))
    behaviour = [
        entry(name="last_seen", value="2025-04-01", unit="date", origin="event"),
        entry(name="added_to_cart", value="4", unit="times", origin="Product Added"),
        entry(name="active_days_90d", value="11", unit="days", origin="feature"),
        entry(name="tickets_90d", value="1", unit="tickets", origin="feature"),
    ]
    return [
        block(name="basic", entries=basic),
        block(name="consumption", entries=bought),
        block(name="behaviour", entries=behaviour),
        block(name="psychology", entries=[entry(name="nps_rating", value="9", unit="on 2025-03-18", origin="Survey Answered")]),
        block(name="social", empty=True),
    ]


class Segmentation(SegmentationServicer):
    """Counts the people by stage and by RFM."""

    def _keys(self, person: Person) -> list[str]:
        keys = [person.stage, *([person.rfm] if person.rfm else [])]
        return [*keys, "big_spenders"] if person.revenue > 1500 else keys

    def _members(self, key: str) -> list[Person]:
        return [person for person in people() if key in self._keys(person)]

    async def ListSegments(self, request: Any, call: object) -> segmentation.ListSegmentsResponse:
        shipped = [key for key in _NAMES if people() or _NAMES[key][1] != "custom"]
        shown = [
            segmentation.Segment(
                key=key,
                name=_NAMES[key][0],
                family=_NAMES[key][1],
                description="Bought lately, buy often and much.",
                member_count=len(self._members(key)),
                refreshed=stamp(),
            )
            for key in shipped
        ]
        return segmentation.ListSegmentsResponse(segments=shown)

    async def ListMembers(self, request: Any, call: object) -> segmentation.ListMembersResponse:
        if request.key not in _NAMES:
            raise NotFound("there is no such segment", field="key")
        page, token = cut(self._members(request.key), request)
        members = [segmentation.Member(profile_id=each.profile_id, since=stamp(NOW - timedelta(days=9))) for each in page]
        return segmentation.ListMembersResponse(members=members, next_page_token=token)

    async def ListMemberships(self, request: Any, call: object) -> segmentation.ListMembershipsResponse:
        since = stamp(NOW - timedelta(days=9))
        shown = [
            segmentation.Membership(key=key, name=_NAMES[key][0], family=_NAMES[key][1], since=since)
            for key in self._keys(person_of(request.profile_id))
        ]
        return segmentation.ListMembershipsResponse(memberships=shown)

    async def ExplainMembership(self, request: Any, call: object) -> segmentation.ExplainMembershipResponse:
        findings = [
            segmentation.Finding(condition="all of", held=True, depth=0),
            segmentation.Finding(condition="days_since_last_order < 90", value="41.2", held=True, depth=1),
            segmentation.Finding(condition="orders_count >= 3", value="2", held=False, depth=1),
        ]
        return segmentation.ExplainMembershipResponse(member=True, findings=findings, version=1)


class Scoring(ScoringServicer):
    """Model version 3. Who never bought is not scored."""

    async def ScoreProfiles(self, request: Any, call: object) -> scoring.ScoreProfilesResponse:
        return scoring.ScoreProfilesResponse(results=[self._result(ref) for ref in request.refs])

    def _result(self, ref: str) -> scoring.ScoreResult:
        person = person_of(ref)
        if not person.orders:
            missing = scoring.NotScored(reason="NEVER_BOUGHT", message="this customer never bought anything")
            return scoring.ScoreResult(ref=ref, profile_id=person.profile_id, not_scored=missing)
        return scoring.ScoreResult(ref=ref, profile_id=person.profile_id, score=_score(person))

    async def GetLatestScore(self, request: Any, call: object) -> scoring.GetLatestScoreResponse:
        person = person_of(request.profile_id)
        if not person.orders or person.number == 5:
            raise NotFound("this customer has no score yet")
        return scoring.GetLatestScoreResponse(score=_score(person))

    async def GetScoreDistribution(self, request: Any, call: object) -> scoring.GetScoreDistributionResponse:
        risks = [person.risk for person in people() if person.orders]
        counts = [sum(int(risk * 10) == bin_ for risk in risks) for bin_ in range(10)]
        mean = sum(risks) / len(risks) if risks else 0.0
        return scoring.GetScoreDistributionResponse(
            bin_counts=counts, profile_count=len(risks), mean_probability=mean, newest=stamp()
        )

    async def GetServingModel(self, request: Any, call: object) -> scoring.GetServingModelResponse:
        if not people():
            raise NotFound("no model is promoted", reason=Reason.NO_MODEL)
        return scoring.GetServingModelResponse(
            model="churn", registered_name="shop.churn", version="3", alias="champion", digest="9f2c" * 16, promoted=stamp()
        )


def _score(person: Person) -> scoring.Score:
    since = person.days_since or 0.0
    reasons = [
        scoring.Reason(
            feature="days_since_last_order", text=f"last order {since:.0f} days ago, usually every 25",
            contribution=round((since - 60) / 60, 3) or 0.2, value=since,
        ),
        scoring.Reason(feature="orders_90d", text="2 orders in the last 90 days", contribution=-0.42, value=2),
        scoring.Reason(feature="tickets_90d", text="1 ticket opened in the last 90 days", contribution=0.17, value=1),
        scoring.Reason(feature="active_days_90d", text="active on 11 of the last 90 days", contribution=-0.11, value=11),
    ]  # fmt: skip
    return scoring.Score(
        model="churn", version="3", probability=person.risk, percentile=100 * person.risk, reasons=reasons, as_of=stamp(),
        scored=stamp(), newest_event=stamp(person.events[0].at), logistic_probability=person.risk * 0.9,
    )  # fmt: skip


class Recommendation(RecommendationServicer):
    """The same items for everybody who bought."""

    async def Recommend(self, request: Any, call: object) -> recommendation.RecommendResponse:
        item = recommendation.RankedItem
        items = [
            item(item_id="P1", name="Brass table lamp", score=0.41, reason="bought with Oak writing desk by 41 customers"),
            item(item_id="P2", name="Wool <b>throw</b>", score=0.33, reason="bought with Linen curtain, sand by 28 customers"),
            item(item_id="P3", name="Walnut shelf", score=0.21, reason="popular among active customers"),
        ]
        results = [recommendation.Recommendations(profile_id=each, items=items) for each in request.profile_ids]
        return recommendation.RecommendResponse(results=results, model_built=stamp())

    async def GetNextBestAction(self, request: Any, call: object) -> recommendation.GetNextBestActionResponse:
        person = person_of(request.profile_id)
        if not person.orders:
            return recommendation.GetNextBestActionResponse(missing="no score yet, so nothing can be compared")
        value = person.revenue
        offer, call_ = person.risk * 0.10 * value - 15, person.risk * 0.18 * value - 40
        basis = "assumed: no experiment has measured it yet"
        actions = [
            recommendation.Action(name="offer", expected_value=offer, cost=15, assumed_retention=0.1, basis=basis,
                                  explanation=f"{person.risk:.2f} x 0.10 x {value:.2f} - 15.00 = {offer:.2f}"),
            recommendation.Action(name="call", expected_value=call_, cost=40, assumed_retention=0.18, basis=basis,
                                  explanation=f"{person.risk:.2f} x 0.18 x {value:.2f} - 40.00 = {call_:.2f}"),
            recommendation.Action(name="nothing", explanation="costs nothing, keeps nobody"),
        ]  # fmt: skip
        actions.sort(key=lambda action: -action.expected_value)
        return recommendation.GetNextBestActionResponse(
            profile_id=request.profile_id, actions=actions, churn_probability=person.risk, value_at_stake=value, scored=stamp()
        )
