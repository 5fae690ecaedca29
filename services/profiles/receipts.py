"""What became of a message, out of all that is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.domain.validate import MAX_ID_LENGTH
from services.profiles.store.receipts import Held, ReceiptStore, Story
from services.profiles.tenancy import Tenant

# How long rejections, repeats and decisions can be asked for, and how long an event waits in quarantine.
KEPT: Final = timedelta(days=30)
# Rejections of one tenant; beyond it the oldest are forgotten sooner, and who asks for them is told so.
MAX_REJECTIONS: Final = 1_000_000
MAX_FATES: Final = 100


class FateStatus(Enum):
    """A state that a message reached."""

    ACCEPTED = 1
    REJECTED = 2
    QUARANTINED = 3
    REPLAYED = 4
    SUPERSEDED = 5
    DISCARDED = 6
    EXPIRED = 7


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of it, and when it came. The fields that only some states have are empty in the others."""

    status: FateStatus
    received: datetime
    decided: datetime | None = None
    type: str = ""
    reason: str = ""
    field: str = ""
    message: str = ""
    held: Held | None = None

    @property
    def since(self) -> datetime:
        """From when it was so."""
        return self.decided or self.received


@dataclass(frozen=True, slots=True)
class Answer:
    """Fates, the newest state first, and how often the message came again."""

    fates: Sequence[Fate]
    repeat_count: int
    last_repeat: datetime | None
    has_more: bool


class Receipts:
    """Looked up by the keyed hash of a message id, which is stored nowhere."""

    def __init__(self, store: ReceiptStore) -> None:
        self._store = store

    async def of(self, tenant: Tenant, message_id: str) -> Answer:
        """Raises NotFound with from when on every receipt is kept."""
        if not 0 < len(message_id) <= MAX_ID_LENGTH:
            raise InvalidArgument(f"a message id has 1 to {MAX_ID_LENGTH} characters", field="message_id")
        story = await self._store.story(tenant.tenant_id, tenant.keys.event_id(message_id), MAX_FATES + 1)
        fates = fates_of(story)
        if not fates:
            raise NotFound(_unknown(story.forgotten_through), reason=Reason.NOT_FOUND, field="message_id")
        return Answer(fates[:MAX_FATES], story.repeat_count, story.last_repeat, len(fates) > MAX_FATES)


def fates_of(story: Story) -> list[Fate]:
    """The newest state first."""
    fates = [
        Fate(FateStatus.REJECTED, each.received, None, each.type, each.reason, each.field, each.message)
        for each in story.refusals
    ]
    if (held := story.held) is not None:
        status = FateStatus.QUARANTINED if held.state == "waiting" else FateStatus[held.state.upper()]
        reason = Reason.PLAN_VIOLATION.name
        fates.append(Fate(status, held.received, held.decided, held.type, reason, held.field, held.message, held))
    if story.accepted is not None and not (story.held is not None and story.held.state == "replayed"):
        fates.append(Fate(FateStatus.ACCEPTED, story.accepted))
    # Of two at the same instant, in the log is the newer.
    return sorted(fates, key=lambda fate: (fate.since, fate.status is FateStatus.ACCEPTED), reverse=True)


def _unknown(forgotten_through: datetime | None) -> str:
    known = f"no event of this tenant came with that message id within the last {KEPT.days} days"
    if forgotten_through is None or forgotten_through < datetime.now(UTC) - KEPT:
        return known
    through = forgotten_through.astimezone(UTC).isoformat(timespec="seconds")
    return f"{known}, unless it was rejected: rejections up to {through} are forgotten, {MAX_REJECTIONS:,} are kept at most"
