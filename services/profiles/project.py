"""Follows the log and keeps all projections of profiles: timeline, identities, profiles, traits, clocks."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import msgspec
import prometheus_client
from google.protobuf.message import DecodeError
from rapport.profiles.v1 import event_pb2

from chassis import telemetry
from chassis.errors import Unavailable
from chassis.log import Position, Record
from services.profiles.domain import consent
from services.profiles.domain.rulings import LINKED, PARTED, ruling_of
from services.profiles.jsontext import dumps, loads
from services.profiles.precedence import Precedence
from services.profiles.store.accounts import Grouping
from services.profiles.store.consents import Recorded
from services.profiles.store.freshness import FreshnessStore
from services.profiles.store.projection import Batch, ProjectionStore, Sealed, Trait
from services.profiles.telling import SOURCE, told
from services.profiles.tenancy import Tenant, Tenants
from services.profiles.timeline import is_fact, timeline_row
from services.profiles.turns import Turn

FRESHNESS: Final = prometheus_client.Histogram(
    "rapport_profiles_freshness_seconds",
    "From an event's receipt to its being readable in the projections.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
SKIPPED: Final = prometheus_client.Counter(
    "rapport_profiles_skipped_events_total", "Events of the log whose tenant is not known."
)
REFUSED_LINKS: Final = prometheus_client.Counter(
    "rapport_profiles_refused_links_total",
    "Links not followed: too many identities, shared identifiers, or parted by a person.",
)
# What a record can do to us; a lost database or a bug in the statements is tried again instead.
_SPOILT: Final = (DecodeError, msgspec.MsgspecError, ValueError, asyncpg.DataError)
_CONSUMER: Final = "profiles"
# Where a call of Segment's shape does not say which library sent it.
SEGMENT: Final = "segment"
_SAMPLES: Final = 5_000
# So long may reading a batch keep acknowledgements waiting.
_BUSY_S: Final = 0.002
_FLUSH_S: Final = 5.0


class Projector:
    """Handles the log in batches."""

    def __init__(self, store: ProjectionStore, tenants: Tenants, precedence: Precedence) -> None:
        self._store = store
        self._tenants = tenants
        self._precedence = precedence
        # Seconds from received to readable, of each tenant's last events.
        self.samples: dict[str, deque[float]] = {}

    async def handle(self, records: Sequence[Record], position: Position) -> None:
        """Saves what the records say, and the cursor; see chassis.log.Reader."""
        await self._precedence.wait(time.time() - records[0].received_at.timestamp())
        try:
            await self._project(records, position)
        except _SPOILT:
            await self._one_by_one(records, position)

    async def _one_by_one(self, records: Sequence[Record], position: Position) -> None:
        """One event that cannot be projected must not hold up all others: it stays in the log, is counted, and passed over."""
        xid, seq = position.from_xid, position.from_seq
        for record in records:
            step = Position(xid, seq, record.xid, record.seq)
            try:
                await self._project([record], step)
            except _SPOILT as error:
                telemetry.LOG_UNREADABLE.labels(_CONSUMER).inc()
                telemetry.logger().error(
                    "an event cannot be projected",
                    tenant=record.tenant_id,
                    xid=record.xid,
                    seq=record.seq,
                    error=type(error).__name__,
                )
                await self._project([], step)
            xid, seq = record.xid, record.seq

    async def _project(self, records: Sequence[Record], position: Position) -> None:
        batches: dict[str, Batch] = {}
        known: dict[str, Tenant] = {}
        turn = Turn(_BUSY_S)
        for record in records:
            await turn.give_way()
            if (batch := batches.get(record.tenant_id)) is None:
                if (tenant := await self._tenants.find(record.tenant_id)) is None:
                    SKIPPED.inc()
                    continue
                known[record.tenant_id] = tenant
                batch = batches[record.tenant_id] = Batch(record.tenant_id)
            gather(batch, event_pb2.Event.FromString(record.payload))
        refused = await self._store.save(
            batches.values(), position, lambda tenant_id, found: told(known[tenant_id], found, position)
        )
        if refused:
            REFUSED_LINKS.inc(refused)
            telemetry.logger().warning("links were refused: see the identity issues", count=refused)
        self._observe(batches, records)

    def _observe(self, batches: Mapping[str, Batch], records: Sequence[Record]) -> None:
        """What came in one call is measured once: it was received, and became readable, together."""
        now = time.time()
        for (tenant_id, received), count in Counter((record.tenant_id, record.received_at) for record in records).items():
            if tenant_id in batches:
                seconds = max(0.0, now - received.timestamp())
                FRESHNESS.observe(seconds)
                self.samples.setdefault(tenant_id, deque(maxlen=_SAMPLES)).extend([seconds] * count)

    async def keep_freshness(self, store: FreshnessStore) -> None:
        """Runs for ever: writes down the freshness of those tenants that had events."""
        written: dict[str, float] = {}
        while True:
            await asyncio.sleep(_FLUSH_S)
            for tenant_id, samples in list(self.samples.items()):
                p50_s, p99_s = percentiles(samples)
                if written.get(tenant_id) != p50_s + p99_s:
                    try:
                        await store.save(tenant_id, p50_s, p99_s)
                    except Unavailable:
                        break
                    written[tenant_id] = p50_s + p99_s


def percentiles(samples: Sequence[float] | deque[float]) -> tuple[float, float]:
    """(p50, p99) by the nearest rank; zeros of nothing."""
    if not samples:
        return 0.0, 0.0
    ordered = sorted(samples)
    return ordered[(len(ordered) - 1) // 2], ordered[(len(ordered) - 1) * 99 // 100]


def gather(batch: Batch, event: event_pb2.Event) -> None:
    """Adds what an event says. The order in which events come does not matter."""
    row = timeline_row(event)
    if row is None:
        return
    batch.rows.append(row)
    if is_fact(event):
        _gather_ruling(batch, event)
        _gather_fact_of_consent(batch, event)
        return
    node_id, ts_us = row.node_id, row.ts_us
    batch.counted[row.event_id] = node_id
    batch.first[node_id] = min(ts_us, batch.first.get(node_id, ts_us))
    batch.last[node_id] = max(ts_us, batch.last.get(node_id, ts_us))
    for other in event.linked_node_ids:
        batch.first[other] = min(ts_us, batch.first.get(other, ts_us))
        _link(batch, node_id, other, (row.known_us, row.event_id))
    for found_id in event.found_ids:
        order = (ts_us, row.event_id)
        batch.found[found_id, node_id] = max(order, batch.found.get((found_id, node_id), order))
    if row.type == "track" and row.name in consent.CALLS:
        _gather_consents(batch, event, consent.said_in_call(event.preferences, event.source or SEGMENT))
    if row.type == "identify":
        _gather_traits(batch, event)
    elif event.account_id:
        batch.groups.append(Grouping(event.account_id, node_id, ts_us, row.known_us, row.event_id, event.properties))


def _link(batch: Batch, one: str, other: str, since: tuple[int, bytes]) -> None:
    ends = (one, other) if one < other else (other, one)
    batch.links[ends] = min(since, batch.links.get(ends, since))


def _gather_ruling(batch: Batch, event: event_pb2.Event) -> None:
    """Whom a person linked, is named by that; whom a person parted, was named before."""
    if event.source != SOURCE or event.name not in (LINKED, PARTED):
        return
    ruling = ruling_of(event.name, event.properties, event.known_us, event.event_id)
    batch.rulings.append(ruling)
    if not ruling.is_parted:
        for node_id in (str(ruling.a), str(ruling.b)):
            batch.first[node_id] = min(event.ts_us, batch.first.get(node_id, event.ts_us))
        _link(batch, str(ruling.a), str(ruling.b), (event.known_us, event.event_id))


def _gather_fact_of_consent(batch: Batch, event: event_pb2.Event) -> None:
    if event.source == SOURCE and event.name == consent.FACT:
        _gather_consents(batch, event, consent.said_in_fact(event.properties))


def _gather_consents(batch: Batch, event: event_pb2.Event, said: Sequence[consent.Said]) -> None:
    times = (event.ts_us, event.received_us)
    batch.consents += [
        Recorded(event.node_id, one.purpose, one.channel, event.event_id, one.state, one.source, one.proof_version, *times)
        for one in said
    ]


def _gather_traits(batch: Batch, event: event_pb2.Event) -> None:
    order = (event.ts_us, event.event_id)
    for key, value in loads(event.properties).items() if event.properties else ():
        known = batch.traits.get((event.node_id, key))
        if known is None or order > (known.ts_us, known.event_id):
            batch.traits[event.node_id, key] = Trait(event.ts_us, event.event_id, dumps(value).decode())
    if event.traits_digest:
        sealed = batch.personal.get((event.node_id, event.traits_digest))
        if sealed is None or order > (sealed.ts_us, sealed.event_id):
            batch.personal[event.node_id, event.traits_digest] = Sealed(
                event.ts_us, event.event_id, event.known_us, event.sealed
            )
