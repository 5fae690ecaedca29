"""The projections depend on the set of events alone: not on their order, their batches, or how often they come."""

import random
import uuid
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis import context
from services.profiles.vault import read_master_key, seal
from tests.integration.profiles.conftest import Profiles

KEY = bytes(range(32))
USERS = st.sampled_from(["u1", "u2", "u3"])
DEVICES = st.sampled_from(["a1", "a2", "a3"])
TIMES = st.sampled_from([f"2026-01-0{day}T0{hour}:00:00Z" for day in range(1, 5) for hour in (0, 5)])
TRAITS = st.dictionaries(
    st.sampled_from(["plan", "country", "email", "seats"]), st.sampled_from(["x", "y", 3, 2.5, True, None]), max_size=3
)
SOMEBODY = st.one_of(
    st.fixed_dictionaries({"userId": USERS}),
    st.fixed_dictionaries({"anonymousId": DEVICES}),
    st.fixed_dictionaries({"userId": USERS, "anonymousId": DEVICES}),
)
CALLS = st.one_of(
    st.tuples(SOMEBODY, st.fixed_dictionaries({"type": st.just("identify"), "timestamp": TIMES, "traits": TRAITS})),
    st.tuples(
        SOMEBODY,
        st.fixed_dictionaries(
            {
                "type": st.just("track"),
                "event": st.sampled_from(["Order Completed", "Product Viewed"]),
                "timestamp": TIMES,
                "properties": st.fixed_dictionaries({"order_id": st.just("o1"), "revenue": st.sampled_from([1, 2.5])}),
            }
        ),
    ),
    st.tuples(
        st.fixed_dictionaries({"userId": USERS, "previousId": st.one_of(USERS, DEVICES)}),
        st.fixed_dictionaries({"type": st.just("alias"), "timestamp": TIMES}),
    ),
)  # fmt: skip
TABLES = {
    "nodes": "node_id, profile_id, first_seen, last_seen, event_count",
    "node_profiles": "node_id, profile_id, since",
    "profiles": "profile_id, first_seen, last_seen, event_count, identified",
    "traits": "node_id, key, value, ts, event_id",
    "personal_traits": "node_id, traits_digest, ts, event_id, known_at",
    "timeline": "node_id, event_id, ts, known_at, type, name, source, channel, numbers, texts, rest",
    "clocks": "newest_ts, event_count",
}


async def _project(profiles: Profiles, batches: list[list[dict[str, Any]]]) -> dict[str, list[tuple[Any, ...]]]:
    """What the projections say of these batches to a fresh tenant that has always the same key."""
    tenant_id = f"p{uuid.uuid4().hex[:12]}"
    wrapped = seal(AESGCM(read_master_key(profiles.folder / "master.key")), KEY, tenant_id.encode())
    await profiles.rows(
        "INSERT INTO profiles.tenants (tenant_id, clock, wrapped_key) VALUES ($1, 'events', $2)", tenant_id, wrapped
    )
    with context.use(tenant=tenant_id):
        for batch in batches:
            await profiles.send(*batch)
        await profiles.settled()
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, columns in TABLES.items():
        # That a merge was told depends on what was known when; the merge itself does not.
        only = " AND source <> 'rapport.profiles'" if table == "timeline" else ""
        rows = await profiles.rows(f"SELECT {columns} FROM profiles.{table} WHERE tenant_id = $1{only}", tenant_id)
        found[table] = sorted((tuple(row) for row in rows), key=str)
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(parts=st.lists(CALLS, min_size=1, max_size=15), chance=st.randoms(use_true_random=False))
async def test_events_say_the_same_in_any_order_any_batches_and_twice(
    service: Profiles, parts: list[tuple[dict[str, Any], dict[str, Any]]], chance: random.Random
) -> None:
    calls = [{**who, **what, "messageId": f"m{number}"} for number, (who, what) in enumerate(parts)]
    expected = await _project(service, [calls])
    again = calls + chance.sample(calls, len(calls) // 2)
    chance.shuffle(again)
    batches: list[list[dict[str, Any]]] = [[]]
    for call in again:
        if chance.random() < 0.3:
            batches.append([])
        batches[-1].append(call)
    assert await _project(service, batches) == expected
