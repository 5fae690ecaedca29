"""From a call to the event of the log: whose it is, when it was, and that nothing personal is readable in it."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from services.profiles.domain.clock import DAY_US, ClockKind
from services.profiles.domain.identity import Namespace
from services.profiles.draft import Draft, Fact, draft_of_call, draft_of_fact, origin_of
from services.profiles.segment import decode_call
from services.profiles.tenancy import Tenant
from services.profiles.vault import TenantKeys

RECEIVED_US = 20_000 * DAY_US
TENANT = Tenant("shop", ClockKind.EVENTS, TenantKeys("shop", os.urandom(32)))
WALL = Tenant("wall", ClockKind.WALL, TenantKeys("wall", os.urandom(32)))


def _draft(call: dict[str, Any], *, tenant: Tenant = TENANT, position: int = 0, **origin: Any) -> Draft:
    raw = json.dumps(call).encode()
    return draft_of_call(decode_call(raw), raw, origin_of(origin.pop("type_", ""), RECEIVED_US, **origin), tenant, position)


def _public(draft: Draft) -> dict[str, Any]:
    return json.loads(draft.event.properties or b"{}")


def _secret(draft: Draft) -> dict[str, Any]:
    return json.loads(draft.personal)


def test_what_is_personal_is_in_the_sealed_part_only() -> None:
    draft = _draft(
        {
            "type": "identify",
            "userId": "ann@example.com",
            "anonymousId": "device-1",
            "traits": {"email": "ann@example.com", "plan": "pro", "address": {"city": "Leeds"}},
            "context": {"ip": "203.0.113.7", "userAgent": "Firefox", "page": {"url": "https://shop/?u=ann"}, "channel": "web"},
        }
    )
    readable = draft.event.SerializeToString()
    for word in (b"ann", b"device-1", b"Leeds", b"203.0", b"Firefox", b"https"):
        assert word not in readable
    assert _public(draft) == {"plan": "pro"}
    assert draft.event.channel == draft.event.source == "web"
    assert _secret(draft) == {
        "userId": "ann@example.com",
        "anonymousId": "device-1",
        "traits": {"email": "ann@example.com", "address": {"city": "Leeds"}},
        "context": {"ip": "203.0.113.7", "userAgent": "Firefox", "page": {"url": "https://shop/?u=ann"}, "channel": "web"},
    }


@given(st.dictionaries(st.text(max_size=10), st.text() | st.integers() | st.lists(st.text(), max_size=3), max_size=5))
def test_every_property_is_either_public_or_sealed(properties: dict[str, Any]) -> None:
    call = {"type": "track", "event": "Signed Up", "userId": "u", "properties": properties}
    if "\\u0000" in json.dumps(properties):
        with pytest.raises(InvalidArgument):
            _draft(call)
        return
    draft = _draft(call)
    assert _public(draft).keys() | _secret(draft).get("properties", {}).keys() == properties.keys()


def test_an_event_belongs_to_the_user_and_links_the_device() -> None:
    user = TENANT.keys.node_id(Namespace.USER_ID, "u1")
    device = TENANT.keys.node_id(Namespace.ANONYMOUS_ID, "d1")
    both = _draft({"type": "page", "userId": "u1", "anonymousId": "d1"})
    assert (both.event.node_id, list(both.event.linked_node_ids), both.node_id) == (str(user), [str(device)], user)
    alone = _draft({"type": "page", "anonymousId": "d1"})
    assert (alone.event.node_id, list(alone.event.linked_node_ids)) == (str(device), [])


def test_an_alias_links_the_previous_id_as_either_kind() -> None:
    draft = _draft({"type": "alias", "userId": "u1", "previousId": "d1"})
    previous = {str(TENANT.keys.node_id(namespace, "d1")) for namespace in (Namespace.USER_ID, Namespace.ANONYMOUS_ID)}
    assert set(draft.event.linked_node_ids) == previous
    itself = _draft({"type": "alias", "userId": "u1", "previousId": "u1"})
    assert list(itself.event.linked_node_ids) == [str(TENANT.keys.node_id(Namespace.ANONYMOUS_ID, "u1"))]


def test_history_is_known_when_it_happened_and_the_present_when_it_was_received() -> None:
    call = {"type": "page", "userId": "u", "timestamp": "2011-12-01T08:26:00Z"}
    assert _draft(call).event.known_us == _draft(call).event.ts_us
    assert _draft(call, tenant=WALL).event.known_us == RECEIVED_US


def test_a_missing_message_id_is_derived_so_that_a_repeat_is_the_same_event() -> None:
    call = {"type": "track", "event": "Clicked", "userId": "u"}
    assert _draft(call).event.event_id == _draft(call).event.event_id
    assert _draft(call).event.event_id != _draft(call, position=1).event.event_id
    assert _draft(call).message_id.startswith("derived-")


def test_what_a_batch_says_of_all_is_merged_under_what_an_event_says() -> None:
    shared = {"ip": "1.1.1.1", "channel": "server"}
    draft = _draft({"type": "page", "userId": "u", "context": {"ip": "2.2.2.2"}}, context=shared)
    assert _secret(draft)["context"] == {"ip": "2.2.2.2", "channel": "server"}
    assert draft.event.channel == "server"
    with pytest.raises(InvalidArgument):
        origin_of("", RECEIVED_US, context={"x": "y" * 9000})


def test_a_source_is_the_library_or_else_the_channel() -> None:
    context = {"library": {"name": "analytics.js", "version": "2"}, "channel": "web"}
    assert _draft({"type": "page", "userId": "u", "context": context}).event.source == "analytics.js"
    assert _draft({"type": "page", "userId": "u", "channel": "server"}).event.source == "server"


def test_a_page_name_that_looks_like_an_address_is_sealed() -> None:
    draft = _draft({"type": "page", "userId": "u", "name": "Inbox of ann@example.com"})
    assert draft.event.name == ""
    assert _secret(draft)["name"] == "Inbox of ann@example.com"


def test_whole_numbers_of_any_size_are_kept() -> None:
    draft = _draft(
        {"type": "track", "event": "E", "userId": "u", "properties": {"n": 10**25, "l": [2**64, {"m": -(2**63) - 1}]}}
    )
    assert _public(draft) == {"n": 10**25, "l": [2**64, {"m": -(2**63) - 1}]}


def test_the_same_traits_of_the_same_person_have_the_same_digest() -> None:
    call = {"type": "identify", "userId": "u", "traits": {"email": "a@b.c", "plan": "x"}}
    digest = _draft(call).event.traits_digest
    assert len(digest) == 16
    assert _draft({**call, "timestamp": "2020-01-01"}).event.traits_digest == digest
    assert _draft({**call, "userId": "v"}).event.traits_digest != digest
    assert _draft({**call, "traits": {"plan": "x"}}).event.traits_digest == b""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"message_id": ""}, "message_id"),
        ({"name": ""}, "name"),
        ({"source": "shop"}, "source"),
        ({"profile_id": "7"}, "profile_id"),
        ({"properties": b"[1]"}, "properties"),
        ({"properties": b'{"a":"\\u0000"}'}, "properties.a"),
        ({"personal": b'{"a":1}'}, "profile_id"),
        ({"ts_us": 5}, "timestamp"),
    ],
)
def test_a_fact_is_checked_too(changes: dict[str, Any], field: str) -> None:
    good = {"message_id": "m", "profile_id": "", "name": "Model Promoted", "ts_us": None, "properties": b"{}", "personal": b""}
    now = {"now_us": RECEIVED_US, "received_us": RECEIVED_US}
    assert draft_of_fact(Fact(**good, source="rapport.evaluation"), TENANT, **now).event.ts_us == RECEIVED_US
    with pytest.raises(InvalidArgument) as error:
        draft_of_fact(Fact(**({**good, "source": "rapport.evaluation"} | changes)), TENANT, **now)
    assert error.value.field == field


@pytest.mark.parametrize("context", [{"channel": "rapport.profiles"}, {"library": {"name": "rapport.scoring"}}])
def test_no_client_can_sign_as_a_service_of_ours(context: dict[str, Any]) -> None:
    call = {"type": "track", "userId": "ann", "event": "Experiment Viewed", "channel": "rapport.evaluation"}
    draft = _draft(call | {"context": context})
    assert not draft.event.source.startswith("rapport.")
    assert not draft.event.channel.startswith("rapport.")
