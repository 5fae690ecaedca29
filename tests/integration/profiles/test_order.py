"""The projections depend on the set of events alone: not on their order, their batches, or how often they come."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rapport.profiles.v1 import event_pb2

from chassis.db import Connection
from chassis.log import Cursor, Position, Record
from services.profiles.domain.consent import FACT
from services.profiles.domain.identity import MAX_LINKS, MAX_NODES, Namespace, node_id_of
from services.profiles.domain.rulings import LINKED, PARTED
from services.profiles.jsontext import dumps
from services.profiles.precedence import Precedence
from services.profiles.project import Projector
from services.profiles.store.projection import MAX_PERSONAL, ProjectionStore
from services.profiles.store.rebuild import PROJECTIONS
from services.profiles.telling import SOURCE
from services.profiles.vault import read_master_key, seal
from tests.integration.profiles.conftest import Profiles

KEY = bytes(range(32))
SLOW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
START_US = 20_000 * DAY_US


class Still(Cursor):
    """A place that does not move, so that records can be handed over in any order."""

    async def advance(self, connection: Connection, position: Position) -> None:
        """Does nothing."""


def _node(number: int, namespace: Namespace) -> str:
    return str(node_id_of((number << 100 | number).to_bytes(16, "big"), namespace))


USERS = [_node(number, Namespace.USER_ID) for number in range(1, 8)]
DEVICES = [_node(number, Namespace.ANONYMOUS_ID) for number in range(1, 5)]
EMAILS = [_node(number, Namespace.EMAIL) for number in range(1, 9)]
DEVICE_ID = _node(1, Namespace.DEVICE_ID)
ANYBODY = st.sampled_from([*USERS, *DEVICES, *EMAILS, DEVICE_ID])


def _event(node_id: str, ts_us: int, known_us: int, **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(node_id=node_id, ts_us=ts_us, known_us=known_us, received_us=known_us, **fields)


@st.composite
def _calls(draw: st.DrawFn) -> event_pb2.Event:
    """An event of somebody; mostly with other identifiers beside."""
    node_id, *linked = draw(st.lists(ANYBODY, min_size=1, max_size=3, unique=True))
    ts_us, known_us = (START_US + draw(st.integers(0, 6)) * DAY_US for _ in range(2))
    if draw(st.booleans()):
        known_us = ts_us
    event = _event(node_id, ts_us, known_us, type=draw(st.sampled_from(["track", "identify"])), linked_node_ids=linked)
    if event.type == "identify":
        traits = st.dictionaries(st.sampled_from(["plan", "seats"]), st.sampled_from(["x", 3, True, None]), max_size=2)
        event.properties = dumps(draw(traits))
        event.traits_digest = draw(st.sampled_from([b"", b"1" * 16, b"2" * 16]))
        event.sealed = draw(st.binary(min_size=1, max_size=2))
    return event


@st.composite
def _rulings(draw: st.DrawFn) -> event_pb2.Event:
    """A person's word on two identifiers."""
    a, b = draw(st.lists(ANYBODY, min_size=2, max_size=2, unique=True))
    us = START_US + draw(st.integers(0, 8)) * DAY_US
    name = draw(st.sampled_from([LINKED, PARTED, PARTED]))
    return _event(a, us, us, type="track", name=name, source=SOURCE, properties=dumps({"a": a, "b": b}))


@st.composite
def _consents(draw: st.DrawFn) -> event_pb2.Event:
    """What somebody allows, told by a client or by a key."""
    node_id, us = draw(ANYBODY), START_US + draw(st.integers(0, 4)) * DAY_US
    if draw(st.booleans()):
        said = draw(st.dictionaries(st.sampled_from(["ads", "news"]), st.booleans(), min_size=1))
        return _event(node_id, us, us, type="track", name="Segment Consent Preference Updated", preferences=said)
    channel, state = draw(st.sampled_from(["any", "sms"])), draw(st.sampled_from(["granted", "denied", "unknown"]))
    fact = {"purpose": "ads", "channel": channel, "state": state, "source": "app", "proofVersion": "v1"}
    return _event(node_id, us, us, type="track", name=FACT, source=SOURCE, properties=dumps(fact))


