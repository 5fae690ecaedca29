"""All that profiles keeps of a person, in the clear, for the person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from rapport.profiles.v1 import event_pb2

from chassis import subjects
from chassis.db import Database
from chassis.log import message_of
from services.profiles.domain.clock import moment_of
from services.profiles.jsontext import dumps, loads
from services.profiles.lookup import Lookup
from services.profiles.people import People
from services.profiles.store.erasures import TABLES
from services.profiles.store.exports import Place
from services.profiles.tenancy import Tenant
from services.profiles.vault import Unreadable, open_sealed

MAX_EVENTS: Final = 1_000
# The log says more than the timeline and the traits, which are made from it.
_FROM_LOG: Final = ("profiles.timeline", "profiles.personal_traits")
_EVENTS: Final = """
SELECT xid::text AS xid, seq, payload FROM log.events
WHERE tenant_id = $1 AND key = ANY($2::uuid[]) AND (xid, seq) > ($3::text::xid8, $4)
ORDER BY events.xid, events.seq LIMIT $5
"""
# What the tracking plan holds back is no part of the log, and known all the same.
_HELD: Final = """
SELECT payload FROM profiles.quarantine
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) AND payload IS NOT NULL ORDER BY received_at, event_id LIMIT 1000
"""
# There is no index by person: one pass over the log.
_PASS_S: Final = 110.0


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One page. `tables` only on the first; `after`: where the next begins, None at the end."""

    profile_id: UUID
    node_ids: Sequence[UUID]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    events: Sequence[bytes]
    after: Place | None


class Disclosures:
    """Reads for one person."""

    def __init__(self, database: Database, lookup: Lookup, people: People) -> None:
        self._database = database
        self._lookup = lookup
        self._people = people

    async def page(self, tenant: Tenant, ref: str, after: Place | None, limit: int) -> Disclosure:
        """Raises NotFound, or InvalidArgument."""
        profile_id, node_ids = await self._lookup.person(tenant, ref)
        start = after or Place(0, 0)
        arguments = (tenant.tenant_id, node_ids, str(start.xid), start.seq, limit + 1)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_EVENTS, *arguments, timeout=_PASS_S)
            held = await connection.fetch(_HELD, tenant.tenant_id, node_ids) if after is None else []
            tables: dict[str, Sequence[Mapping[str, Any]]] = {}
            for table in TABLES if after is None else ():
                if table.name not in _FROM_LOG:
                    tables[table.name] = await subjects.rows_of(connection, table, tenant.tenant_id, node_ids)
        last = Place(int(rows[limit - 1]["xid"]), rows[limit - 1]["seq"]) if len(rows) > limit else None
        payloads = [row["payload"] for row in (*held, *rows[:limit])]
        return Disclosure(profile_id, node_ids, tables, await self._opened(tenant, payloads), last)

    async def _opened(self, tenant: Tenant, payloads: Sequence[bytes]) -> list[bytes]:
        events = [event for payload in payloads if (event := message_of(payload, event_pb2.Event, "profiles.disclose"))]
        ciphers = await self._people.ciphers(tenant, {UUID(event.node_id) for event in events if event.node_id})
        return [_said(tenant, event, ciphers) for event in events]


def _said(tenant: Tenant, event: event_pb2.Event, ciphers: Mapping[UUID, Any]) -> bytes:
    """The event as JSON: what is public, and what was sealed."""
    said: dict[str, Any] = {
        "type": event.type,
        "name": event.name,
        "timestamp": moment_of(event.ts_us),
        "received": moment_of(event.received_us),
        "source": event.source,
        "channel": event.channel,
        "public": loads(event.properties) if event.properties else {},
    }
    if event.sealed and (cipher := ciphers.get(UUID(event.node_id))) is not None:
        try:
            said["personal"] = loads(open_sealed(cipher, event.sealed, tenant.keys.of_event(event.event_id)))
        except Unreadable:
            said["personal"] = None
    return dumps(said)
