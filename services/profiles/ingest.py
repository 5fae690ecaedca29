"""Takes events: a receipt for each, and what was accepted is on disk before anybody hears of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Counter

from chassis import tracing
from chassis.errors import InvalidArgument, Reason
from services.profiles import segment
from services.profiles.domain.classify import UNDECLARED, Classes
from services.profiles.domain.clock import moment_of
from services.profiles.domain.plan import Mode
from services.profiles.domain.validate import BODY_TYPES, MAX_ID_LENGTH, TYPES
from services.profiles.domain.violations import Verdict
from services.profiles.draft import DERIVED, Draft, Fact, draft_of_call, draft_of_fact, fingerprint, origin_of
from services.profiles.judge import Judge
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.precedence import Precedence
from services.profiles.store.log import Appended, Aside, Entry, LogStore
from services.profiles.store.plans import Breach
from services.profiles.store.quarantine import Hold
from services.profiles.store.receipts import Refusal
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.turns import Turn
from services.profiles.vault import seal

EVENTS: Final = Counter("rapport_profiles_ingest_events_total", "Events by what became of them.", ["status", "reason"])
VIOLATIONS: Final = Counter("rapport_profiles_plan_violations_total", "Broken rules of tracking plans, by mode.", ["mode"])
# So long may reading a body keep others waiting.
_BUSY_S: Final = 0.005


class ReceiptStatus(Enum):
    """What became of an event."""

    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3
    # The tracking plan holds it back until somebody decides.
    QUARANTINED = 4


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer for one event."""

    message_id: str
    status: ReceiptStatus
    # Why it was not accepted; of a duplicate, why its first was not.
    error: InvalidArgument | None = None
    # Of a duplicate: when the first was received.
    first: datetime | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A body as a client sent it."""

    type: str
    body: bytes
    received_us: int


@dataclass(slots=True)
class _Pending:
    """An event before it is known whether it is new. `is_repeat`: the same call holds it already."""

    message_id: str
    event_id: bytes = b""
    is_repeat: bool = False
    error: InvalidArgument | None = None
    verdict: Verdict | None = None


class _Intake:
    """What one call of Ingest gathers before it is written."""

    def __init__(self, judge: Judge | None) -> None:
        self.judge = judge
        self.drafts: dict[bytes, Draft] = {}
        self.verdicts: dict[bytes, Verdict] = {}
        self.refusals: list[Refusal] = []
        self.repeats: dict[bytes, int] = {}
        self.breaches: list[Breach] = []

    def add(self, draft: Draft, verdict: Verdict | None = None) -> _Pending:
        """One more event; what the plan says of it only matters where it is the first of its message."""
        event_id = draft.event.event_id
        if event_id in self.drafts:
            self.repeats[event_id] = self.repeats.get(event_id, 0) + 1
            return _Pending(draft.message_id, event_id, is_repeat=True)
        self.drafts[event_id] = draft
        if verdict is not None:
            self.verdicts[event_id] = verdict
            self.breach(event_id, verdict, draft.received)
        return _Pending(draft.message_id, event_id)

    def classes(self, type_: str, name: str) -> Classes:
        """What the plan declares of a call's fields."""
        return self.judge.classes(type_, name) if self.judge else UNDECLARED

    def breach(self, key: bytes, verdict: Verdict, received: datetime) -> None:
        """To be counted with what it is about."""
        for violation in verdict.violations:
            counted = self.judge.counted(violation) if self.judge else violation
            self.breaches.append(Breach(key, verdict.version, verdict.mode, counted, received))

    def aside(self) -> Aside:
        """All but the entries."""
        return Aside(self._holds(), self.refusals, self.repeats, self.breaches)

    def _holds(self) -> Mapping[bytes, Hold]:
        held = {event_id: verdict for event_id, verdict in self.verdicts.items() if not verdict.lets_pass}
        return {event_id: _hold_of(self.drafts[event_id], verdict) for event_id, verdict in held.items()}


def _hold_of(draft: Draft, verdict: Verdict) -> Hold:
    first, event = verdict.violations[0], draft.event
    moment = moment_of(event.ts_us)
    return Hold(moment, event.type, first.event, verdict.version, first.rule, first.field, verdict.message)


