"""Events that the tracking plan holds back: told, replayed, edited, discarded; and a first plan out of those that came."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Counter, Gauge
from rapport.profiles.v1 import event_pb2

from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from services.profiles.domain import classify, validate
from services.profiles.domain.clock import ClockKind, moment_of
from services.profiles.domain.violations import Verdict
from services.profiles.jsontext import dumps, loads
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.store.log import LogStore
from services.profiles.store.quarantine import QuarantineStore, Waiting, WaitingRow
from services.profiles.tenancy import Tenant
from services.profiles.vault import Unreadable, open_sealed, seal

DECISIONS: Final = Counter("rapport_profiles_quarantine_decisions_total", "Ends of waiting in quarantine.", ["decision"])
WAITING: Final = Gauge("rapport_profiles_quarantine_waiting_events", "Events that wait in quarantine, of all tenants.")

REPLAYED_AT_ONCE: Final = 500
REPLAYED_A_CALL: Final = 10_000


@dataclass(slots=True)
class Opened:
    """An event with all that it holds. `secret` is what was sealed, by Segment's names."""

    event: event_pb2.Event
    secret: dict[str, Any]
    cipher: AESGCM | None

    @property
    def name(self) -> str:
        """The name of a track call, its personal names included."""
        return self.event.name or str(self.secret.get("name", ""))

    @property
    def part(self) -> str:
        """Where Segment has its fields."""
        return "traits" if self.event.type in ("identify", "group") else "properties"

    @property
    def public(self) -> dict[str, Any]:
        """Public properties or traits."""
        return loads(self.event.properties) if self.event.properties else {}

    @property
    def personal(self) -> dict[str, Any]:
        """Personal properties or traits."""
        return self.secret.get(self.part, {})

    @property
    def fields(self) -> dict[str, Any]:
        """Both."""
        return classify.join(self.public, self.personal)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of those that waited. `last` is where to go on, None where all were tried."""

    replayed_count: int
    superseded_count: int
    waiting_count: int
    last: tuple[datetime, bytes] | None


class Quarantine:
    """What waits for somebody to decide."""

    def __init__(self, store: QuarantineStore, log: LogStore, people: People, plans: Plans) -> None:
        self._store = store
        self._log = log
        self._people = people
        self._plans = plans

    async def page(self, tenant: Tenant, before: tuple[datetime, bytes], limit: int) -> Sequence[WaitingRow]:
        """Newest first."""
        return await self._store.newest(tenant.tenant_id, before, limit)

    async def get(self, tenant: Tenant, quarantine_id: str) -> WaitingRow:
        """Raises NotFound where it does not wait."""
        row = await self._store.find(tenant.tenant_id, _event_id(quarantine_id))
        if row is None:
            raise NotFound("no such event waits in quarantine", field="quarantine_id")
        return row

    async def fields(self, tenant: Tenant, row: WaitingRow) -> dict[str, Any]:
        """All properties or traits, decrypted. Raises Conflict where the person's key is gone."""
        return (await self._open(tenant, row.event)).fields

    async def replay(self, tenant: Tenant, quarantine_id: str) -> bool:
        """False: its message was accepted meanwhile. Raises NotFound; Conflict where the present plan does not let it pass."""
        row = await self.get(tenant, quarantine_id)
        opened = await self._open(tenant, row.event)
        if (verdict := await self._judged(tenant, opened)) is not None:
            message = f"it stays in quarantine: {verdict.message}"
            raise Conflict(message, reason=Reason.PLAN_VIOLATION, field=_pointer(verdict))
        await self._part_anew(tenant, opened)
        return await self._append(tenant, opened, row.event)

    async def edit(self, tenant: Tenant, quarantine_id: str, properties: bytes, *, with_personal: bool) -> bool:
        """Replaces the properties or traits, and replays. Who does not see the personal ones leaves them as they are.

        False: its message was accepted meanwhile. Raises NotFound, and InvalidArgument where what is given is not as an
        event must be, or not as the plan has it; then nothing is changed.
        """
        row = await self.get(tenant, quarantine_id)
        opened = await self._open(tenant, row.event)
        given = _read(properties)
        fields = given if with_personal else classify.join(given, opened.personal)
        if opened.event.type == "track":
            validate.check_commerce(opened.name, fields)
        _replace(tenant, opened, fields, await self._classes(tenant, opened))
        if (verdict := await self._judged(tenant, opened)) is not None:
            raise InvalidArgument(verdict.message, reason=Reason.PLAN_VIOLATION, field=_pointer(verdict))
        return await self._append(tenant, opened, row.event)

    async def discard(self, tenant: Tenant, quarantine_id: str) -> None:
        """Its receipt says so. Raises NotFound."""
        if not await self._store.discard(tenant.tenant_id, _event_id(quarantine_id), datetime.now(UTC)):
            raise NotFound("no such event waits in quarantine", field="quarantine_id")
        DECISIONS.labels("discarded").inc()

    async def replay_all(self, tenant: Tenant, after: tuple[datetime, bytes]) -> Replayed:
        """All that the present plan lets pass, oldest first, up to REPLAYED_A_CALL; the others go on waiting."""
        replayed = superseded = waiting = 0
        for _ in range(REPLAYED_A_CALL // REPLAYED_AT_ONCE):
            rows = await self._store.oldest(tenant.tenant_id, after, REPLAYED_AT_ONCE)
            passing = await self._passing(tenant, rows)
            fresh, before = await self._log.replay(tenant.tenant_id, passing, datetime.now(UTC))
            replayed, superseded = replayed + len(fresh), superseded + len(before)
            waiting += len(rows) - len(passing)
            _count(len(fresh), len(before))
            if len(rows) < REPLAYED_AT_ONCE:
                return Replayed(replayed, superseded, waiting, None)
            after = rows[-1].event.received, rows[-1].event.event_id
        return Replayed(replayed, superseded, waiting, after)

    async def _passing(self, tenant: Tenant, rows: Sequence[WaitingRow]) -> list[Waiting]:
        """Those that the present plan lets pass, ready to be appended."""
        ciphers = await self._people.ciphers(tenant, {row.event.node_id for row in rows if row.event.node_id})
        passing: list[Waiting] = []
        for row in rows:
            await asyncio.sleep(0)
            try:
                opened = opened_event(tenant, row.event.payload, ciphers)
            except Unreadable:
                continue
            if await self._judged(tenant, opened) is None:
                await self._part_anew(tenant, opened)
                passing.append(_as_appended(tenant, opened, row.event))
        return passing

    async def _open(self, tenant: Tenant, event: Waiting) -> Opened:
        ciphers = await self._people.ciphers(tenant, [event.node_id]) if event.node_id else {}
        try:
            return opened_event(tenant, event.payload, ciphers)
        except Unreadable:
            message = "the key of the person is gone, so that nobody can read the event; it can be discarded"
            raise Conflict(message, reason=Reason.UNKNOWN_PROFILE, field="quarantine_id") from None

    async def _judged(self, tenant: Tenant, opened: Opened) -> Verdict | None:
        judge = await self._plans.judge(tenant.tenant_id)
        verdict = judge.judge_fields(opened.event.type, opened.name, opened.fields) if judge else None
        return None if verdict is None or verdict.lets_pass else verdict

    async def _classes(self, tenant: Tenant, opened: Opened) -> classify.Classes:
        return await self._plans.classes(tenant.tenant_id, opened.event.type, opened.name)

    async def _part_anew(self, tenant: Tenant, opened: Opened) -> None:
        """The present plan may declare more of its fields than the one that held it back."""
        if declared := await self._classes(tenant, opened):
            _replace(tenant, opened, opened.fields, declared)

    async def _append(self, tenant: Tenant, opened: Opened, event: Waiting) -> bool:
        waiting = _as_appended(tenant, opened, event)
        fresh, before = await self._log.replay(tenant.tenant_id, [waiting], datetime.now(UTC))
        if not fresh and not before:
            raise NotFound("no such event waits in quarantine", field="quarantine_id")
        _count(len(fresh), len(before))
        return bool(fresh)


def opened_event(tenant: Tenant, payload: bytes, ciphers: Mapping[UUID, AESGCM]) -> Opened:
    """Raises Unreadable where its key is gone."""
    event = event_pb2.Event.FromString(payload)
    if not event.sealed:
        return Opened(event, {}, None)
    cipher = ciphers.get(UUID(event.node_id))
    if cipher is None:
        raise Unreadable
    return Opened(event, loads(open_sealed(cipher, event.sealed, tenant.keys.of_event(event.event_id))), cipher)


def _replace(tenant: Tenant, opened: Opened, fields: Mapping[str, Any], declared: classify.Classes) -> None:
    """Other properties or traits, parted and sealed as those that come in."""
    event, secret = opened.event, opened.secret
    public, personal = classify.split(fields, classify.kind_of(event.type, event.name), declared)
    event.properties = dumps(public) if public else b""
    secret.pop(opened.part, None)
    event.traits_digest = b""
    if personal:
        secret[opened.part] = personal
        if event.type == "identify":
            event.traits_digest = tenant.keys.traits_digest(UUID(event.node_id), dumps(personal))
    if opened.cipher is not None:
        event.sealed = seal(opened.cipher, dumps(secret), tenant.keys.of_event(event.event_id))


def _as_appended(tenant: Tenant, opened: Opened, event: Waiting) -> Waiting:
    """Its time, its id and when it was received stay; a prediction may know of it from now on, as everybody else."""
    if tenant.clock is ClockKind.WALL:
        opened.event.known_us = time.time_ns() // 1_000
    return Waiting(event.event_id, event.node_id, moment_of(opened.event.received_us), opened.event.SerializeToString())


def _read(properties: bytes) -> dict[str, Any]:
    """Raises InvalidArgument where no event could hold them."""
    if len(properties) > validate.MAX_EVENT_BYTES:
        size = validate.MAX_EVENT_BYTES // 1024
        raise InvalidArgument(f"properties are at most {size} KB", reason=Reason.EVENT_TOO_LARGE, field="properties")
    try:
        given = loads(properties)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArgument("properties are a JSON object", reason=Reason.MALFORMED_JSON, field="properties") from None
    validate.check_shape({"properties": given})
    validate.check_texts({"properties": given})
    return given


def _event_id(quarantine_id: str) -> bytes:
    """Raises NotFound for what is no id of ours."""
    try:
        return bytes.fromhex(quarantine_id)
    except ValueError:
        raise NotFound("no such event waits in quarantine", field="quarantine_id") from None


def _pointer(verdict: Verdict) -> str:
    """Where the first violation is, as a JSON pointer."""
    return "/" + verdict.violations[0].field.replace("[", "/").replace("]", "").replace(".", "/")


def _count(replayed: int, superseded: int) -> None:
    if replayed:
        DECISIONS.labels("replayed").inc(replayed)
    if superseded:
        DECISIONS.labels("superseded").inc(superseded)
