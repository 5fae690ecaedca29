"""The gRPC service of receipts."""

from typing import Final

from rapport.profiles.v1 import receipts_pb2 as pb
from rapport.profiles.v1 import receipts_pb2_grpc

from services.profiles.receipts import KEPT, Fate, FateStatus, Receipts
from services.profiles.tenancy import Tenants

_STATUS: Final = {status: pb.FateStatus.Value(f"FATE_STATUS_{status.name}") for status in FateStatus}


class ReceiptBookRpc(receipts_pb2_grpc.ReceiptBookServicer):
    """Decodes, asks, encodes."""

    def __init__(self, tenants: Tenants, receipts: Receipts) -> None:
        self._tenants = tenants
        self._receipts = receipts

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: object) -> pb.GetReceiptResponse:
        answer = await self._receipts.of(await self._tenants.present(), request.message_id)
        message = pb.GetReceiptResponse(
            message_id=request.message_id,
            fates=[fate_message(fate) for fate in answer.fates],
            duplicate_count=answer.repeat_count,
            has_more=answer.has_more,
        )
        if answer.last_repeat is not None:
            message.last_duplicate.FromDatetime(answer.last_repeat)
        return message


def fate_message(fate: Fate) -> pb.Fate:
    message = pb.Fate(status=_STATUS[fate.status], type=fate.type, reason=fate.reason, field=fate.field, message=fate.message)
    message.received.FromDatetime(fate.received)
    if fate.decided is not None:
        message.decided.FromDatetime(fate.decided)
    if (held := fate.held) is not None:
        message.plan_version, message.event, message.rule = held.plan_version, held.name, held.rule
        message.quarantine_id = held.event_id.hex()
        if fate.status is FateStatus.QUARANTINED:
            message.expires.FromDatetime(held.received + KEPT)
    return message