class Ingest:
    """Validates, deduplicates, seals, appends."""

    def __init__(self, store: LogStore, people: People, tenants: Tenants, precedence: Precedence, plans: Plans) -> None:
        self._precedence = precedence
        self._store = store
        self._people = people
        self._tenants = tenants
        self._plans = plans

    async def take(
        self, tenant: Tenant, submissions: Sequence[Submission], facts: Sequence[Fact]
    ) -> tuple[list[list[Receipt] | InvalidArgument], list[Receipt]]:
        """(for each submission its receipts, or why the whole of it could not be read; the facts' receipts).

        Such an error's metadata names the message_id that a receipt can be asked for by.
        """
        with self._precedence.taking():
            intake = _Intake(await self._plans.judge(tenant.tenant_id) if submissions else None)
            bodies: list[list[_Pending] | InvalidArgument] = []
            for submission in submissions:
                bodies.append(await self._read(tenant, submission, intake))
                await asyncio.sleep(0)  # other calls are not to wait for all of it
            recorded = await self._read_facts(tenant, facts, intake) if facts else []
            appended = await self._append(tenant, intake)
        answers = [body if isinstance(body, InvalidArgument) else _receipts(body, intake, appended) for body in bodies]
        return answers, _receipts(recorded, intake, appended)

    async def _read(self, tenant: Tenant, submission: Submission, intake: _Intake) -> list[_Pending] | InvalidArgument:
        try:
            events, body = segment.decode_body(submission.type, submission.body)
            type_ = "" if submission.type in BODY_TYPES else submission.type
            shared = (body.sent_at, body.context) if body else (None, None)
            origin = origin_of(type_, submission.received_us, sent_at=shared[0], context=shared[1])
        except InvalidArgument as error:
            return self._refuse_body(tenant, submission, error, intake)
        pending: list[_Pending] = []
        turn = Turn(_BUSY_S)
        for position, raw in enumerate(events):
            verdict: Verdict | None = None
            try:
                if raw is None:
                    raise segment.malformed_text()
                call = segment.decode_call(raw)
                draft = draft_of_call(
                    call, raw, origin, tenant, position, intake.classes(type_ or call.type or "", call.event or "")
                )
                if intake.judge is not None and (verdict := intake.judge.judge(draft.event.type, call)) is not None:
                    self._admit(tenant, verdict)
                pending.append(intake.add(draft, verdict))
            except InvalidArgument as error:
                if body is None and error.reason is Reason.MALFORMED_JSON:
                    return self._refuse_body(tenant, submission, error, intake)
                pending.append(_refuse(tenant, submission, raw or b"", position, type_, error, intake, verdict))
            if intake.judge is not None:  # schemas and their expressions may take long over a large event
                await turn.give_way()
        return pending

    def _admit(self, tenant: Tenant, verdict: Verdict) -> None:
        """Raises InvalidArgument where the plan rejects it, or would hold it and cannot."""
        if verdict.mode is Mode.REJECT:
            raise violated(verdict)
        if verdict.mode is Mode.QUARANTINE and self._plans.is_full(tenant.tenant_id):
            raise InvalidArgument(
                f"{verdict.message}; it cannot be held back: {self._plans.most_waiting:,} events wait in quarantine already",
                reason=Reason.QUARANTINE_FULL,
                field=verdict.violations[0].field,
            )

    def _refuse_body(self, tenant: Tenant, submission: Submission, error: InvalidArgument, intake: _Intake) -> InvalidArgument:
        type_ = submission.type if submission.type in TYPES | BODY_TYPES else "unknown"
        pending = _refuse(tenant, submission, submission.body, 0, type_, error, intake, None)
        error.metadata["message_id"] = pending.message_id
        return error

    async def _read_facts(self, tenant: Tenant, facts: Sequence[Fact], intake: _Intake) -> list[_Pending]:
        received_us = time.time_ns() // 1_000
        now_us = await self._tenants.now_us(tenant)
        pending: list[_Pending] = []
        for fact in facts:
            try:
                pending.append(intake.add(draft_of_fact(fact, tenant, now_us=now_us, received_us=received_us)))
            except InvalidArgument as error:
                EVENTS.labels("rejected", error.reason.name).inc()
                pending.append(_Pending(fact.message_id, error=error))
        return pending

    async def _append(self, tenant: Tenant, intake: _Intake) -> Appended:
        drafts = list(intake.drafts.values())
        if not (drafts or intake.refusals):
            return Appended()
        wanted = {draft.node_id for draft in drafts if draft.personal and draft.node_id is not None}
        ciphers = await self._people.ciphers(tenant, wanted)
        new_keys: dict[UUID, bytes] = {}
        for node_id in wanted - ciphers.keys():
            new_keys[node_id], ciphers[node_id] = tenant.keys.new_wrapped_key(node_id)

        def seal_again(taken: Mapping[UUID, bytes]) -> list[Entry]:
            ciphers.update({node_id: tenant.keys.unwrap(node_id, wrapped) for node_id, wrapped in taken.items()})
            return _sealed(tenant, drafts, ciphers)

        entries = _sealed(tenant, drafts, ciphers)
        appended = await self._store.append(tenant.tenant_id, entries, new_keys, seal_again, intake.aside())
        tenant.keys.remember({node_id: ciphers[node_id] for node_id in new_keys})
        _count(intake, appended)
        return appended


