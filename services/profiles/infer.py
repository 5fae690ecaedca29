"""A first tracking plan out of a tenant's newest events."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.message import DecodeError
from rapport.profiles.v1 import event_pb2

from services.profiles.domain.clock import moment_of
from services.profiles.domain.inference import Seen, draft_of
from services.profiles.domain.validate import FACT_SOURCE
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.quarantine import opened_event
from services.profiles.store.plans import PlanStore
from services.profiles.tenancy import Tenant
from services.profiles.vault import Unreadable

MAX_SAMPLE: Final = 5_000
# Of all tenants' events, the newest so many are looked through for this tenant's.
MAX_SCANNED: Final = 200_000
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Inferred:
    """A draft, and what it was made of. `since` None: of nothing."""

    document: dict[str, Any]
    event_count: int
    since: datetime | None


class Inference:
    """Reads the log, and stores nothing."""

    def __init__(self, store: PlanStore, people: People, plans: Plans) -> None:
        self._store = store
        self._people = people
        self._plans = plans

    async def infer(self, tenant: Tenant) -> Inferred:
        """Personal properties are opened for their names and types; whose key is gone is passed over."""
        payloads = await self._store.recent(tenant.tenant_id, MAX_SCANNED, MAX_SAMPLE)
        seen: list[Seen] = []
        since: int | None = None
        for start in range(0, len(payloads), _CHUNK):
            for event, one in await self._opened(tenant, payloads[start : start + _CHUNK]):
                seen.append(one)
                since = event.received_us if since is None else min(since, event.received_us)
            await asyncio.sleep(0)
        judge = await self._plans.judge(tenant.tenant_id)
        document = await asyncio.to_thread(draft_of, seen, judge.plan.declared() if judge else None)
        return Inferred(document, len(seen), None if since is None else moment_of(since))

    async def _opened(self, tenant: Tenant, payloads: Sequence[bytes]) -> list[tuple[event_pb2.Event, Seen]]:
        events = [event for payload in payloads if (event := _client_event(payload)) is not None]
        ciphers = await self._people.ciphers(tenant, {UUID(event.node_id) for event in events if event.node_id})
        found: list[tuple[event_pb2.Event, Seen]] = []
        for event in events:
            try:
                opened = opened_event(tenant, event.SerializeToString(), ciphers)
            except Unreadable:
                continue
            found.append((event, Seen(event.type, event.name, opened.fields, opened.public)))
        return found


def _client_event(payload: bytes) -> event_pb2.Event | None:
    """None for what services record."""
    try:
        event = event_pb2.Event.FromString(payload)
    except DecodeError:
        return None
    return None if event.source.startswith(FACT_SOURCE) else event
