"""Between the wire's messages and ours."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis.errors import InvalidArgument
from services.profiles.domain.clock import ClockKind, moment_of
from services.profiles.domain.identity import namespace_of
from services.profiles.draft import Fact
from services.profiles.ingest import Receipt, ReceiptStatus, Submission
from services.profiles.jsontext import dumps, loads
from services.profiles.portrait import Portrait
from services.profiles.store.events import EventRow, RejectionRow
from services.profiles.store.profiles import ProfileRow

_STATUS: Final = {
    ReceiptStatus.ACCEPTED: pb.RECEIPT_STATUS_ACCEPTED,
    ReceiptStatus.DUPLICATE: pb.RECEIPT_STATUS_DUPLICATE,
    ReceiptStatus.REJECTED: pb.RECEIPT_STATUS_REJECTED,
    ReceiptStatus.QUARANTINED: pb.RECEIPT_STATUS_QUARANTINED,
}
_CLOCKS: Final = {
    pb.CLOCK_KIND_UNSPECIFIED: ClockKind.WALL,
    pb.CLOCK_KIND_WALL: ClockKind.WALL,
    pb.CLOCK_KIND_EVENTS: ClockKind.EVENTS,
}


def submission_of(message: pb.Submission) -> Submission:
    received = message.received
    received_us = us_of(received, "received") if received.seconds else time.time_ns() // 1_000
    return Submission(message.type, message.body, received_us)


def fact_of(message: pb.Fact) -> Fact:
    ts_us = us_of(message.timestamp, "timestamp") if message.HasField("timestamp") else None
    return Fact(
        message.message_id,
        message.profile_id,
        message.name,
        ts_us,
        message.properties,
        message.personal,
        message.source,
        message.traceparent,
    )


def us_of(message: Timestamp, field: str) -> int:
    """Microseconds since the epoch. Raises InvalidArgument outside the years 1 to 9999."""
    us = message.seconds * 1_000_000 + message.nanos // 1_000
    try:
        moment_of(us)
    except OverflowError:
        raise InvalidArgument(f"{field} is outside the years 1 to 9999", field=field) from None
    return us


def instant_of(message: Any, field: str) -> datetime | None:
    """A request's optional instant."""
    return moment_of(us_of(getattr(message, field), field)) if message.HasField(field) else None


def timestamp(moment: datetime) -> Timestamp:
    """Of an aware datetime."""
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def clock_of(value: int) -> ClockKind:
    """Raises InvalidArgument."""
    if value not in _CLOCKS:
        raise InvalidArgument("there is no such clock", field="clock")
    return _CLOCKS[pb.ClockKind.ValueType(value)]


def receipt(one: Receipt) -> pb.Receipt:
    message = pb.Receipt(message_id=one.message_id, status=_STATUS[one.status])
    if one.error is not None:
        message.reason, message.field, message.message = one.error.reason.name, one.error.field, one.error.message
    if one.first is not None:
        message.first_received.FromDatetime(one.first)
    if one.verdict is not None:
        message.plan_version, message.rule = one.verdict.version, one.verdict.violations[0].rule
    return message


def submission_result(answer: list[Receipt] | InvalidArgument) -> pb.SubmissionResult:
    if isinstance(answer, InvalidArgument):
        malformed = pb.Malformed(
            reason=answer.reason.name,
            message=answer.message,
            field=answer.field,
            message_id=answer.metadata.get("message_id", ""),
        )
        return pb.SubmissionResult(malformed=malformed)
    return pb.SubmissionResult(receipts=pb.Receipts(receipts=[receipt(one) for one in answer]))


def profile(row: ProfileRow) -> pb.Profile:
    identities = [
        pb.Identity(namespace=namespace_of(each.node_id).label, node_id=str(each.node_id), since=timestamp(each.since))
        for each in row.identities
    ]
    return pb.Profile(
        profile_id=str(row.profile_id),
        first_seen=timestamp(row.first_seen),
        last_seen=timestamp(row.last_seen),
        traits=row.traits,
        event_count=row.event_count,
        identities=identities,
        identified=row.identified,
    )


def event(row: EventRow) -> pb.TimelineEvent:
    """The public properties as the client sent them: what `rest` holds comes before the other two."""
    properties = loads(row.numbers) | loads(row.texts) | loads(row.rest)
    return pb.TimelineEvent(
        event_id=row.event_id.hex(),
        type=row.type,
        name=row.name,
        timestamp=timestamp(row.ts),
        received=timestamp(row.received),
        properties=dumps(properties),
        source=row.source,
    )


def rejection(row: RejectionRow) -> pb.Rejection:
    return pb.Rejection(
        received=timestamp(row.received), type=row.type, reason=row.reason, field=row.field, message=row.message
    )


def portrait(one: Portrait) -> pb.GetPortraitResponse:
    answer = pb.GetPortraitResponse(profile_id=str(one.profile_id), at=timestamp(one.at))
    for name, entries in one.blocks.items():
        block = answer.blocks.add(name=name, empty=not entries)
        for entry in entries:
            block.entries.add(
                name=entry.name, value=entry.value, unit=entry.unit, origin=entry.origin, personal=entry.personal,
                sensitive=entry.sensitive,
            )  # fmt: skip
    return answer
