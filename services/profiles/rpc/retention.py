"""The gRPC service of the log's retention."""

from typing import Final

from rapport.profiles.v1 import retention_pb2 as pb
from rapport.profiles.v1 import retention_pb2_grpc

from chassis.errors import InvalidArgument
from services.profiles.store.retention import RetentionStore
from services.profiles.tenancy import Tenants

# A reader that is later than that has been an alert for days; see forget.py.
MIN_DAYS: Final = 7
MAX_DAYS: Final = 36_500


class RetentionRpc(retention_pb2_grpc.RetentionServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, store: RetentionStore) -> None:
        self._tenants = tenants
        self._store = store

    async def GetRetention(self, request: pb.GetRetentionRequest, context: object) -> pb.GetRetentionResponse:
        tenant = await self._tenants.present()
        return pb.GetRetentionResponse(retention=await self._message(tenant.tenant_id))

    async def PutRetention(self, request: pb.PutRetentionRequest, context: object) -> pb.PutRetentionResponse:
        tenant = await self._tenants.present()
        days = request.log_days
        if days and not MIN_DAYS <= days <= MAX_DAYS:
            raise InvalidArgument(f"events stay in the log for {MIN_DAYS} to {MAX_DAYS} days, or for ever", field="logDays")
        await self._store.set_days(tenant.tenant_id, days or None)
        return pb.PutRetentionResponse(retention=await self._message(tenant.tenant_id))

    async def _message(self, tenant_id: str) -> pb.LogRetention:
        days, archived = await self._store.days(tenant_id), await self._store.archived_count(tenant_id)
        return pb.LogRetention(log_days=days or 0, archived_count=archived)
