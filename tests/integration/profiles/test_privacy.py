"""What a person may ask for: all that is known, and its end, in every store, at once and for good."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pyarrow.parquet as pq
import pytest
from rapport.profiles.v1 import event_pb2, privacy_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import InvalidArgument, NotFound
from services.profiles import erase
from services.profiles.rpc.privacy import PrivacyRpc
from services.profiles.store.erasures import TABLES, ErasureStore
from services.profiles.store.log import Entry
from services.profiles.vault import Unreadable, open_sealed
from tests.integration.profiles.conftest import PATIENCE_S, Profiles, erased

SECRET = "Zwölfboxkämpfer 9"


async def _two_people(profiles: Profiles) -> None:
    for user in ("gone", "stays"):
        await profiles.take(
            {
                "type": "identify",
                "messageId": f"{user}1",
                "userId": user,
                "anonymousId": f"a-{user}",
                "traits": {"name": SECRET},
            },
            {"type": "track", "messageId": f"{user}2", "userId": user, "event": "Cart Viewed", "properties": {"note": SECRET}},
        )


async def _sealed_parts(profiles: Profiles) -> dict[UUID, list[tuple[bytes, bytes]]]:
    found: dict[UUID, list[tuple[bytes, bytes]]] = {}
    for row in await profiles.rows("SELECT payload FROM log.events WHERE tenant_id = $1", context.tenant()):
        event = event_pb2.Event.FromString(row["payload"])
        if event.sealed:
            found.setdefault(UUID(event.node_id), []).append((event.event_id, event.sealed))
    return found


async def test_an_export_holds_what_was_sealed(profiles: Profiles, office: PrivacyRpc) -> None:
    await _two_people(profiles)
    events: list[dict[str, Any]] = []
    token, pages = "", 0
    while pages == 0 or token:
        request = privacy_pb2.ExportProfileRequest(ref="user_id:gone", page_size=1, page_token=token)
        page = await office.ExportProfile(request, None)
        assert bool(page.tables) == (pages == 0)
        events += map(json.loads, page.events)
        token, pages = page.next_page_token, pages + 1
    assert [event["name"] for event in events] == ["", "Cart Viewed", "Profile Merged"]
    assert events[0]["personal"]["traits"] == {"name": SECRET}
    assert events[0]["personal"]["userId"] == "gone"
    assert events[1]["personal"]["properties"] == {"note": SECRET}


async def test_of_an_erased_person_nothing_is_left_and_nothing_can_be_opened(profiles: Profiles, office: PrivacyRpc) -> None:
    await _two_people(profiles)
    await profiles.stub.ExportLog(pb.ExportLogRequest(), timeout=60)
    (gone,) = await profiles.resolve("user_id:gone")
    sealed = await _sealed_parts(profiles)
    erasure = await erased(office, "user_id:gone", "scoring", "feedback")

    counts = {each.name: each.row_count for each in erasure.stores}
    assert counts["profiles.person_keys"] == 1
    assert counts["log.events"] >= 2
    assert counts["profiles.timeline"] >= 2
    assert counts["archive"] == counts["profiles.timeline"]
    assert counts["scoring.rows"] == counts["feedback.rows"] == 3
    assert erasure.profile_id == gone
    assert erasure.keys_destroyed.ToDatetime() < erasure.completed.ToDatetime()

    people = [UUID(each) for each in erasure.profile_ids]
    for table in TABLES:
        left = await profiles.rows(f"SELECT count(*) FROM {table.name} WHERE {table.where}", context.tenant(), people)
        assert left[0][0] == 0, table.name
    assert not set(people) & (await _sealed_parts(profiles)).keys()
    files = sorted((profiles.folder / "archive" / context.tenant()).rglob("*.parquet"))
    kept = {node for file in files for node in pq.ParquetFile(file).read(columns=["node_id"])["node_id"].to_pylist()}
    assert kept
    assert not kept & set(erasure.profile_ids)
    with pytest.raises(NotFound):
        await profiles.profile("user_id:gone")

    tenant = await profiles.parts.tenants.present()
    ciphers = await profiles.parts.people.ciphers(tenant, sealed.keys())
    assert not set(people) & ciphers.keys()
    for event_id, text in sealed[UUID(gone)]:
        for cipher in ciphers.values():
            with pytest.raises(Unreadable):
                open_sealed(cipher, text, tenant.keys.of_event(event_id))


async def test_others_stay_as_they_were(profiles: Profiles, office: PrivacyRpc) -> None:
    await _two_people(profiles)
    before = (await profiles.profile("user_id:stays"), await profiles.events("user_id:stays"))
    await erased(office, "user_id:gone")
    assert (await profiles.profile("user_id:stays"), await profiles.events("user_id:stays")) == before
    page = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref="user_id:stays"), None)
    assert json.loads(page.events[0])["personal"]["traits"] == {"name": SECRET}


async def test_who_comes_back_is_new_and_can_be_read(profiles: Profiles, office: PrivacyRpc) -> None:
    await _two_people(profiles)
    await erased(office, "user_id:gone")
    await profiles.take({"type": "identify", "messageId": "again", "userId": "gone", "traits": {"name": "Ada"}})
    assert (await profiles.profile("user_id:gone")).event_count == 1
    page = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref="user_id:gone"), None)
    assert [json.loads(event)["personal"]["traits"] for event in page.events] == [{"name": "Ada"}]


async def test_what_was_on_its_way_leaves_nothing_with_who_comes_back(profiles: Profiles, office: PrivacyRpc) -> None:
    """An event taken before the keys went, and written after; then one of who comes back."""
    await _two_people(profiles)
    events = "SELECT event_count FROM profiles.clocks WHERE tenant_id = $1"
    before = (await profiles.rows(events, context.tenant()))[0][0]
    request = privacy_pb2.EraseProfileRequest(ref="user_id:gone", reason="asked for", services=["scoring"])
    erasure = (await office.EraseProfile(request, None)).erasure
    asked = datetime.now(UTC)
    async with asyncio.timeout(PATIENCE_S):
        while not erasure.HasField("keys_destroyed"):
            await asyncio.sleep(0.1)
            erasure = (await office.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=erasure.erasure_id), None)).erasure
    late = {"type": "identify", "messageId": "late", "userId": "gone", "traits": {"tier": "old", "name": SECRET}}
    await profiles.take(late, {"type": "track", "userId": "gone", "event": "x", "messageId": "late2"}, received=asked)
    back = {"type": "identify", "messageId": "back", "userId": "gone", "traits": {"plan": "new"}}
    await profiles.take(back, received=datetime.now(UTC) + timedelta(seconds=2))
    assert (await profiles.profile("user_id:gone")).event_count == 3
    await erased(office, "user_id:gone", "scoring")

    profile = await profiles.profile("user_id:gone")
    assert (profile.event_count, json.loads(profile.traits)) == (1, {"plan": "new"})
    assert len(await profiles.events("user_id:gone")) == 1
    assert (await profiles.rows(events, context.tenant()))[0][0] == before - 2 + 1
    page = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref="user_id:gone"), None)
    assert len(page.events) == 1


async def test_what_is_sent_while_it_goes_on_is_read_or_gone_but_never_sealed_for_nobody(
    profiles: Profiles, office: PrivacyRpc
) -> None:
    await _two_people(profiles)
    erasing = asyncio.create_task(erased(office, "user_id:gone"))
    sent = 0
    while not erasing.done():
        sent += 1
        call = {"type": "identify", "messageId": f"m{sent}", "userId": "gone", "traits": {"name": "Ada", "n": sent}}
        await profiles.send(call, received=datetime.now(UTC))
        await asyncio.sleep(0.05)
    await erasing
    await profiles.settled()
    page = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref="user_id:gone", page_size=1000), None)
    assert 0 < len(page.events) < sent
    assert all(json.loads(event)["personal"]["traits"]["name"] == "Ada" for event in page.events)


async def test_an_identifier_that_is_in_the_log_and_not_yet_projected_is_erased_with_the_person(
    profiles: Profiles, office: PrivacyRpc
) -> None:
    await _two_people(profiles)
    await profiles.take({"type": "track", "messageId": "other1", "anonymousId": "other", "event": SECRET})
    (other,) = await profiles.resolve("anonymous_id:other")
    async with profiles.database.transaction() as connection:
        # The projector waits for it.
        await connection.execute("SELECT FROM profiles.log_cursor WHERE consumer = 'profiles' FOR UPDATE")
        await profiles.send({"type": "identify", "messageId": "link", "userId": "gone", "anonymousId": "other"})
        request = privacy_pb2.EraseProfileRequest(ref="user_id:gone", reason="asked for")
        erasure = (await office.EraseProfile(request, None)).erasure
        assert other not in erasure.profile_ids
        await asyncio.sleep(erase.LET_GO_S + 2 * erase.LOOK_S)
    erasure = await erased(office, "user_id:gone")
    assert other in erasure.profile_ids
    people = [UUID(each) for each in erasure.profile_ids]
    for table in TABLES:
        left = await profiles.rows(f"SELECT count(*) FROM {table.name} WHERE {table.where}", context.tenant(), people)
        assert left[0][0] == 0, table.name
    assert not set(people) & (await _sealed_parts(profiles)).keys()
    with pytest.raises(NotFound):
        await profiles.profile("anonymous_id:other")


async def test_nothing_is_deleted_of_who_has_been_joined_by_somebody_since(profiles: Profiles) -> None:
    await _two_people(profiles)
    store, tenant_id = ErasureStore(profiles.database), context.tenant()
    (gone,) = await profiles.resolve("user_id:gone")
    row = await store.begin(tenant_id, uuid4(), UUID(gone), [UUID(gone)], "asked for", "test", [])
    told = Entry(b"told", None, datetime.now(UTC), b"")
    assert not await store.destroy(row, told), "the anonymous id is not named"
    assert (await profiles.profile("user_id:gone")).event_count == 2
    assert not await store.widen(row)
    (row,) = [each for each in await store.open() if each.tenant_id == tenant_id]
    assert len(row.node_ids) == 2
    assert await store.widen(row)
    assert await store.destroy(row, told)


async def test_a_second_request_for_the_same_person_is_the_first(profiles: Profiles, office: PrivacyRpc) -> None:
    await _two_people(profiles)
    request = privacy_pb2.EraseProfileRequest(ref="user_id:gone", reason="asked for", services=["scoring"])
    first, second = [(await office.EraseProfile(request, None)).erasure for _ in range(2)]
    assert first == second
    listed = (await office.ListErasures(privacy_pb2.ListErasuresRequest(), None)).erasures
    assert [each.erasure_id for each in listed] == [first.erasure_id]


async def test_bad_requests_are_told_what_was_wrong(profiles: Profiles, office: PrivacyRpc) -> None:
    with pytest.raises(NotFound):
        await office.EraseProfile(privacy_pb2.EraseProfileRequest(ref="user_id:nobody", reason="asked for"), None)
    await _two_people(profiles)
    with pytest.raises(InvalidArgument) as refused:
        await office.EraseProfile(privacy_pb2.EraseProfileRequest(ref="user_id:gone"), None)
    assert refused.value.field == "reason"
    with pytest.raises(NotFound):
        await office.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=str(UUID(int=7))), None)


def test_keys_are_destroyed_when_every_process_has_looked() -> None:
    assert erase.LET_GO_S > 3 * erase.LOOK_S
