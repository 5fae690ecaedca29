"""A receipt for every event, one event for every message, and nothing personal in the clear."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from rapport.profiles.v1 import event_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import CannotStart, NotFound
from infra.postgres import Temporary
from services.profiles.main import refuse_forgetful
from services.profiles.store.receipts import ReceiptStore
from services.profiles.store.tenants import TenantStore
from services.profiles.vault import open_sealed
from tests.integration.profiles.conftest import RECEIVED, Profiles

ACCEPTED, DUPLICATE, REJECTED = (
    pb.RECEIPT_STATUS_ACCEPTED,
    pb.RECEIPT_STATUS_DUPLICATE,
    pb.RECEIPT_STATUS_REJECTED,
)
DAY = "2026-01-01T00:00:00Z"


def _page(message_id: str = "", **fields: Any) -> dict[str, Any]:
    call = {"type": "page", "userId": "u1", "timestamp": DAY, **fields}
    return call | {"messageId": message_id} if message_id else call


def _order(**properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Order Completed", "userId": "u", "timestamp": DAY, "properties": properties}


async def _log(profiles: Profiles) -> list[event_pb2.Event]:
    """The tenant's events, without what profiles itself records."""
    query = "SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY events.xid, events.seq"
    events = [event_pb2.Event.FromString(row[0]) for row in await profiles.rows(query, context.tenant())]
    return [event for event in events if event.source != "rapport.profiles"]