async def _project(profiles: Profiles, batches: Sequence[Sequence[event_pb2.Event]]) -> dict[str, list[tuple[Any, ...]]]:
    """What the projections say of these batches to a fresh tenant: every row and column but the tenant's name.

    The log is not told of merges: when one is noticed depends on what came when, the merge itself does not.
    """
    tenant_id = f"p{uuid.uuid4().hex[:12]}"
    wrapped = seal(AESGCM(read_master_key(profiles.folder / "master.key")), KEY, tenant_id.encode())
    await profiles.rows(
        "INSERT INTO profiles.tenants (tenant_id, clock, wrapped_key) VALUES ($1, 'events', $2)", tenant_id, wrapped
    )
    projector = Projector(
        ProjectionStore(profiles.database, Still("profiles", "order"), announces=False), profiles.parts.tenants, Precedence()
    )
    for number, batch in enumerate(batches):
        records = [
            Record(1, number, tenant_id, None, EPOCH + timedelta(microseconds=event.received_us), event.SerializeToString())
            for event in batch
        ]
        await projector.handle(records, Position(1, number, 1, number + 1))
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table in PROJECTIONS:
        rows = await profiles.rows(f"SELECT * FROM profiles.{table} WHERE tenant_id = $1", tenant_id)
        found[table] = sorted((tuple(row)[1:] for row in rows), key=str)
        # The log has none of these events, and others compare the tables with the log.
        await profiles.rows(f"DELETE FROM profiles.{table} WHERE tenant_id = $1", tenant_id)
    return found


def _told_apart(events: Sequence[event_pb2.Event]) -> list[event_pb2.Event]:
    """With an id each, that has nothing to do with its place."""
    for number, event in enumerate(events):
        event.event_id = uuid.uuid5(uuid.NAMESPACE_OID, str(number)).bytes
    return list(events)


def _another_way(events: Sequence[event_pb2.Event], chance: random.Random) -> list[list[event_pb2.Event]]:
    """In another order, some twice, in other batches."""
    again = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(again)
    batches: list[list[event_pb2.Event]] = [[]]
    size = chance.choice([1, 3, 50])
    for event in again:
        if chance.random() < 1 / size:
            batches.append([])
        batches[-1].append(event)
    return [batch for batch in batches if batch]


@SLOW
@given(
    calls=st.lists(_calls(), min_size=1, max_size=40),
    rulings=st.lists(_rulings(), max_size=4),
    consents=st.lists(_consents(), max_size=6),
    chance=st.randoms(use_true_random=False),
)
async def test_events_say_the_same_in_any_order_any_batches_and_twice(
    service: Profiles,
    calls: list[event_pb2.Event],
    rulings: list[event_pb2.Event],
    consents: list[event_pb2.Event],
    chance: random.Random,
) -> None:
    events = _told_apart([*calls, *rulings, *consents])
    expected = await _project(service, [events])
    assert await _project(service, _another_way(events, chance)) == expected


async def test_limits_are_applied_in_the_order_of_time_and_event_id(service: Profiles) -> None:
    """Past every limit: nodes of a profile, links of a node, users of an identifier, sealed traits of a person."""
    crowd = [_node(1_000 + number, Namespace.ANONYMOUS_ID) for number in range(MAX_LINKS + 30)]
    strangers = [_node(5_000 + number, Namespace.USER_ID) for number in range(MAX_LINKS + 30)]
    events: list[event_pb2.Event] = []
    for number, device in enumerate(crowd):
        us = START_US + number // 7 * DAY_US
        events.append(_event(USERS[0], us, us, type="page", linked_node_ids=[device]))
    for number, user in enumerate(strangers):
        us = START_US + number // 5 * DAY_US
        events.append(_event(user, us, us, type="page", linked_node_ids=[DEVICES[0], crowd[number]]))
    for number in range(MAX_PERSONAL + 15):
        us, digest = START_US + number // 3 * DAY_US, number.to_bytes(16, "big")
        events.append(_event(USERS[0], us, us, type="identify", traits_digest=digest, sealed=digest))
    parted = dumps({"a": USERS[0], "b": crowd[3]})
    events.append(_event(USERS[0], us, us, type="track", name=PARTED, source=SOURCE, properties=parted))
    events = _told_apart(events)
    expected = await _project(service, [events])
    sizes = sorted((sum(row[1] == profile[0] for row in expected["nodes"]) for profile in expected["profiles"]), reverse=True)
    assert sizes[0] == MAX_NODES
    assert len(expected["personal_traits"]) == MAX_PERSONAL
    for seed in range(2):
        assert await _project(service, _another_way(events, random.Random(seed))) == expected
