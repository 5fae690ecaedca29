"""Every event is answered with what became of it, and that can be asked for afterwards; the sums agree everywhere."""

import ast
import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1 import receipts_pb2

from chassis import context
from chassis.errors import NotFound, Reason
from services.profiles.ingest import Ingest, Receipt, ReceiptStatus, Submission
from services.profiles.plans import Plans
from services.profiles.retain import forget
from services.profiles.store.log import LogStore
from services.profiles.store.plans import PlanStore
from services.profiles.store.receipts import ReceiptStore
from tests.integration.profiles.conftest import RECEIVED, Desk, Profiles

DAY = "2026-01-01T00:00:00Z"
LATER = RECEIVED + timedelta(hours=1)
# Where an event of a client's is judged. What judges the documents of plans judges no event.
JUDGES = ("services.profiles.ingest", "services.profiles.segment", "services.profiles.draft")
OF_DOCUMENTS = {"services.profiles.domain.plan"}
NEEDS_PRICE = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}
PLAN: Mapping[str, Any] = {
    "events": {
        "Held": {"schema": NEEDS_PRICE, "mode": "quarantine"},
        "Barred": {"schema": NEEDS_PRICE, "mode": "reject"},
        "Watched": {"schema": NEEDS_PRICE, "mode": "observe"},
    }
}


