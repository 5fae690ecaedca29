"""Takes events: a receipt for each, and what was accepted is on disk before anybody hears of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Counter

from chassis import tracing
from chassis.errors import InvalidArgument, Reason
from services.profiles import segment
from services.profiles.domain.clock import moment_of
from services.profiles.domain.validate import BODY_TYPES, TYPES
from services.profiles.draft import Draft, Fact, draft_of_call, draft_of_fact, fingerprint, origin_of
from services.profiles.people import People
from services.profiles.precedence import Precedence
from services.profiles.store.log import Entry, LogStore, Refusal
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.vault import seal

EVENTS: Final = Counter("rapport_profiles_ingest_events_total", "Events by what became of them.", ["status", "reason"])


class ReceiptStatus(Enum):
    """What became of an event."""

    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer for one event."""

    message_id: str
    status: ReceiptStatus
    error: InvalidArgument | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A body as a client sent it."""

    type: str
    body: bytes
    received_us: int


class _Intake:
    """What one call of Ingest gathers before it is written."""

    def __init__(self) -> None:
        self.drafts: dict[bytes, Draft] = {}
        self.refusals: list[Refusal] = []
        self.repeated_count = 0

    def add(self, draft: Draft) -> bytes | None:
        """The event id; None where the same call holds it already."""
        event_id = draft.event.event_id
        if event_id in self.drafts:
            self.repeated_count += 1
            return None
        self.drafts[event_id] = draft
        return event_id


# Before it is known whether it is new: (message id, event id), event id None for a repeat, or the error.
_Pending = tuple[str, bytes | None, InvalidArgument | None]


class Ingest:
    """Validates, deduplicates, seals, appends."""

    def __init__(self, store: LogStore, people: People, tenants: Tenants, precedence: Precedence) -> None:
        self._precedence = precedence
        self._store = store
        self._people = people
        self._tenants = tenants

    async def take(
        self, tenant: Tenant, submissions: Sequence[Submission], facts: Sequence[Fact]
    ) -> tuple[list[list[Receipt] | InvalidArgument], list[Receipt]]:
        """(for each submission its receipts, or why the whole of it could not be read; the facts' receipts)."""
        with self._precedence.taking():
            intake = _Intake()
            bodies: list[list[_Pending] | InvalidArgument] = []
            for submission in submissions:
                bodies.append(self._read(tenant, submission, intake))
                await asyncio.sleep(0)  # other calls are not to wait for all of it
            recorded = await self._read_facts(tenant, facts, intake) if facts else []
            fresh = await self._append(tenant, intake)
        answers = [body if isinstance(body, InvalidArgument) else _receipts(body, fresh) for body in bodies]
        return answers, _receipts(recorded, fresh)

    def _read(self, tenant: Tenant, submission: Submission, intake: _Intake) -> list[_Pending] | InvalidArgument:
        try:
            events, body = segment.decode_body(submission.type, submission.body)
            type_ = "" if submission.type in BODY_TYPES else submission.type
            shared = (body.sent_at, body.context) if body else (None, None)
            origin = origin_of(type_, submission.received_us, sent_at=shared[0], context=shared[1])
        except InvalidArgument as error:
            return self._refuse_body(tenant, submission, error, intake)
        pending: list[_Pending] = []
        for position, raw in enumerate(events):
            try:
                if raw is None:
                    raise segment.malformed_text()
                draft = draft_of_call(segment.decode_call(raw), raw, origin, tenant, position)
                pending.append((draft.message_id, intake.add(draft), None))
            except InvalidArgument as error:
                if body is None and error.reason is Reason.MALFORMED_JSON:
                    return self._refuse_body(tenant, submission, error, intake)
                message_id, named = segment.name_of(raw or b"")
                self._refuse(tenant, submission, raw or b"", position, type_ or named, error, intake)
                pending.append((message_id, None, error))
        return pending

    def _refuse_body(self, tenant: Tenant, submission: Submission, error: InvalidArgument, intake: _Intake) -> InvalidArgument:
        type_ = submission.type if submission.type in TYPES | BODY_TYPES else ""
        self._refuse(tenant, submission, submission.body, 0, type_, error, intake)
        return error

    def _refuse(
        self,
        tenant: Tenant,
        submission: Submission,
        raw: bytes,
        position: int,
        type_: str,
        error: InvalidArgument,
        intake: _Intake,
    ) -> None:
        refusal_id = fingerprint(tenant.tenant_id, raw, submission.received_us, position)
        received = moment_of(submission.received_us)
        refusal = Refusal(refusal_id, received, type_ or "unknown", error.reason.name, error.field, error.message)
        intake.refusals.append(refusal)
        EVENTS.labels("rejected", error.reason.name).inc()

    async def _read_facts(self, tenant: Tenant, facts: Sequence[Fact], intake: _Intake) -> list[_Pending]:
        received_us = time.time_ns() // 1_000
        now_us = await self._tenants.now_us(tenant)
        pending: list[_Pending] = []
        for fact in facts:
            try:
                draft = draft_of_fact(fact, tenant, now_us=now_us, received_us=received_us)
                pending.append((draft.message_id, intake.add(draft), None))
            except InvalidArgument as error:
                EVENTS.labels("rejected", error.reason.name).inc()
                pending.append((fact.message_id, None, error))
        return pending

    async def _append(self, tenant: Tenant, intake: _Intake) -> set[bytes]:
        drafts = list(intake.drafts.values())
        if not (drafts or intake.refusals or intake.repeated_count):
            return set()
        wanted = {draft.node_id for draft in drafts if draft.personal and draft.node_id is not None}
        ciphers = await self._people.ciphers(tenant, wanted)
        new_keys: dict[UUID, bytes] = {}
        for node_id in wanted - ciphers.keys():
            new_keys[node_id], ciphers[node_id] = tenant.keys.new_wrapped_key(node_id)

        def seal_again(taken: Mapping[UUID, bytes]) -> list[Entry]:
            ciphers.update({node_id: tenant.keys.unwrap(node_id, wrapped) for node_id, wrapped in taken.items()})
            return _sealed(tenant, drafts, ciphers)

        entries = _sealed(tenant, drafts, ciphers)
        fresh = await self._store.append(
            tenant.tenant_id, entries, new_keys, seal_again, intake.refusals, intake.repeated_count
        )
        tenant.keys.remember({node_id: ciphers[node_id] for node_id in new_keys})
        EVENTS.labels("accepted", "").inc(len(fresh))
        EVENTS.labels("duplicate", "").inc(len(drafts) - len(fresh) + intake.repeated_count)
        return fresh


def _sealed(tenant: Tenant, drafts: Sequence[Draft], ciphers: dict[UUID, AESGCM]) -> list[Entry]:
    entries: list[Entry] = []
    traceparent = tracing.recorded()
    for draft in drafts:
        event = draft.event
        event.traceparent = traceparent
        if draft.personal and draft.node_id is not None:
            event.sealed = seal(ciphers[draft.node_id], draft.personal, tenant.keys.of_event(event.event_id))
        entries.append(Entry(event.event_id, draft.node_id, draft.received, event.SerializeToString()))
    return entries


def _receipts(pending: Sequence[_Pending], fresh: set[bytes]) -> list[Receipt]:
    receipts: list[Receipt] = []
    for message_id, event_id, error in pending:
        if error is not None:
            receipts.append(Receipt(message_id, ReceiptStatus.REJECTED, error))
        else:
            status = ReceiptStatus.ACCEPTED if event_id in fresh else ReceiptStatus.DUPLICATE
            receipts.append(Receipt(message_id, status))
    return receipts
