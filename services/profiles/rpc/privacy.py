"""The gRPC service Privacy."""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from rapport.profiles.v1 import privacy_pb2 as pb
from rapport.profiles.v1 import privacy_pb2_grpc
from rapport.subjects.v1 import subjects_pb2

from chassis import subjects
from chassis.context import current, everyone
from chassis.errors import InvalidArgument
from services.profiles.disclose import MAX_EVENTS, Disclosures
from services.profiles.erase import Erasures, may_be_confirmed
from services.profiles.jsontext import dumps
from services.profiles.rpc import paging
from services.profiles.rpc.wire import timestamp
from services.profiles.store.erasures import ErasureRow, ErasureStore
from services.profiles.store.exports import Place
from services.profiles.tenancy import Tenants

_LAST: Final = UUID(int=2**128 - 1)


class PrivacyRpc(privacy_pb2_grpc.PrivacyServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, disclosures: Disclosures, erasures: Erasures, store: ErasureStore) -> None:
        self._tenants = tenants
        self._disclosures = disclosures
        self._erasures = erasures
        self._store = store

    async def ExportProfile(self, request: pb.ExportProfileRequest, context: object) -> pb.ExportProfileResponse:
        tenant = await self._tenants.present()
        size, after = paging.page_size(request.page_size), paging.place_after(request.page_token)
        page = await self._disclosures.page(tenant, request.ref, Place(*after) if after else None, min(size, MAX_EVENTS))
        return pb.ExportProfileResponse(
            profile_id=str(page.profile_id),
            profile_ids=[str(node_id) for node_id in page.node_ids],
            tables=[subjects_pb2.SubjectTable(name=name, rows=dumps(rows)) for name, rows in page.tables.items()],
            events=page.events,
            next_page_token=paging.place_token(page.after.xid, page.after.seq) if page.after else "",
        )

    async def EraseProfile(self, request: pb.EraseProfileRequest, context: object) -> pb.EraseProfileResponse:
        tenant = await self._tenants.present()
        return pb.EraseProfileResponse(
            erasure=_erasure(await self._erasures.begin(tenant, request.ref, request.reason, request.services))
        )

    async def GetErasure(self, request: pb.GetErasureRequest, context: object) -> pb.GetErasureResponse:
        tenant = await self._tenants.present()
        return pb.GetErasureResponse(erasure=_erasure(await self._erasures.find(tenant, request.erasure_id)))

    async def ListErasures(self, request: pb.ListErasuresRequest, context: object) -> pb.ListErasuresResponse:
        tenant = await self._tenants.present()
        size = paging.page_size(request.page_size)
        rows = await self._store.page(tenant.tenant_id, _before(request.page_token), size + 1)
        last = rows[size - 1] if len(rows) > size else None
        return pb.ListErasuresResponse(
            erasures=[_erasure(row) for row in rows[:size]],
            next_page_token=paging.moment_token(last.requested, last.erasure_id.bytes) if last else "",
        )

    async def ListOpenErasures(self, request: pb.ListOpenErasuresRequest, context: object) -> pb.ListOpenErasuresResponse:
        now = datetime.now(UTC)
        # A gateway asks by itself, for no tenant; who asks for one hears of that one only.
        with nullcontext() if current().tenant else everyone():
            rows = await self._store.open()
        return pb.ListOpenErasuresResponse(
            erasures=[_erasure(row) for row in rows if may_be_confirmed(row, now) and _waiting_for(row)]
        )

    async def ConfirmErasure(self, request: pb.ConfirmErasureRequest, context: object) -> pb.ConfirmErasureResponse:
        tenant = await self._tenants.present()
        counts = {each.name: each.row_count for each in request.stores}
        await self._erasures.confirm(tenant, request.erasure_id, request.service, counts)
        return pb.ConfirmErasureResponse()


def _before(token: str) -> tuple[datetime, UUID]:
    moment, row_id = paging.moment_before(token)
    if not token:
        return moment, _LAST
    if len(row_id) != 16:
        raise InvalidArgument("the page token is not one of ours", field="page_token")
    return moment, UUID(bytes=row_id)


def _waiting_for(row: ErasureRow) -> list[str]:
    return sorted(set(row.services) - set(row.confirmed))


def _erasure(row: ErasureRow) -> pb.Erasure:
    state = pb.ERASURE_STATE_RUNNING if row.destroyed else pb.ERASURE_STATE_REQUESTED
    return pb.Erasure(
        erasure_id=str(row.erasure_id),
        tenant_id=row.tenant_id,
        profile_id=str(row.profile_id),
        profile_ids=[str(node_id) for node_id in row.node_ids],
        state=pb.ERASURE_STATE_COMPLETED if row.completed else state,
        reason=row.reason,
        actor=row.actor,
        requested=timestamp(row.requested),
        keys_destroyed=timestamp(row.destroyed) if row.destroyed else None,
        completed=timestamp(row.completed) if row.completed else None,
        stores=subjects.erased(row.stores),
        waiting_for=_waiting_for(row),
    )