def track(message_id: str, name: str = "Seen", **fields: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": message_id, "event": name, "userId": "u", "timestamp": DAY, **fields}


# One event, or a body that is refused as a whole, for each reason that there is.
EVENTS: Mapping[Reason, Mapping[str, Any]] = {
    Reason.INVALID_FIELD: track("invalid", timestamp="soon"),
    Reason.MISSING_FIELD: track("missing", ""),
    Reason.MALFORMED_TEXT: track("text", properties={"a": "x\x00"}),
    Reason.EVENT_TOO_LARGE: track("large", properties={"a": "x" * 33_000}),
    Reason.TOO_MANY_PROPERTIES: track("many", properties={f"k{number}": 1 for number in range(2001)}),
    Reason.MISSING_IDENTITY: track("identity", userId=None),
    Reason.BLOCKED_IDENTIFIER: track("blocked", userId="null"),
    Reason.UNKNOWN_EVENT_TYPE: track("type") | {"type": "purchase"},
    Reason.TIMESTAMP_OUT_OF_BOUNDS: track("bounds", timestamp="1969-12-31T00:00:00Z"),
    Reason.NEGATIVE_PRICE: track("negative", "Order Completed", properties={"revenue": -1}),
    Reason.PLAN_VIOLATION: track("barred", "Barred", properties={"price": "free"}),
}
BODIES: Mapping[Reason, bytes] = {
    Reason.MALFORMED_JSON: b'{"batch":[{]}',
    Reason.BODY_TOO_LARGE: b'{"batch":[]}' + b" " * 512_000,
}
# See test_what_cannot_be_held_is_rejected.
ELSEWHERE = {Reason.QUARANTINE_FULL}


def reasons_of_events() -> set[Reason]:
    """All that are named where events are judged, and the one that is meant where none is named."""
    seen: set[str] = set()
    found = {"INVALID_FIELD"}
    waiting = list(JUDGES)
    while waiting:
        module = waiting.pop()
        if module in seen or module in OF_DOCUMENTS:
            continue
        seen.add(module)
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
                found.add(node.attr)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("services.profiles.domain"):
                waiting += [f"{node.module}.{name.name}" for name in node.names if node.module == "services.profiles.domain"]
                waiting += [node.module] if node.module != "services.profiles.domain" else []
    return {Reason[name] for name in found}


def counters() -> Counter[str]:
    """rapport_profiles_ingest_events_total by status."""
    found: Counter[str] = Counter()
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if sample.name == "rapport_profiles_ingest_events_total":
                found[sample.labels["status"]] += int(sample.value)
    return found


def status_of(receipt: pb.Receipt) -> str:
    return pb.ReceiptStatus.Name(receipt.status).removeprefix("RECEIPT_STATUS_").lower()


def test_each_reason_for_which_an_event_is_rejected_has_a_case() -> None:
    assert reasons_of_events() == EVENTS.keys() | BODIES.keys() | ELSEWHERE


async def fed(profiles: Profiles) -> list[pb.Receipt]:
    """The receipts of every kind of event: all reasons, repeats in a batch, across batches and at once, held and accepted."""
    fine = [track(f"fine-{number}") for number in range(5)]
    held = [track(f"held-{number}", "Held") for number in range(3)]
    watched = track("watched", "Watched", properties={"price": "free"})
    receipts = list(await profiles.send(*fine, *held, watched, *EVENTS.values(), fine[0], held[0], received=RECEIVED))
    receipts += await profiles.send(*fine, *held, watched, received=LATER)
    at_once = [track(f"at-once-{number}", "Held" if number % 4 == 0 else "Seen") for number in range(20)]
    for answer in await asyncio.gather(*(profiles.send(*at_once) for _ in range(5))):
        receipts += answer
    for body in BODIES.values():
        refused = (await profiles.send_body(body)).malformed
        receipts.append(pb.Receipt(message_id=refused.message_id, status=pb.RECEIPT_STATUS_REJECTED, reason=refused.reason))
    return receipts


async def test_every_event_is_accepted_a_duplicate_rejected_or_held_and_all_sums_say_so(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**PLAN)
    before = counters()
    receipts = await fed(profiles)
    answered = Counter(map(status_of, receipts))
    sent = 5 + 3 + 1 + len(EVENTS) + 2 + 9 + 5 * 20 + len(BODIES)
    assert sum(answered.values()) == len(receipts) == sent
    assert answered == {
        "accepted": 5 + 1 + 15,
        "quarantined": 3 + 5,
        "duplicate": 2 + 9 + 4 * 20,
        "rejected": len(EVENTS) + len(BODIES),
    }
    assert counters() - before == answered

    await profiles.settled()
    fresh = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert answered == {
        "accepted": fresh.event_count,
        "duplicate": fresh.duplicate_count,
        "rejected": fresh.rejected_count,
        "quarantined": fresh.quarantined_count,
    }
    reasons = {Reason[receipt.reason] for receipt in receipts if status_of(receipt) == "rejected"}
    assert reasons == EVENTS.keys() | BODIES.keys()


async def test_every_answer_names_the_message_id_by_which_it_can_be_asked_for(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**PLAN)
    nameless = [{"type": "page", "timestamp": DAY}, {"type": "page", "userId": "u"}, track("i" * 256), track("n\x00l")]
    receipts = [*await fed(profiles), *await profiles.send(*nameless, received=RECEIVED + timedelta(hours=2))]
    for receipt in receipts:
        fates = await desk.fates(receipt.message_id)
        status = status_of(receipt)
        assert fates, receipt
        assert status in fates or (status == "duplicate" and fates[0] in ("accepted", "quarantined")), (receipt, fates)


async def test_a_duplicate_says_when_its_first_came_and_the_receipt_how_often(profiles: Profiles, desk: Desk) -> None:
    await profiles.send(track("m"))
    (again,) = await profiles.send(track("m"), received=LATER)
    assert status_of(again) == "duplicate"
    assert again.first_received.ToDatetime(UTC) == RECEIVED
    assert again.reason == ""
    twice = await profiles.send(track("n"), track("n"), track("m"), received=LATER + timedelta(hours=1))
    assert [status_of(receipt) for receipt in twice] == ["accepted", "duplicate", "duplicate"]
    assert twice[1].first_received.ToDatetime(UTC) == LATER + timedelta(hours=1)
    assert twice[2].first_received.ToDatetime(UTC) == RECEIVED
    told = await desk.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id="m"))
    assert (told.message_id, told.duplicate_count) == ("m", 2)
    assert told.last_duplicate.ToDatetime(UTC) == LATER + timedelta(hours=1)
    assert [fate.received.ToDatetime(UTC) for fate in told.fates] == [RECEIVED]


async def test_what_was_rejected_repaired_and_accepted_has_both_fates_the_newest_first(profiles: Profiles, desk: Desk) -> None:
    await profiles.send(track("m", timestamp="soon"))
    await profiles.send(track("m", "Order Completed", properties={"total": -1}), received=RECEIVED + timedelta(minutes=1))
    await profiles.send(track("m"), received=LATER)
    told = await desk.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id="m"))
    assert await desk.fates("m") == ["accepted", "rejected", "rejected"]
    assert [fate.reason for fate in told.fates] == ["", "NEGATIVE_PRICE", "INVALID_FIELD"]
    assert (told.fates[1].type, told.fates[1].field) == ("track", "properties.total")
    assert "Order Refunded" in told.fates[1].message


async def test_a_message_that_never_came_has_no_receipt(profiles: Profiles, desk: Desk) -> None:
    with pytest.raises(NotFound, match="within the last 30 days"):
        await desk.fates("never")


