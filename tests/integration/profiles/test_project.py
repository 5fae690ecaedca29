"""What the projections show of the log: who is whom since when, traits, timelines, clocks."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from rapport.profiles.v1 import event_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import InvalidArgument
from chassis.log import Position, Record
from services.profiles.domain.identity import MAX_LINKS, MAX_NODES, Namespace
from services.profiles.lookup import node_of
from services.profiles.store.projection import MAX_PERSONAL
from services.profiles.store.rebuild import PROJECTIONS
from tests.integration.profiles.conftest import RECEIVED, Profiles


def _call(type_: str, message_id: str, day: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "messageId": message_id, "timestamp": f"2026-01-{day:02d}T00:00:00Z", **fields}


def _identify(message_id: str, day: int = 1, **traits: Any) -> dict[str, Any]:
    return _call("identify", message_id, day, userId="u", traits=traits)


async def _steps(profiles: Profiles, ref: str) -> list[tuple[str, datetime | None]]:
    """(profile, since) of the node that a reference names, oldest first; None for "since ever"."""
    tenant = await profiles.parts.tenants.present()
    node_id = node_of(tenant, ref, "ref")
    rows = await profiles.rows(
        "SELECT profile_id, CASE WHEN isfinite(since) THEN since END FROM profiles.node_profiles "
        "WHERE tenant_id = $1 AND node_id = $2 ORDER BY node_profiles.since",
        tenant.tenant_id,
        node_id,
    )
    return [(str(row[0]), row[1]) for row in rows]


def _day(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


async def _merged(profiles: Profiles) -> list[dict[str, str]]:
    rows = await profiles.rows(
        "SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY events.xid, events.seq", context.tenant()
    )
    events = [event_pb2.Event.FromString(row[0]) for row in rows]
    return [json.loads(event.properties) for event in events if event.name == "Profile Merged"]


async def test_a_visitor_who_signs_in_becomes_one_profile_from_then_on(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, anonymousId="a"))
    visitor = (await profiles.resolve("anonymous_id:a"))[0]
    assert (await profiles.profile(visitor)).identified is False

    await profiles.take(_call("identify", "2", 5, anonymousId="a", userId="u", traits={"plan": "pro"}))
    user, now = await profiles.resolve("user_id:u", "anonymous_id:a")
    assert now == user != visitor
    assert (await profiles.resolve(visitor)) == [user], "the old profile id leads to the new one"
    assert await _steps(profiles, "anonymous_id:a") == [(visitor, None), (user, _day(5))]
    profile = await profiles.profile(visitor)
    assert (profile.profile_id, profile.event_count, profile.identified) == (user, 2, True)
    assert profile.first_seen.ToDatetime(UTC) == _day(1)
    assert profile.last_seen.ToDatetime(UTC) == _day(5)
    assert {identity.namespace for identity in profile.identities} == {"user_id", "anonymous_id"}
    listed = await profiles.stub.ListProfiles(pb.ListProfilesRequest())
    assert [each.profile_id for each in listed.profiles] == [user]


async def test_a_merge_is_told_to_everybody_once(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, anonymousId="a"))
    visitor = (await profiles.resolve("anonymous_id:a"))[0]
    await profiles.take(_call("page", "2", 2, anonymousId="a", userId="u"))
    await profiles.take(_call("page", "3", 3, anonymousId="a", userId="u"))
    user = (await profiles.resolve("user_id:u"))[0]
    assert await _merged(profiles) == [{"from": visitor, "into": user, "since": "2026-01-02T00:00:00.000000Z"}]


async def test_an_alias_merges_two_user_ids_and_all_that_hangs_on_them(profiles: Profiles) -> None:
    await profiles.take(
        _call("page", "1", 1, userId="old", anonymousId="phone"),
        _call("page", "2", 2, userId="new"),
        _call("alias", "3", 3, userId="new", previousId="old"),
    )
    found = await profiles.resolve("user_id:old", "user_id:new", "anonymous_id:phone")
    assert len(set(found)) == 1
    assert (await profiles.profile(found[0])).event_count == 3
    assert {event.timestamp.ToDatetime(UTC) for event in await profiles.events("user_id:new")} >= {_day(1), _day(2), _day(3)}


async def test_a_link_that_is_learnt_to_be_older_moves_back(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 9, anonymousId="a", userId="u"))
    await profiles.take(_call("page", "2", 4, anonymousId="a", userId="u"))
    assert (await _steps(profiles, "anonymous_id:a"))[1][1] == _day(4)


async def test_a_tenant_by_the_wall_learns_of_a_link_when_it_is_received(service: Profiles, tenant: str) -> None:
    await service.create("WALL")
    await service.take(_call("page", "1", 1, anonymousId="a", userId="u"))
    assert (await _steps(service, "anonymous_id:a"))[1][1] == RECEIVED


async def test_a_shared_device_merges_nobody(profiles: Profiles) -> None:
    calls = [_call("page", f"{number:03}", 1, anonymousId="kiosk", userId=f"u{number}") for number in range(MAX_LINKS + 20)]
    await profiles.take(*calls)
    rows = await profiles.rows(
        "SELECT count(*) FROM profiles.nodes WHERE tenant_id = $1 GROUP BY profile_id ORDER BY 1 DESC", context.tenant()
    )
    assert [row[0] for row in rows] == [2] + [1] * (MAX_LINKS + 19), "the kiosk belongs to one of them"
    await profiles.take(_call("page", "later", 2, anonymousId="kiosk", userId="one more"))
    assert len(set(await profiles.resolve("user_id:one more", "anonymous_id:kiosk"))) == 2
    assert (await profiles.profile("user_id:one more")).event_count == 1
    kinds = await profiles.rows("SELECT kind FROM profiles.identity_issues WHERE tenant_id = $1", context.tenant())
    assert [row[0] for row in kinds] == ["shared"]


async def test_a_person_with_too_many_devices_holds_up_nobody(profiles: Profiles) -> None:
    calls = [_call("page", f"{number}", 1, anonymousId=f"a{number}", userId="u") for number in range(MAX_NODES + 20)]
    await profiles.take(*calls)
    devices = [f"anonymous_id:a{number}" for number in range(MAX_NODES + 20)]
    user, *found = [
        profile_id for half in (["user_id:u", *devices[:520]], devices[520:]) for profile_id in await profiles.resolve(*half)
    ]
    assert (await profiles.profile(user)).event_count == MAX_NODES + 20
    assert found.count(user) == MAX_NODES - 1, "the others stay alone"


async def test_the_newest_value_of_a_trait_stands_whatever_came_last(profiles: Profiles) -> None:
    await profiles.take(_identify("1", 5, plan="pro", seats=3))
    await profiles.take(_identify("2", 2, plan="free", country="UK"))
    assert await profiles.traits("user_id:u") == {"plan": "pro", "seats": 3, "country": "UK"}


async def test_a_null_takes_a_trait_away(profiles: Profiles) -> None:
    await profiles.take(_identify("1", 1, plan="pro", country="UK"))
    await profiles.take(_identify("2", 2, plan=None))
    assert await profiles.traits("user_id:u") == {"country": "UK"}


async def test_traits_of_all_identities_are_one_profiles_traits(profiles: Profiles) -> None:
    await profiles.take(
        _call("identify", "1", 1, anonymousId="a", traits={"colour": "red", "plan": "free"}),
        _call("identify", "2", 2, userId="u", anonymousId="a", traits={"plan": "pro"}),
    )
    assert await profiles.traits("user_id:u") == {"colour": "red", "plan": "pro"}


async def test_only_so_many_sealed_traits_of_a_person_are_kept(profiles: Profiles) -> None:
    count = "SELECT count(*) FROM profiles.personal_traits WHERE tenant_id = $1"
    await profiles.take(*(_identify(f"same{number}", 1, email="a@b.c") for number in range(30)))
    assert (await profiles.rows(count, context.tenant()))[0][0] == 1, "the same traits are kept once"
    await profiles.take(*(_identify(f"m{number}", 2, email=f"{number}@b.c") for number in range(30)))
    assert (await profiles.rows(count, context.tenant()))[0][0] == MAX_PERSONAL


async def test_group_traits_are_not_the_persons(profiles: Profiles) -> None:
    await profiles.take(_call("group", "1", 1, userId="u", groupId="g", traits={"industry": "mugs"}))
    assert await profiles.traits("user_id:u") == {}
    (event,) = await profiles.events("user_id:u")
    assert json.loads(event.properties) == {"industry": "mugs", "groupId": "g"}


async def test_the_clock_is_the_newest_event_of_a_customer_and_not_of_a_service(profiles: Profiles) -> None:
    async def now() -> datetime:
        return (await profiles.stub.GetFreshness(pb.GetFreshnessRequest())).now.ToDatetime(UTC)

    await profiles.take(_call("page", "1", 7, userId="u"), _call("page", "2", 3, userId="u"))
    assert (await now() - _day(7)).total_seconds() == 0.001
    profile_id = (await profiles.resolve("user_id:u"))[0]
    late = pb.Fact(message_id="f", profile_id=profile_id, name="Churn Scored", source="rapport.scoring")
    late.timestamp.FromDatetime(RECEIVED)
    await profiles.record(late)
    await profiles.settled()
    assert (await now() - _day(7)).total_seconds() == 0.001


async def test_records_that_come_again_change_nothing(profiles: Profiles) -> None:
    """As after a reader that lost its place: the same rows, at a new position."""
    await profiles.take(
        _call("identify", "1", 1, userId="u", anonymousId="a", traits={"plan": "pro", "email": "a@b.c"}),
        _call("page", "2", 2, userId="u"),
    )
    before = await _everything(profiles)
    rows = await profiles.rows(
        "SELECT events.xid::text, seq, tenant_id, key, received_at, payload FROM log.events WHERE tenant_id = $1",
        context.tenant(),
    )
    records = [Record(int(row[0]), *list(row)[1:]) for row in rows]
    xid, seq = (await profiles.rows("SELECT xid::text, seq FROM profiles.log_cursor WHERE consumer = 'profiles'"))[0]
    await profiles.parts.projector.handle(records, Position(int(xid), seq, int(xid), seq))
    assert await _everything(profiles) == before


async def _everything(profiles: Profiles) -> dict[str, Any]:
    return {
        table: sorted(map(str, await profiles.rows(f"SELECT * FROM profiles.{table} WHERE tenant_id = $1", context.tenant())))
        for table in PROJECTIONS
    }


async def test_events_of_a_tenant_that_nobody_knows_are_passed_over(profiles: Profiles) -> None:
    event = event_pb2.Event(event_id=uuid4().bytes, type="page", node_id=str(uuid4()), ts_us=1, known_us=1, received_us=1)
    insert = "INSERT INTO log.events (tenant_id, received_at, payload) VALUES ('stranger', now(), $1)"
    await profiles.rows(insert, event.SerializeToString())
    await profiles.settled()
    assert await profiles.rows("SELECT 1 FROM profiles.timeline WHERE tenant_id = 'stranger'") == []


async def test_an_event_that_cannot_be_projected_holds_up_nobody(profiles: Profiles) -> None:
    tenant = await profiles.parts.tenants.present()
    node_id = str(tenant.keys.node_id(Namespace.USER_ID, "u"))
    good = event_pb2.Event(event_id=uuid4().bytes, type="page", node_id=node_id, ts_us=1, known_us=1, received_us=1)
    spoilt = event_pb2.Event(event_id=uuid4().bytes, type="track", name="\x00", node_id=str(uuid4()))
    payloads = [b"\xff no message", good.SerializeToString(), spoilt.SerializeToString()]
    insert = "INSERT INTO log.events (tenant_id, received_at, payload) SELECT $1, now(), unnest($2::bytea[])"
    await profiles.rows(insert, context.tenant(), payloads)
    await profiles.take(_call("page", "1", 1, userId="u"))
    rows = await profiles.rows("SELECT event_id FROM profiles.timeline WHERE tenant_id = $1", context.tenant())
    assert len(rows) == 2
    assert good.event_id in {row[0] for row in rows}


async def test_the_same_identifier_is_another_person_for_another_tenant(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, userId="u"))
    mine = (await profiles.resolve("user_id:u"))[0]
    other = f"o{uuid4().hex[:10]}"
    with context.use(tenant=other):
        await profiles.create()
        assert await profiles.resolve("user_id:u", mine) == ["", ""]
        await profiles.take(_call("page", "1", 1, userId="u"))
        theirs = (await profiles.resolve("user_id:u"))[0]
    assert UUID(theirs) != UUID(mine)


@pytest.mark.parametrize("ref", ["", "user_id:", "user_id:" + "x" * 256, "email:a@b.c", "7", "user_id:\x00"])
async def test_a_reference_must_be_one(profiles: Profiles, ref: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        await profiles.resolve("user_id:u", ref)
    assert error.value.field == "refs[1]"