def violated(verdict: Verdict) -> InvalidArgument:
    """Why the plan does not take an event."""
    return InvalidArgument(verdict.message, reason=Reason.PLAN_VIOLATION, field=verdict.violations[0].field)


def _refuse(
    tenant: Tenant,
    submission: Submission,
    raw: bytes,
    position: int,
    type_: str,
    error: InvalidArgument,
    intake: _Intake,
    verdict: Verdict | None,
) -> _Pending:
    """An event that nobody can name gets the message id that it would have had."""
    refusal_id = fingerprint(tenant.tenant_id, raw, submission.received_us, position)
    received = moment_of(submission.received_us)
    message_id, named = segment.name_of(raw)
    message_id = message_id if is_usable(message_id) else DERIVED + refusal_id.hex()
    intake.refusals.append(
        Refusal(
            refusal_id,
            received,
            type_ or named or "unknown",
            error.reason.name,
            error.field,
            error.message,
            tenant.keys.event_id(message_id),
        )
    )
    if verdict is not None and error.reason is Reason.PLAN_VIOLATION:
        intake.breach(refusal_id, verdict, received)
    return _Pending(message_id, error=error, verdict=verdict)


def is_usable(message_id: str) -> bool:
    """Whether a receipt can be asked for by it."""
    return 0 < len(message_id) <= MAX_ID_LENGTH and not message_id.isspace() and "\x00" not in message_id


def _count(intake: _Intake, appended: Appended) -> None:
    """What was answered, once it is on disk."""
    drafts, repeated = len(intake.drafts), sum(intake.repeats.values())
    EVENTS.labels("accepted", "").inc(len(appended.fresh))
    EVENTS.labels("duplicate", "").inc(drafts - len(appended.fresh) - len(appended.held) + repeated)
    for refusal in intake.refusals:
        EVENTS.labels("rejected", refusal.reason).inc()
    if appended.held:
        EVENTS.labels("quarantined", Reason.PLAN_VIOLATION.name).inc(len(appended.held))
    counted = appended.fresh | appended.held | {refusal.refusal_id for refusal in intake.refusals} if intake.breaches else ()
    for breach in intake.breaches:
        if breach.key in counted:
            VIOLATIONS.labels(breach.mode).inc()


def _sealed(tenant: Tenant, drafts: Sequence[Draft], ciphers: dict[UUID, AESGCM]) -> list[Entry]:
    entries: list[Entry] = []
    traceparent = tracing.recorded()
    for draft in drafts:
        event = draft.event
        event.traceparent = event.traceparent or traceparent
        if draft.personal and draft.node_id is not None:
            event.sealed = seal(ciphers[draft.node_id], draft.personal, tenant.keys.of_event(event.event_id))
        entries.append(Entry(event.event_id, draft.node_id, draft.received, event.SerializeToString()))
    return entries


def _receipts(pending: Sequence[_Pending], intake: _Intake, appended: Appended) -> list[Receipt]:
    return [_receipt(each, intake, appended) for each in pending]


def _receipt(pending: _Pending, intake: _Intake, appended: Appended) -> Receipt:
    if pending.error is not None:
        return Receipt(pending.message_id, ReceiptStatus.REJECTED, pending.error, verdict=pending.verdict)
    event_id = pending.event_id
    is_new = event_id in appended.fresh
    if is_new and not pending.is_repeat:
        return Receipt(pending.message_id, ReceiptStatus.ACCEPTED)
    if event_id in appended.held and not pending.is_repeat:
        verdict = intake.verdicts[event_id]
        return Receipt(pending.message_id, ReceiptStatus.QUARANTINED, violated(verdict), verdict=verdict)
    first = appended.firsts.get(event_id) or intake.drafts[event_id].received
    waits = event_id in appended.waiting or event_id in appended.held
    return Receipt(pending.message_id, ReceiptStatus.DUPLICATE, _of_waiting() if waits else None, first)


def _of_waiting() -> InvalidArgument:
    return InvalidArgument("the first of it waits in quarantine", reason=Reason.PLAN_VIOLATION, field="messageId")