async def test_the_receipts_of_one_tenant_are_not_anothers(profiles: Profiles, desk: Desk) -> None:
    await profiles.send(track("m"), track("bad", timestamp="soon"))
    with context.use(tenant=f"{context.tenant()}-b"):
        await profiles.create()
        for message_id in ("m", "bad"):
            with pytest.raises(NotFound):
                await desk.fates(message_id)


async def test_a_message_id_is_stored_nowhere(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**PLAN)
    secret = "ann@example.com/order/7"
    await profiles.send(track(secret), track(f"{secret}-held", "Held"), track(f"{secret}-bad", timestamp="soon"))
    await profiles.send(track(secret), track(f"{secret}-held", "Held"))
    tables = await profiles.rows(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('log', 'profiles')"
    )
    for (table,) in tables:
        for (text,) in await profiles.rows(f"SELECT row::text FROM {table} AS row"):
            assert secret not in text, table
            assert secret.encode().hex() not in text, table
    assert await desk.fates(f"{secret}-bad") == ["rejected"]


async def test_what_is_forgotten_before_its_time_is_told(profiles: Profiles, desk: Desk) -> None:
    now = datetime.now(UTC)
    await profiles.send(*(track(f"m{number}", timestamp="soon") for number in range(10)), received=now - timedelta(days=1))
    await profiles.send(track("newest", timestamp="soon"), received=now)
    assert await ReceiptStore(profiles.database).prune_refusals(1) >= 10
    assert await desk.fates("newest") == ["rejected"]
    with pytest.raises(NotFound, match="unless it was rejected: rejections up to 20"):
        await desk.fates("m0")


async def test_receipts_are_kept_for_thirty_days(profiles: Profiles, desk: Desk) -> None:
    now = datetime.now(UTC)
    old, young = now - timedelta(days=31), now - timedelta(days=29)
    await profiles.send(track("old", timestamp="soon"), track("kept"), received=old)
    await profiles.send(track("young", timestamp="soon"), received=young)
    await profiles.send(track("kept"), received=young)
    await forget(profiles.database, at=now)
    assert await desk.fates("young") == ["rejected"]
    told = await desk.receipts.GetReceipt(receipts_pb2.GetReceiptRequest(message_id="kept"))
    assert (await desk.fates("kept"), told.duplicate_count) == (["accepted"], 1)
    with pytest.raises(NotFound):
        await desk.fates("old")


async def taken(ingest: Ingest, profiles: Profiles, *calls: Mapping[str, Any]) -> Sequence[Receipt]:
    body = json.dumps({"batch": calls}).encode()
    submission = Submission("batch", body, int(RECEIVED.timestamp() * 1_000_000))
    (answer,), _ = await ingest.take(await profiles.parts.tenants.present(), [submission], [])
    assert isinstance(answer, list)
    return answer


async def test_what_cannot_be_held_is_rejected(profiles: Profiles, desk: Desk) -> None:
    await desk.put(**PLAN)
    await profiles.send(track("first", "Held"))
    parts = profiles.parts
    plans = Plans(PlanStore(profiles.database), most_waiting=1)
    ingest = Ingest(LogStore(profiles.database), parts.people, parts.tenants, parts.precedence, plans)
    full, fine = await taken(ingest, profiles, track("second", "Held"), track("third"))
    assert (full.status, fine.status) == (ReceiptStatus.REJECTED, ReceiptStatus.ACCEPTED)
    assert full.error is not None
    assert full.error.reason is Reason.QUARANTINE_FULL
    assert await desk.fates("second") == ["rejected"]


async def test_batches_that_repeat_parts_of_each_other_at_once_all_get_receipts(profiles: Profiles) -> None:
    """Each with other repeats, and some with a refusal: whatever they write, they write it in one order."""
    calls = [track(f"m{number}") for number in range(60)]
    await profiles.send(*calls)
    chance, sent, refused = random.Random(1), 0, 0
    for _ in range(6):
        batches = [chance.sample(calls, 20) + [track("refused", "")] * (number % 2) for number in range(8)]
        answers = await asyncio.gather(*(profiles.send(*batch) for batch in batches))
        found = Counter(receipt.status for answer in answers for receipt in answer)
        sent, refused = sent + found[pb.RECEIPT_STATUS_DUPLICATE], refused + found[pb.RECEIPT_STATUS_REJECTED]
    assert (sent, refused) == (6 * 8 * 20, 6 * 4)
    fresh = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert (fresh.duplicate_count, fresh.rejected_count) == (sent, refused)