async def test_the_session_that_ingests_keeps_what_it_acknowledges(profiles: Profiles) -> None:
    durability = await TenantStore(profiles.database).durability()
    assert durability == {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    await refuse_forgetful(TenantStore(profiles.database))


async def test_a_database_that_forgets_is_refused(platform_database: Temporary) -> None:
    class Forgetful(TenantStore):
        async def durability(self) -> dict[str, str]:
            return {"fsync": "on", "synchronous_commit": "off", "full_page_writes": "on"}

    with pytest.raises(CannotStart, match="synchronous_commit must be on"):
        await refuse_forgetful(Forgetful(None))  # pyright: ignore[reportArgumentType]


async def test_each_event_of_a_batch_gets_its_own_receipt_in_order(profiles: Profiles) -> None:
    receipts = await profiles.send(
        _page("m1"), _page("m2", userId=None), _page("m1"), _page("m3", timestamp="1969-07-20T00:00:00Z"), _page("m4")
    )
    assert [receipt.message_id for receipt in receipts] == ["m1", "m2", "m1", "m3", "m4"]
    assert [receipt.status for receipt in receipts] == [ACCEPTED, REJECTED, DUPLICATE, REJECTED, ACCEPTED]
    assert [receipt.reason for receipt in receipts] == ["", "MISSING_IDENTITY", "", "TIMESTAMP_OUT_OF_BOUNDS", ""]
    assert [receipt.field for receipt in receipts] == ["", "userId", "", "timestamp", ""]
    assert len(await _log(profiles)) == 2


@pytest.mark.parametrize(
    ("call", "reason", "field"),
    [
        ({"type": "track", "event": "E"}, "MISSING_IDENTITY", "userId"),
        ({"type": "alias", "userId": "u"}, "MISSING_FIELD", "previousId"),
        ({"type": "group", "userId": "u"}, "MISSING_FIELD", "groupId"),
        ({"type": "track", "userId": "u"}, "MISSING_FIELD", "event"),
        ({"type": "purchase", "userId": "u"}, "UNKNOWN_EVENT_TYPE", "type"),
        ({"userId": "u"}, "UNKNOWN_EVENT_TYPE", "type"),
        (_page(timestamp="1969-12-31T23:59:59Z"), "TIMESTAMP_OUT_OF_BOUNDS", "timestamp"),
        (_page(timestamp="2027-06-01T00:00:00Z"), "TIMESTAMP_OUT_OF_BOUNDS", "timestamp"),
        (_page(timestamp="soon"), "INVALID_FIELD", "timestamp"),
        (_page(userId="u" * 256), "INVALID_FIELD", "userId"),
        (_page(userId={"id": 5}), "INVALID_FIELD", "userId"),
        (_page(properties=[1]), "INVALID_FIELD", "properties"),
        (_page(properties={"a": "x\x00"}), "MALFORMED_TEXT", "properties.a"),
        (_page(properties={"a": "x" * 33_000}), "EVENT_TOO_LARGE", ""),
        (_page(properties={f"k{number}": 1 for number in range(2001)}), "TOO_MANY_PROPERTIES", ""),
        (_order(revenue=-1), "NEGATIVE_PRICE", "properties.revenue"),
        (_order(products=[{}, {}, {}, {"price": -2.5}]), "NEGATIVE_PRICE", "properties.products[3].price"),
        ({"type": "track", "event": "Churn Scored", "userId": "u"}, "INVALID_FIELD", "event"),
    ],
)
async def test_a_bad_event_is_rejected_with_its_reason(
    profiles: Profiles, call: dict[str, Any], reason: str, field: str
) -> None:
    (receipt,) = await profiles.send(call)
    assert (receipt.status, receipt.reason, receipt.field) == (REJECTED, reason, field)
    assert receipt.message
    assert await _log(profiles) == []


async def test_half_a_surrogate_pair_is_rejected_and_its_neighbours_are_not(profiles: Profiles) -> None:
    body = (
        b'{"batch":[{"type":"page","userId":"a"},{"type":"page","userId":"\\ud800"},{"type":"page","userId":"\\ud83d\\ude00"}]}'
    )
    result = await profiles.send_body(body)
    assert [receipt.status for receipt in result.receipts.receipts] == [ACCEPTED, REJECTED, ACCEPTED]
    assert result.receipts.receipts[1].reason == "MALFORMED_TEXT"


@pytest.mark.parametrize(
    ("type_", "body", "reason"),
    [
        ("batch", b'{"batch":[{]}', "MALFORMED_JSON"),
        ("batch", b'{"batch":[]}' + b" " * 512_000, "BODY_TOO_LARGE"),
        ("track", b"not json", "MALFORMED_JSON"),
        ("delete", b"{}", "UNKNOWN_EVENT_TYPE"),
    ],
)
async def test_a_body_that_cannot_be_read_is_answered_as_a_whole(
    profiles: Profiles, type_: str, body: bytes, reason: str
) -> None:
    result = await profiles.send_body(body, type_=type_)
    assert result.malformed.reason == reason
    freshness = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert freshness.rejected_count == 1


async def test_unknown_fields_are_taken_and_not_kept(profiles: Profiles) -> None:
    await profiles.take({**_page("m"), "writeKey": "secret", "_metadata": {"bundled": []}, "version": 2})
    (event,) = await _log(profiles)
    assert b"secret" not in event.SerializeToString()


async def test_a_call_sent_again_is_a_duplicate_even_without_message_ids(profiles: Profiles) -> None:
    first = await profiles.send(_page(), _page(), _page(name="Home"))
    assert [receipt.status for receipt in first] == [ACCEPTED] * 3, "equal events of one body are different events"
    again = await profiles.send(_page(), _page(), _page(name="Home"))
    assert [receipt.status for receipt in again] == [DUPLICATE] * 3
    assert [receipt.message_id for receipt in again] == [receipt.message_id for receipt in first]
    freshness = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert freshness.duplicate_count == 3


async def test_of_many_calls_with_the_same_events_at_once_each_event_is_accepted_once(profiles: Profiles) -> None:
    calls = [_page(f"m{number}", userId=f"u{number}", anonymousId=f"a{number}") for number in range(50)]
    batches = [calls[shift:] + calls[:shift] for shift in range(0, 50, 7)]
    answers = await asyncio.gather(*(profiles.send(*batch) for batch in batches))
    accepted = [receipt.message_id for receipts in answers for receipt in receipts if receipt.status == ACCEPTED]
    assert sorted(accepted) == sorted(call["messageId"] for call in calls)
    assert len(await _log(profiles)) == 50


async def test_calls_that_meet_the_same_new_people_at_once_seal_under_one_key(profiles: Profiles) -> None:
    tenant = await profiles.parts.tenants.present()
    batches = [[_page(f"{batch}-{number}", userId=f"new{number}") for number in range(40)] for batch in range(6)]
    await asyncio.gather(*(profiles.send(*calls) for calls in batches))
    events = await _log(profiles)
    assert len(events) == 240
    wrapped = await profiles.rows(
        "SELECT node_id, wrapped_key FROM profiles.person_keys WHERE tenant_id = $1", tenant.tenant_id
    )
    ciphers = {str(row[0]): tenant.keys.unwrap(row[0], row[1]) for row in wrapped}
    assert len(ciphers) == 40
    opened = {
        json.loads(open_sealed(ciphers[event.node_id], event.sealed, tenant.keys.of_event(event.event_id)))["userId"]
        for event in events
    }
    assert opened == {f"new{number}" for number in range(40)}


async def test_rejections_can_be_asked_for_and_hold_nothing_personal(profiles: Profiles) -> None:
    bad = _page("m", timestamp="1969-01-01", userId="ann@example.com", properties={"email": "ann@example.com"})
    await profiles.send(bad, {"type": "ann@example.com", "userId": "x"}, _page("ok"))
    await profiles.send(bad, {"type": "ann@example.com", "userId": "x"}, _page("ok"))
    answer = await profiles.stub.ListRejections(pb.ListRejectionsRequest(page_size=1))
    rest = await profiles.stub.ListRejections(pb.ListRejectionsRequest(page_size=5, page_token=answer.next_page_token))
    rejections = [*answer.rejections, *rest.rejections]
    assert {(one.type, one.reason, one.field) for one in rejections} == {
        ("page", "TIMESTAMP_OUT_OF_BOUNDS", "timestamp"),
        ("unknown", "UNKNOWN_EVENT_TYPE", "type"),
    }
    assert len(rejections) == 2, "the same call again is not another rejection"
    assert rest.next_page_token == ""
    assert all(one.received.ToDatetime() == RECEIVED.replace(tzinfo=None) for one in rejections)
    assert "ann" not in str(rejections)


async def test_rejections_are_forgotten_after_a_time(profiles: Profiles) -> None:
    receipts = ReceiptStore(profiles.database)
    await profiles.send(_page("m", timestamp="1969-01-01"))
    await receipts.forget_refusals(RECEIVED)
    assert len((await profiles.stub.ListRejections(pb.ListRejectionsRequest())).rejections) == 1
    assert await receipts.forget_refusals(RECEIVED + timedelta(seconds=1)) >= 1
    assert len((await profiles.stub.ListRejections(pb.ListRejectionsRequest())).rejections) == 0


async def test_nothing_personal_is_in_the_database_in_the_clear(profiles: Profiles) -> None:
    secrets = [
        "Annabella",
        "annabella@example.com",
        "203.0.113.99",
        "device-secret-1",
        "user-secret-7",
        "Baker Street",
        "grumble",
    ]
    await profiles.take(
        {
            "type": "identify",
            "messageId": "m1",
            "userId": "user-secret-7",
            "anonymousId": "device-secret-1",
            "traits": {"firstName": "Annabella", "email": "annabella@example.com", "address": {"street": "Baker Street 1"}},
            "context": {"ip": "203.0.113.99", "traits": {"email": "annabella@example.com"}},
        },
        {
            "type": "track",
            "messageId": "m2",
            "event": "Ticket Opened",
            "userId": "user-secret-7",
            "properties": {"ticket_id": "t1", "topic": "delivery", "message": "I grumble", "who": "annabella@example.com"},
        },
        {"type": "page", "messageId": "m3", "userId": "user-secret-7", "name": "Account of annabella@example.com"},
        {"type": "alias", "messageId": "m4", "userId": "user-secret-7", "previousId": "device-secret-1"},
    )
    tables = await profiles.rows(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('log', 'profiles')"
    )
    public_found = False
    for (table,) in tables:
        for (text,) in await profiles.rows(f"SELECT row::text FROM {table} AS row"):
            public_found |= b"delivery".hex() in text
            assert not [secret for secret in secrets if secret in text or secret.encode().hex() in text], table
    assert public_found, "what is public must be found by the same search, or the search proves nothing"


async def test_the_log_can_only_grow(profiles: Profiles) -> None:
    await profiles.take(_page("m"))
    for statement in (
        "DELETE FROM log.events",
        "UPDATE log.events SET tenant_id = 'x'",
        "TRUNCATE log.events",
        "DELETE FROM log.receipts",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await profiles.rows(statement)


async def test_facts_are_recorded_once_and_no_client_can_take_their_place(profiles: Profiles) -> None:
    await profiles.take(_page("score:churn:1"))
    profile_id = (await profiles.resolve("user_id:u1"))[0]
    fact = pb.Fact(message_id="score:churn:1", profile_id=profile_id, name="Churn Scored", source="rapport.scoring")
    fact.properties = b'{"probability":0.25,"features":{"orders_90d":3}}'
    nobody = pb.Fact(message_id="promote:1", name="Model Promoted", source="rapport.evaluation", properties=b"{}")
    spoilt = pb.Fact(message_id="x", name="X", source="elsewhere")
    assert [receipt.status for receipt in await profiles.record(fact, nobody, spoilt)] == [ACCEPTED, ACCEPTED, REJECTED]
    assert [receipt.status for receipt in await profiles.record(nobody, fact)] == [DUPLICATE, DUPLICATE]
    await profiles.settled()
    assert [event.name for event in await profiles.events("user_id:u1")] == ["Churn Scored", ""]
    assert (await profiles.profile("user_id:u1")).event_count == 1, "a score is nothing that the customer did"


async def test_what_is_personal_in_a_fact_is_sealed(profiles: Profiles) -> None:
    await profiles.take(_page("m"))
    profile_id = (await profiles.resolve("user_id:u1"))[0]
    fact = pb.Fact(message_id="a", profile_id=profile_id, name="Survey Answered", source="rapport.feedback")
    fact.personal = b'{"comment":"too slow for me"}'
    await profiles.record(fact)
    payloads = await profiles.rows("SELECT payload FROM log.events WHERE tenant_id = $1", context.tenant())
    assert not any(b"too slow" in row[0] for row in payloads)


async def test_calls_for_an_unknown_tenant_find_nothing(profiles: Profiles) -> None:
    with context.use(tenant="nobody"):
        for call, request in (
            (profiles.stub.Ingest, pb.IngestRequest(submissions=[pb.Submission(type="batch", body=b'{"batch":[]}')])),
            (profiles.stub.GetFreshness, pb.GetFreshnessRequest()),
            (profiles.stub.ListProfiles, pb.ListProfilesRequest()),
            (profiles.stub.ExportLog, pb.ExportLogRequest()),
        ):
            with pytest.raises(NotFound, match="no such tenant"):
                await call(request)
