"""The gRPC service."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1 import profiles_pb2_grpc

from chassis.errors import InvalidArgument
from ml.features.catalogue import EVERY
from services.profiles.archive import Archive
from services.profiles.domain import refs
from services.profiles.domain.clock import moment_of
from services.profiles.domain.consent import Use, channel_of, purpose_of
from services.profiles.features import Features
from services.profiles.ingest import Ingest
from services.profiles.lookup import Lookup
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.portrait import Portraits
from services.profiles.precedence import Precedence
from services.profiles.project import Projector, percentiles
from services.profiles.rpc import paging, wire
from services.profiles.store.events import EventStore
from services.profiles.store.freshness import FreshnessStore
from services.profiles.store.profiles import ProfileStore
from services.profiles.tenancy import Tenants

MAX_TEXTS = 1_000
MAX_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service answers from."""

    tenants: Tenants
    plans: Plans
    ingest: Ingest
    lookup: Lookup
    profiles: ProfileStore
    events: EventStore
    features: Features
    portraits: Portraits
    people: People
    archive: Archive
    projector: Projector
    precedence: Precedence
    freshness: FreshnessStore


class ProfilesRpc(profiles_pb2_grpc.ProfilesServicer):
    """Decodes, asks, encodes. Every call but CreateTenant is for a known tenant."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Ingest(self, request: pb.IngestRequest, context: object) -> pb.IngestResponse:
        tenant = await self._parts.tenants.present()
        submissions = [wire.submission_of(message) for message in request.submissions]
        facts = [wire.fact_of(message) for message in request.facts]
        answers, recorded = await self._parts.ingest.take(tenant, submissions, facts)
        return pb.IngestResponse(
            submissions=[wire.submission_result(answer) for answer in answers], facts=[wire.receipt(one) for one in recorded]
        )

    async def ListRejections(self, request: pb.ListRejectionsRequest, context: object) -> pb.ListRejectionsResponse:
        tenant = await self._parts.tenants.present()
        size, before = paging.page_size(request.page_size), paging.moment_before(request.page_token)
        rows = await self._parts.events.rejections(tenant.tenant_id, before, size + 1)
        more = paging.moment_token(rows[size - 1].received, rows[size - 1].rejection_id) if len(rows) > size else ""
        return pb.ListRejectionsResponse(rejections=[wire.rejection(row) for row in rows[:size]], next_page_token=more)

    async def ResolveProfiles(self, request: pb.ResolveProfilesRequest, context: object) -> pb.ResolveProfilesResponse:
        tenant = await self._parts.tenants.present()
        found = await self._parts.lookup.many(tenant, request.refs)
        return pb.ResolveProfilesResponse(profile_ids=[str(profile_id) if profile_id else "" for profile_id in found])

    async def GetProfile(self, request: pb.GetProfileRequest, context: object) -> pb.GetProfileResponse:
        tenant = await self._parts.tenants.present()
        return pb.GetProfileResponse(profile=wire.profile(await self._parts.lookup.profile(tenant, request.ref)))

    async def BatchGetProfiles(self, request: pb.BatchGetProfilesRequest, context: object) -> pb.BatchGetProfilesResponse:
        tenant = await self._parts.tenants.present()
        rows = await self._parts.lookup.profiles(tenant, request.refs)
        return pb.BatchGetProfilesResponse(profiles=[wire.profile(row) if row else pb.Profile() for row in rows])

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: object) -> pb.ListProfilesResponse:
        tenant = await self._parts.tenants.present()
        size, after = paging.page_size(request.page_size), paging.profile_after(request.page_token)
        store = self._parts.profiles
        rows = await store.page(tenant.tenant_id, after, size + 1, identified_only=request.identified_only)
        total_count, identified_count = await store.counts(tenant.tenant_id)
        return pb.ListProfilesResponse(
            profiles=[wire.profile(row) for row in rows[:size]],
            next_page_token=paging.profile_token(rows[size - 1].profile_id) if len(rows) > size else "",
            total_count=total_count,
            identified_count=identified_count,
        )

    async def GetPortrait(self, request: pb.GetPortraitRequest, context: object) -> pb.GetPortraitResponse:
        tenant = await self._parts.tenants.present()
        return wire.portrait(await self._parts.portraits.of(tenant, request.ref, wire.instant_of(request, "at")))

    async def ListEvents(self, request: pb.ListEventsRequest, context: object) -> pb.ListEventsResponse:
        tenant = await self._parts.tenants.present()
        size, before = paging.page_size(request.page_size), paging.moment_before(request.page_token)
        person = await self._parts.lookup.person(tenant, request.ref)
        rows = await self._parts.events.page(tenant.tenant_id, person.node_ids, before, size + 1)
        more = paging.moment_token(rows[size - 1].ts, rows[size - 1].event_id) if len(rows) > size else ""
        return pb.ListEventsResponse(events=[wire.event(row) for row in rows[:size]], next_page_token=more)

    async def ListFeatures(self, request: pb.ListFeaturesRequest, context: object) -> pb.ListFeaturesResponse:
        return pb.ListFeaturesResponse(features=EVERY, digest=self._parts.features.compiled.digest)

    async def ComputeFeatures(self, request: pb.ComputeFeaturesRequest, context: object) -> pb.ComputeFeaturesResponse:
        tenant = await self._parts.tenants.present()
        at = wire.instant_of(request, "at")
        computed = await self._parts.features.compute(tenant, request.refs, request.features, at)
        return pb.ComputeFeaturesResponse(
            rows=computed.rows,
            at=wire.timestamp(computed.at),
            features=computed.names,
            digest=self._parts.features.compiled.digest,
        )

    async def ExportLog(self, request: pb.ExportLogRequest, context: object) -> pb.ExportLogResponse:
        tenant = await self._parts.tenants.present()
        archive = self._parts.archive
        if request.purpose or request.channel:
            use = Use(purpose_of(request.purpose, "purpose"), channel_of(request.channel, "channel"))
            done = await archive.select(tenant.tenant_id, use)
        else:
            done = await archive.export(tenant.tenant_id)
        return pb.ExportLogResponse(
            path=done.path,
            event_count=done.event_count,
            digest=done.digest,
            through=wire.timestamp(moment_of(done.through_us)),
            withheld_count=done.withheld_count,
        )

    async def GetFreshness(self, request: pb.GetFreshnessRequest, context: object) -> pb.GetFreshnessResponse:
        parts = self._parts
        tenant = await parts.tenants.present()
        counts = await parts.events.counts(tenant.tenant_id)
        total_count, identified_count = await parts.profiles.counts(tenant.tenant_id)
        samples = parts.projector.samples.get(tenant.tenant_id)
        p50_s, p99_s = percentiles(samples) if samples else await parts.freshness.find(tenant.tenant_id)
        return pb.GetFreshnessResponse(
            event_count=counts.event_count,
            profile_count=total_count,
            identified_count=identified_count,
            lag_events=await parts.events.lag(tenant.tenant_id),
            p50_s=p50_s,
            p99_s=p99_s,
            now=wire.timestamp(moment_of(await parts.tenants.now_us(tenant))),
            rejected_count=counts.rejected_count,
            duplicate_count=counts.duplicate_count,
            quarantined_count=counts.quarantined_count,
            replayed_count=counts.replayed_count,
        )

    async def Seal(self, request: pb.SealRequest, context: object) -> pb.SealResponse:
        tenant = await self._parts.tenants.present()
        _check_texts(request.plaintexts, "plaintexts")
        profile_id = refs.profile_id(request.profile_id)
        return pb.SealResponse(sealed=await self._parts.people.seal(tenant, profile_id, request.plaintexts))

    async def Unseal(self, request: pb.UnsealRequest, context: object) -> pb.UnsealResponse:
        tenant = await self._parts.tenants.present()
        _check_texts(request.sealed, "sealed")
        profile_id = refs.profile_id(request.profile_id)
        return pb.UnsealResponse(plaintexts=await self._parts.people.unseal(tenant, profile_id, request.sealed))

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: object) -> pb.CreateTenantResponse:
        clock = wire.clock_of(request.clock)
        return pb.CreateTenantResponse(created=await self._parts.tenants.create(request.tenant_id, clock))


def _check_texts(texts: Sequence[bytes], field: str) -> None:

    if len(texts) > MAX_TEXTS:
        raise InvalidArgument(f"at most {MAX_TEXTS} texts at a time", field=field)
    if any(len(text) > MAX_TEXT_BYTES for text in texts):
        raise InvalidArgument(f"a text is at most {MAX_TEXT_BYTES // 1024} KB", field=field)
