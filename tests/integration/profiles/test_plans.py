"""Tracking plans: versions, what they let pass, what they hold back, and how that gets into the log after all."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rapport.profiles.v1 import event_pb2, receipts_pb2
from rapport.profiles.v1 import plans_pb2 as plans
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from services.profiles.plans import FRESH_S, Plans
from services.profiles.retain import forget
from services.profiles.store.plans import PlanStore
from services.profiles.vault import open_sealed
from tests.integration.profiles.conftest import RECEIVED, Desk, Profiles

DAY = "2026-01-01T00:00:00Z"
LATER = RECEIVED + timedelta(hours=1)
PRICED = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}
HOLDING: Mapping[str, Any] = {"mode": "quarantine", "events": {"Paid": {"schema": PRICED}}}
LENIENT: Mapping[str, Any] = {"mode": "quarantine", "events": {"Paid": {"schema": {}}}}


def paid(message_id: str, **properties: Any) -> dict[str, Any]:
    call = {"type": "track", "messageId": message_id, "event": "Paid", "userId": "ann", "timestamp": DAY}
    return call | {"properties": properties}


def seen(message_id: str, **properties: Any) -> dict[str, Any]:
    return paid(message_id) | {"event": "Seen", "properties": properties}


def statuses(receipts: Any) -> list[str]:
    return [pb.ReceiptStatus.Name(receipt.status).removeprefix("RECEIPT_STATUS_").lower() for receipt in receipts]


async def waiting(desk: Desk) -> list[plans.QuarantinedEvent]:
    return list((await desk.plans.ListQuarantinedEvents(plans.ListQuarantinedEventsRequest())).events)


async def log(profiles: Profiles) -> list[event_pb2.Event]:
    query = "SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY events.xid, events.seq"
    return [event_pb2.Event.FromString(row[0]) for row in await profiles.rows(query, context.tenant())]


async def opened(profiles: Profiles, event: event_pb2.Event) -> dict[str, Any]:
    """What was sealed."""
    tenant = await profiles.parts.tenants.present()
    rows = await profiles.rows(
        "SELECT node_id, wrapped_key FROM profiles.person_keys WHERE tenant_id = $1 AND node_id = $2::text::uuid",
        tenant.tenant_id,
        event.node_id,
    )
    cipher = tenant.keys.unwrap(rows[0][0], rows[0][1])
    return json.loads(open_sealed(cipher, event.sealed, tenant.keys.of_event(event.event_id)))


async def test_a_plan_has_versions_and_the_same_plan_again_is_the_same_version(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.plans.GetTrackingPlan(plans.GetTrackingPlanRequest())
    assert [await desk.put(**HOLDING), await desk.put(**HOLDING), await desk.put(**LENIENT)] == [1, 1, 2]
    newest = (await desk.plans.GetTrackingPlan(plans.GetTrackingPlanRequest())).plan
    first = (await desk.plans.GetTrackingPlan(plans.GetTrackingPlanRequest(version=1))).plan
    assert (newest.version, json.loads(newest.document)) == (2, LENIENT)
    assert json.loads(first.document) == HOLDING
    page = await desk.plans.ListTrackingPlanVersions(plans.ListTrackingPlanVersionsRequest(page_size=1))
    rest = await desk.plans.ListTrackingPlanVersions(
        plans.ListTrackingPlanVersionsRequest(page_size=5, page_token=page.next_page_token)
    )
    assert [plan.version for plan in (*page.plans, *rest.plans)] == [2, 1]


async def test_plans_that_are_put_at_once_have_different_versions(desk: Desk) -> None:
    documents = [{"events": {f"Event {number}": {}}} for number in range(10)]
    versions = await asyncio.gather(*(desk.put(**document) for document in documents))
    assert sorted(versions) == list(range(1, 11))


async def test_a_wrong_schema_is_refused_with_its_place_and_changes_nothing(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    wrong = {"properties": {"price": {"type": "numbr"}}}
    with pytest.raises(InvalidArgument, match="is none of null, boolean, integer, number") as caught:
        await desk.put(events={"Paid": {"schema": wrong}})
    assert caught.value.field == "/events/Paid/schema/properties/price/type"
    assert (await desk.plans.GetTrackingPlan(plans.GetTrackingPlanRequest())).plan.version == 1


async def test_observed_events_are_accepted_whole_and_their_violations_counted(profiles: Profiles, desk: Desk) -> None:
    version = await desk.put(mode="observe", unplanned="observe", events={"Paid": {"schema": PRICED}})
    calls = [paid(f"m{number}", price="free", email="ann@example.com", more={"a": 1}) for number in range(3)]
    other = {"type": "track", "messageId": "o", "event": "Surprise", "userId": "ann", "timestamp": DAY}
    await profiles.take(*calls, other)
    await profiles.send(*calls, other)
    assert [event.name for event in await log(profiles)][:4] == ["Paid"] * 3 + ["Surprise"]
    assert json.loads((await log(profiles))[0].properties) == {"price": "free", "more": {"a": 1}}
    found = (await desk.plans.ListPlanViolations(plans.ListPlanViolationsRequest())).violations
    assert [(each.event, each.rule, each.path, each.count, each.mode) for each in found] == [
        ("Paid", "/properties/price/type", "properties.price", 3, "observe"),
        ("Surprise", "unplanned", "event", 1, "observe"),
    ]
    assert (found[0].plan_version, found[0].expected, found[0].found) == (version, "of type number", "string")
    assert json.loads(found[0].value) == "free"
    assert found[0].last_seen.ToDatetime(UTC) == RECEIVED


async def test_a_sample_of_a_violation_holds_nothing_personal(profiles: Profiles, desk: Desk) -> None:
    schema = {"properties": {"email": {"maxLength": 3}, "note": {"type": "number"}}, "additionalProperties": False}
    await desk.put(unplanned="observe", identify={"schema": schema}, events={})
    await profiles.send(
        {
            "type": "identify", "messageId": "m", "userId": "annabella", "timestamp": DAY,
            "traits": {"email": "annabella@example.com", "note": "call annabella", "annabella@example.com": 1},
        },
        {"type": "track", "messageId": "n", "event": "Mail to annabella@example.com", "userId": "annabella", "timestamp": DAY},
    )  # fmt: skip
    found = (await desk.plans.ListPlanViolations(plans.ListPlanViolationsRequest())).violations
    assert {(each.type, each.event, each.path) for each in found} == {
        ("identify", "", "traits.email"),
        ("identify", "", "traits.note"),
        ("identify", "", "traits.*"),
        ("track", "...", "event"),
    }
    assert "annabella" not in str(found)


async def test_what_the_plan_declares_is_sealed_in_every_mode_and_shown_in_no_sample(profiles: Profiles, desk: Desk) -> None:
    schema = {"properties": {"icd": {"x-field-class": "sensitive", "type": "number"}, "ward": {"x-field-class": "personal"}}}
    await desk.put(mode="observe", events={"Seen": {"schema": schema}})
    await profiles.take(paid("m", icd="F32", ward=4), seen("n", icd="F32", ward=4, room=5, visit={"icd": "F33", "n": 1}))
    other, event = await log(profiles)
    assert json.loads(other.properties) == {"icd": "F32", "ward": 4}
    assert json.loads(event.properties) == {"room": 5, "visit": {"n": 1}}
    assert (await opened(profiles, event))["properties"] == {"icd": "F32", "ward": 4, "visit": {"icd": "F33"}}
    (found,) = (await desk.plans.ListPlanViolations(plans.ListPlanViolationsRequest())).violations
    assert (found.path, found.value) == ("properties.icd", b"")


async def test_what_is_declared_while_an_event_waits_is_sealed_when_it_is_replayed(profiles: Profiles, desk: Desk) -> None:
    await desk.put(mode="quarantine", events={"Seen": {"schema": {"properties": {"icd": {"type": "number"}}}}})
    await profiles.send(*(seen(f"m{number}", icd="F32", room=number) for number in range(3)))
    await desk.put(events={"Seen": {"schema": {"properties": {"icd": {"x-field-class": "personal"}}}}})
    first, second, _ = [each.quarantine_id for each in await waiting(desk)]
    await desk.plans.ReplayQuarantinedEvent(plans.ReplayQuarantinedEventRequest(quarantine_id=first))
    edit = plans.EditQuarantinedEventRequest(quarantine_id=second, properties=b'{"icd":"F33","room":9}', with_personal=True)
    await desk.plans.EditQuarantinedEvent(edit)
    await desk.plans.ReplayQuarantinedEvents(plans.ReplayQuarantinedEventsRequest())
    for event in await log(profiles):
        assert json.loads(event.properties).keys() == {"room"}
        assert (await opened(profiles, event))["properties"]["icd"] in ("F32", "F33")
    assert len(await log(profiles)) == 3


async def test_a_declared_trait_is_sealed_and_marked_in_the_portrait_older_values_too(profiles: Profiles, desk: Desk) -> None:
    async def marks() -> dict[str, tuple[str, bool, bool]]:
        portrait = await profiles.stub.GetPortrait(pb.GetPortraitRequest(ref="user_id:ann"))
        entries = {entry.name: entry for block in portrait.blocks for entry in block.entries if entry.origin == "trait"}
        return {name: (entry.value, entry.personal, entry.sensitive) for name, entry in entries.items()}

    call = {"type": "identify", "messageId": "m", "userId": "ann", "timestamp": DAY}
    await profiles.take(call | {"traits": {"icd": "F32", "team": "red"}})
    assert await marks() == {"icd": ("F32", False, False), "team": ("red", False, False)}
    await desk.put(identify={"schema": {"properties": {"icd": {"x-field-class": "sensitive"}}}})
    assert await marks() == {"icd": ("F32", True, True), "team": ("red", False, False)}
    await profiles.take(call | {"messageId": "n", "timestamp": "2026-01-02T00:00:00Z", "traits": {"icd": "F33"}})
    assert await marks() == {"icd": ("F33", True, True), "team": ("red", False, False)}


async def test_a_held_event_is_answered_with_the_rule_and_is_not_in_the_log(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    held, fine = await profiles.send(paid("m", cost=5), paid("n", price=5))
    assert statuses([held, fine]) == ["quarantined", "accepted"]
    assert (held.reason, held.field, held.plan_version, held.rule) == ("PLAN_VIOLATION", "properties.price", 1, "/required")
    assert "properties.price must be there" in held.message
    assert len(await log(profiles)) == 1
    assert await desk.fates("m") == ["quarantined"]
    (shown,) = await waiting(desk)
    assert (shown.type, shown.event, shown.rule) == ("track", "Paid", "/required")
    assert json.loads(shown.properties) == {"cost": 5}
    assert shown.received.ToDatetime(UTC) == RECEIVED
    assert shown.expires.ToDatetime(UTC) == RECEIVED + timedelta(days=30)


async def test_a_held_message_that_comes_again_is_a_duplicate_of_what_waits(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m"))
    (again,) = await profiles.send(paid("m"), received=LATER)
    assert statuses([again]) == ["duplicate"]
    assert (again.first_received.ToDatetime(UTC), again.reason) == (RECEIVED, "PLAN_VIOLATION")
    assert len(await waiting(desk)) == 1


async def test_a_plan_that_rejects_says_so_and_counts_it(profiles: Profiles, desk: Desk) -> None:
    await desk.put(mode="reject", events={"Paid": {"schema": PRICED}})
    (receipt,) = await profiles.send(paid("m", price="free"))
    assert (statuses([receipt]), receipt.reason, receipt.field) == (["rejected"], "PLAN_VIOLATION", "properties.price")
    assert await desk.fates("m") == ["rejected"]
    (found,) = (await desk.plans.ListPlanViolations(plans.ListPlanViolationsRequest())).violations
    assert (found.mode, found.count) == ("reject", 1)


async def test_a_replayed_event_keeps_its_time_its_id_and_all_that_it_holds(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m", cost=5, email="ann@example.com"))
    (held,) = await waiting(desk)
    replay = plans.ReplayQuarantinedEventRequest(quarantine_id=held.quarantine_id)
    with pytest.raises(Conflict, match=r"it stays in quarantine: properties\.price must be there") as caught:
        await desk.plans.ReplayQuarantinedEvent(replay)
    assert caught.value.reason is Reason.PLAN_VIOLATION
    await desk.put(**LENIENT)
    assert (await desk.plans.ReplayQuarantinedEvent(replay)).appended
    await profiles.settled()
    (event,) = await log(profiles)
    assert event.event_id.hex() == held.quarantine_id
    assert datetime.fromtimestamp(event.ts_us / 1e6, UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(event.received_us / 1e6, UTC) == RECEIVED
    assert json.loads(event.properties) == {"cost": 5}
    assert (await opened(profiles, event))["properties"] == {"email": "ann@example.com"}
    assert [each.event_id for each in await profiles.events("user_id:ann")] == [held.quarantine_id]
    told = await desk.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id="m"))
    assert await desk.fates("m") == ["replayed"]
    assert told.fates[0].received.ToDatetime(UTC) == RECEIVED
    assert told.fates[0].decided.ToDatetime(UTC) > RECEIVED
    assert statuses(await profiles.send(paid("m", price=1))) == ["duplicate"]
    assert await waiting(desk) == []
    with pytest.raises(NotFound):
        await desk.plans.ReplayQuarantinedEvent(replay)
    fresh = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert (fresh.event_count, fresh.quarantined_count, fresh.replayed_count) == (1, 1, 1)


async def test_a_replay_at_once_from_everywhere_appends_once(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(*(paid(f"m{number}") for number in range(20)))
    held = [each.quarantine_id for each in await waiting(desk)]
    await desk.put(**LENIENT)
    singles = [desk.plans.ReplayQuarantinedEvent(plans.ReplayQuarantinedEventRequest(quarantine_id=each)) for each in held]
    wholes = [desk.plans.ReplayQuarantinedEvents(plans.ReplayQuarantinedEventsRequest()) for _ in range(3)]
    await asyncio.gather(*singles, *wholes, return_exceptions=True)
    assert await waiting(desk) == []
    assert len(await log(profiles)) == 20
    assert (await profiles.stub.GetFreshness(pb.GetFreshnessRequest())).replayed_count == 20


async def test_an_edited_event_gets_the_new_properties_and_keeps_what_its_editor_may_not_see(
    profiles: Profiles, desk: Desk
) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m", price="5", colour="red", email="ann@example.com"))
    (held,) = await waiting(desk)
    edit = plans.EditQuarantinedEventRequest(quarantine_id=held.quarantine_id, properties=b'{"price":"six"}')
    with pytest.raises(InvalidArgument, match=r"properties\.price must be of type number") as caught:
        await desk.plans.EditQuarantinedEvent(edit)
    assert caught.value.field == "/properties/price"
    edit.properties = b'{"price":6}'
    assert (await desk.plans.EditQuarantinedEvent(edit)).appended
    (event,) = await log(profiles)
    assert json.loads(event.properties) == {"price": 6}
    assert (await opened(profiles, event))["properties"] == {"email": "ann@example.com"}
    assert (await opened(profiles, event))["userId"] == "ann"


async def test_who_may_see_personal_properties_replaces_all(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m", email="ann@example.com"))
    (held,) = await waiting(desk)
    get = plans.GetQuarantinedEventRequest(quarantine_id=held.quarantine_id, with_personal=True)
    assert json.loads((await desk.plans.GetQuarantinedEvent(get)).event.properties) == {"email": "ann@example.com"}
    edit = plans.EditQuarantinedEventRequest(
        quarantine_id=held.quarantine_id, properties=b'{"price":6,"phone":"123"}', with_personal=True
    )
    await desk.plans.EditQuarantinedEvent(edit)
    (event,) = await log(profiles)
    assert (await opened(profiles, event))["properties"] == {"phone": "123"}


async def test_a_discarded_event_is_gone_its_receipt_says_so_and_it_may_come_again(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m"))
    (held,) = await waiting(desk)
    discard = plans.DiscardQuarantinedEventRequest(quarantine_id=held.quarantine_id)
    await desk.plans.DiscardQuarantinedEvent(discard)
    assert (await waiting(desk), await desk.fates("m")) == ([], ["discarded"])
    with pytest.raises(NotFound):
        await desk.plans.DiscardQuarantinedEvent(discard)
    rows = await profiles.rows("SELECT payload FROM profiles.quarantine WHERE tenant_id = $1", context.tenant())
    assert [row[0] for row in rows] == [None]
    assert statuses(await profiles.send(paid("m"), received=LATER)) == ["quarantined"]
    assert await desk.fates("m") == ["quarantined"]


async def test_a_held_message_that_is_sent_repaired_is_accepted_and_the_old_one_superseded(
    profiles: Profiles, desk: Desk
) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m"))
    assert statuses(await profiles.send(paid("m", price=3), received=LATER)) == ["accepted"]
    assert await desk.fates("m") == ["accepted", "quarantined"]
    await desk.put(**LENIENT)
    done = await desk.plans.ReplayQuarantinedEvents(plans.ReplayQuarantinedEventsRequest())
    assert (done.replayed_count, done.superseded_count, done.waiting_count) == (0, 1, 0)
    assert (await desk.fates("m"))[0] == "superseded"
    assert len(await log(profiles)) == 1


async def test_all_that_the_present_plan_lets_pass_is_replayed_in_order(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING, unplanned="quarantine")
    for number in range(3):
        await profiles.send(paid(f"m{number}"), received=RECEIVED + timedelta(minutes=number))
    await profiles.send({"type": "track", "messageId": "x", "event": "Other", "userId": "ann", "timestamp": DAY})
    await desk.put(**LENIENT, unplanned="quarantine")
    done = await desk.plans.ReplayQuarantinedEvents(plans.ReplayQuarantinedEventsRequest())
    assert (done.replayed_count, done.waiting_count, done.next_page_token) == (3, 1, "")
    assert [each.event for each in await waiting(desk)] == ["Other"]
    assert await desk.fates("x") == ["quarantined"]


async def test_nobody_decides_for_thirty_days_and_the_receipt_says_that_it_expired(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m"), received=datetime.now(UTC) - timedelta(days=31))
    await forget(profiles.database, at=datetime.now(UTC))
    assert (await waiting(desk), await desk.fates("m")) == ([], ["expired"])


async def test_a_held_event_is_sealed(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m", email="annabella@example.com", note="I grumble", topic="delivery"))
    rows = await profiles.rows("SELECT held::text FROM profiles.quarantine AS held")
    text = "".join(row[0] for row in rows)
    assert b"delivery".hex() in text, "what is public must be found by the same search, or the search proves nothing"
    for secret in ("annabella", "grumble"):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_a_new_version_is_in_effect_in_other_processes_within_its_time(profiles: Profiles, desk: Desk) -> None:
    elsewhere = Plans(PlanStore(profiles.database))
    assert await elsewhere.judge(context.tenant()) is None
    await desk.put(**HOLDING)
    until = asyncio.get_running_loop().time() + FRESH_S + 0.5
    while (judge := await elsewhere.judge(context.tenant())) is None:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)
    assert judge.version == 1
    assert FRESH_S + 0.5 < 5


async def test_the_plan_of_one_tenant_is_not_anothers(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**HOLDING)
    await profiles.send(paid("m"))
    (held,) = await waiting(desk)
    with context.use(tenant=f"{context.tenant()}-b"):
        await profiles.create()
        assert statuses(await profiles.send(paid("m"))) == ["accepted"]
        assert await waiting(desk) == []
        request = plans.DiscardQuarantinedEventRequest(quarantine_id=held.quarantine_id)
        with pytest.raises(NotFound):
            await desk.plans.DiscardQuarantinedEvent(request)
        with pytest.raises(NotFound):
            await desk.plans.GetTrackingPlan(plans.GetTrackingPlanRequest())
    assert len(await waiting(desk)) == 1


async def test_a_first_plan_is_inferred_and_lets_pass_what_it_was_made_of(profiles: Profiles, desk: Desk) -> None:
    calls = [paid(f"m{number}", price=number / 2, email=f"p{number}@example.com", size=["s", "m"]) for number in range(10)]
    calls[3]["properties"]["coupon"] = "SPRING"
    await profiles.take(*calls, {"type": "identify", "userId": "ann", "timestamp": DAY, "traits": {"plan": "gold"}})
    inferred = await desk.plans.InferTrackingPlan(plans.InferTrackingPlanRequest())
    document = json.loads(inferred.document)
    schema = document["events"]["Paid"]["schema"]
    assert schema["required"] == ["email", "price", "size"]
    assert {key: each["type"] for key, each in schema["properties"].items()} == {
        "coupon": "string", "email": "string", "price": "number", "size": "array",
    }  # fmt: skip
    assert "@" not in inferred.document.decode()
    assert inferred.event_count == 11
    assert inferred.since.ToDatetime(UTC) == RECEIVED
    await desk.put(**document | {"mode": "reject", "unplanned": "reject"})
    again = [call | {"messageId": f"again {index}"} for index, call in enumerate(calls)]
    assert statuses(await profiles.send(*again)) == ["accepted"] * 10


async def test_an_expression_made_to_hang_does_not(profiles: Profiles, desk: Desk) -> None:
    await desk.put(mode="observe", events={"Paid": {"schema": {"properties": {"sku": {"pattern": "^(a+)+$"}}}}})
    async with asyncio.timeout(5):
        assert statuses(await profiles.send(paid("m", sku="a" * 30_000 + "b"))) == ["accepted"]
