"""What a person says of who is who, and how it is explained."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from rapport.profiles.v1 import event_pb2, profiles_pb2
from rapport.profiles.v1 import identities_pb2 as pb
from rapport.profiles.v1.identities_pb2_grpc import IdentitiesStub, add_IdentitiesServicer_to_server

from chassis import context, rpc
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from services.profiles.main import identities
from services.profiles.rules import IdentityRules
from tests.integration.profiles.conftest import Profiles


class Who:
    """The service Identities of the running profiles."""

    def __init__(self, stub: Any, profiles: Profiles, rules: IdentityRules) -> None:
        self.stub = stub
        self.profiles = profiles
        self.rules = rules

    async def unmerge(self, ref: str, part: str, **more: str) -> pb.UnmergeProfileResponse:
        request = pb.UnmergeProfileRequest(ref=ref, part=part, reason="not the same", **more)
        return await self.stub.UnmergeProfile(request)

    async def link(self, ref: str, other: str, **more: str) -> str:
        request = pb.LinkProfilesRequest(ref=ref, other_ref=other, reason="the same", **more)
        return (await self.stub.LinkProfiles(request)).profile_id

    async def graph(self, ref: str, *, with_personal: bool = False) -> pb.IdentityGraph:
        return await self.stub.GetIdentityGraph(pb.GetIdentityGraphRequest(ref=ref, with_personal=with_personal))

    async def find(self, namespace: str, value: str) -> str:
        request = pb.LookupProfilesRequest(identifiers=[pb.Identifier(namespace=namespace, value=value)])
        return (await self.stub.LookupProfiles(request)).profile_ids[0]

    async def facts(self, name: str) -> list[dict[str, Any]]:
        rows = await self.profiles.rows(
            "SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY events.xid, events.seq", context.tenant()
        )
        events = [event_pb2.Event.FromString(row[0]) for row in rows]
        return [json.loads(event.properties) for event in events if event.name == name]


@pytest_asyncio.fixture
async def who(profiles: Profiles) -> AsyncIterator[Who]:
    rules, servicer = identities(profiles.database, profiles.parts)
    server = rpc.Server("profiles", "test")
    server.add(add_IdentitiesServicer_to_server, servicer, pb.DESCRIPTOR)
    port = await server.start("127.0.0.1:0")
    channel = rpc.channel("profiles", f"127.0.0.1:{port}", pb.DESCRIPTOR)
    yield Who(IdentitiesStub(channel), profiles, rules)
    await channel.close()
    await server.stop(0)


def _call(type_: str, message_id: str, day: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "messageId": message_id, "timestamp": f"2026-01-{day:02d}T00:00:00Z", **fields}


def _day(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


async def _portrait(profiles: Profiles, ref: str) -> dict[str, Any]:
    """All that reads say of a profile."""
    profile = await profiles.profile(ref)
    return {
        "profile": profile,
        "events": sorted(event.event_id for event in await profiles.events(ref) if not event.source.startswith("rapport.")),
        "traits": await profiles.traits(ref),
    }


async def _two_people(profiles: Profiles) -> tuple[dict[str, Any], dict[str, Any]]:
    """Their portraits before anything made them one."""
    await profiles.take(
        _call("identify", "1", 1, userId="u1", anonymousId="a1", traits={"plan": "free", "seats": 1}),
        _call("page", "2", 3, anonymousId="a1"),
        _call("identify", "3", 2, userId="u2", anonymousId="a2", traits={"plan": "pro", "colour": "red"}),
        _call("page", "4", 4, anonymousId="a2"),
    )
    return await _portrait(profiles, "user_id:u1"), await _portrait(profiles, "user_id:u2")


async def test_an_unmerge_restores_both_as_if_they_had_never_been_one(who: Who) -> None:
    profiles = who.profiles
    before = await _two_people(profiles)
    await profiles.take(_call("alias", "5", 5, userId="u1", previousId="u2"))
    together = (await profiles.resolve("user_id:u1"))[0]
    assert await profiles.resolve("user_id:u2", "anonymous_id:a1", "anonymous_id:a2") == [together] * 3
    assert (await profiles.profile(together)).event_count == 5

    u1, u2 = (portrait["profile"].profile_id for portrait in before)
    gone = u2 if together == u1 else u1
    answer = await who.unmerge("user_id:u1", gone)
    assert {answer.profile_id, answer.parted_profile_id} == {u1, u2}
    assert answer.parted_profile_id == gone
    alias = before[0]["profile"]
    alias.event_count, alias.last_seen.seconds = 3, int(_day(5).timestamp())
    after = await _portrait(profiles, "user_id:u1"), await _portrait(profiles, "user_id:u2")
    for was, now in zip(before, after, strict=True):
        # previousId is linked as both kinds, so the alias also named an anonymous id; it hangs on u1.
        identities_now = [each for each in now["profile"].identities if each in list(was["profile"].identities)]
        assert len(identities_now) == len(was["profile"].identities)
        del now["profile"].identities[:], was["profile"].identities[:]
        assert now["profile"] == was["profile"]
        assert now["traits"] == was["traits"]
        assert set(was["events"]) <= set(now["events"])
    (fact,) = await who.facts("Profile Unmerged")
    assert (fact["from"], fact["into"]) == (together, gone)
    assert set(fact["nodes"]) >= {gone, *(await _nodes(who, "user_id:u2" if gone == u2 else "user_id:u1"))}


async def _nodes(who: Who, ref: str) -> list[str]:
    return [node.node_id for node in (await who.graph(ref)).nodes]


async def test_between_merge_and_unmerge_an_instant_sees_what_was_known_then(who: Who) -> None:
    profiles = who.profiles
    before = await _two_people(profiles)
    await profiles.take(_call("alias", "5", 5, userId="u1", previousId="u2"), _call("page", "6", 9, userId="u1"))
    u1, u2 = (portrait["profile"].profile_id for portrait in before)
    together = (await profiles.resolve("user_id:u1"))[0]
    await who.unmerge(together, u2 if together == u1 else u1)
    tenant = await profiles.parts.tenants.present()
    for day, one in ((4, False), (6, True), (9, True)):
        found = await profiles.parts.profiles.resolve_at(tenant.tenant_id, [UUID(u1), UUID(u2)], _day(day))
        assert (len(set(found.values())) == 1) is one, day
    now = await profiles.parts.tenants.now_us(tenant)
    at = datetime.fromtimestamp(now / 1e6, UTC)
    assert len(set((await profiles.parts.profiles.resolve_at(tenant.tenant_id, [UUID(u1), UUID(u2)], at)).values())) == 2


async def test_what_is_parted_stays_apart_until_a_person_links_it(who: Who) -> None:
    profiles = who.profiles
    await profiles.take(_call("page", "1", 1, userId="u", anonymousId="a"))
    await who.unmerge("user_id:u", "anonymous_id:a")
    await profiles.take(_call("page", "2", 5, userId="u", anonymousId="a"))
    assert len(set(await profiles.resolve("user_id:u", "anonymous_id:a"))) == 2, "the same evidence comes again"
    graph = await who.graph("user_id:u")
    (link,) = graph.links
    assert link.refused == "unmerged"
    assert link.source == ""
    assert link.event_timestamp.ToDatetime(UTC) == _day(1), "the first event that named both"
    assert [(ruling.kind, ruling.in_force) for ruling in graph.rulings] == [("unmerged", True)]

    linked = await who.link("user_id:u", "anonymous_id:a")
    assert await profiles.resolve("user_id:u", "anonymous_id:a") == [linked, linked]
    again = await who.unmerge("user_id:u", "anonymous_id:a")
    assert again.parted_profile_id != again.profile_id
    assert [name for name in ("Profile Merged", "Profile Unmerged") for _ in await who.facts(name)] == [
        "Profile Merged", "Profile Merged", "Profile Unmerged", "Profile Unmerged",
    ]  # fmt: skip


async def test_saying_it_again_changes_nothing(who: Who) -> None:
    await who.profiles.take(_call("page", "1", 1, userId="u", anonymousId="a"))
    first = await who.unmerge("user_id:u", "anonymous_id:a", message_id="m")
    assert await who.unmerge("user_id:u", "anonymous_id:a", message_id="m") == first
    assert len(await who.facts("Identities Parted")) == 1
    linked = await who.link("user_id:u", "anonymous_id:a")
    assert await who.link("user_id:u", "anonymous_id:a") == linked
    assert len(await who.facts("Identities Linked")) == 1


async def test_two_customers_that_a_person_links_are_one_whatever_they_are_called(who: Who) -> None:
    profiles = who.profiles
    before = await _two_people(profiles)
    linked = await who.link("user_id:u1", "anonymous_id:a2")
    assert set(await profiles.resolve("user_id:u1", "user_id:u2", "anonymous_id:a1", "anonymous_id:a2")) == {linked}
    assert linked == min(portrait["profile"].profile_id for portrait in before)


@pytest.mark.parametrize(
    ("ref", "part", "from_", "field"),
    [
        ("user_id:u1", "user_id:u1", "", "part"),
        ("user_id:u1", "user_id:u2", "", "part"),
        ("user_id:u1", "anonymous_id:a1", "user_id:u2", "from"),
        ("user_id:u1", "email:ada@example.com", "", "part"),
    ],
)
async def test_only_what_is_one_can_be_parted(who: Who, ref: str, part: str, from_: str, field: str) -> None:
    await _two_people(who.profiles)
    with pytest.raises(InvalidArgument) as error:
        await who.unmerge(ref, part, **{"from": from_})
    assert error.value.field == field
    with pytest.raises(NotFound):
        await who.unmerge("user_id:nobody", "user_id:u1")


async def test_a_link_past_a_limit_is_refused_with_the_limit(who: Who) -> None:
    profiles = who.profiles
    for user in ("u1", "u2"):
        await profiles.take(*(_call("page", f"{user}{n}", 1, userId=user, anonymousId=f"{user}-{n}") for n in range(60)))
    with pytest.raises(Conflict) as error:
        await who.link("user_id:u1", "user_id:u2")
    assert error.value.reason is Reason.IDENTITY_LIMIT


async def test_the_graph_shows_identifiers_only_where_they_may_be_seen(who: Who) -> None:
    call = _call("identify", "1", 1, userId="u", anonymousId="a", traits={"email": "Ada@Example.com"}, context={"x": 1})
    await who.profiles.take(call)
    assert {node.personal for node in (await who.graph("user_id:u")).nodes} == {""}
    shown = {node.namespace: node.personal for node in (await who.graph("user_id:u", with_personal=True)).nodes}
    assert shown == {"user_id": "u", "anonymous_id": "a"}


async def test_an_address_finds_a_person_and_joins_nobody_unless_the_tenant_says_so(who: Who) -> None:
    profiles = who.profiles
    await profiles.take(
        _call("identify", "1", 1, anonymousId="a1", traits={"email": " ADA@example.com ", "phone": "+44 20 7946 0958"})
    )
    await profiles.take(_call("identify", "2", 2, anonymousId="a2", traits={"email": "ada@example.com"}))
    first, second = await profiles.resolve("anonymous_id:a1", "anonymous_id:a2")
    assert first != second
    assert await who.find("email", "Ada@Example.com") == second, "who named it last"
    assert await who.find("phone", "+442079460958") == first
    assert await who.find("email", "bob@example.com") == ""

    rules = await who.stub.UpdateIdentityRules(pb.UpdateIdentityRulesRequest(joining=["email"]))
    assert list(rules.joining) == ["email"]
    await profiles.take(_call("identify", "3", 3, anonymousId="a1", traits={"email": "ada@example.com"}))
    await profiles.take(_call("identify", "4", 4, anonymousId="a2", traits={"email": "ada@example.com"}))
    assert len(set(await profiles.resolve("anonymous_id:a1", "anonymous_id:a2"))) == 1
    assert await who.find("email", "ada@example.com") == (await profiles.resolve("anonymous_id:a1"))[0]


async def test_a_tenant_blocks_values_of_its_own(who: Who) -> None:
    blocked = pb.Identifier(namespace="anonymous_id", value="till-7")
    rules = await who.stub.UpdateIdentityRules(pb.UpdateIdentityRulesRequest(blocked=[blocked]))
    assert rules.blocked_count == 1
    await who.profiles.take(_call("page", "1", 1, userId="u1", anonymousId="till-7"))
    assert await who.profiles.resolve("anonymous_id:till-7") == [""]
    (receipt,) = await who.profiles.send(_call("page", "2", 1, anonymousId="till-7"))
    assert (receipt.status, receipt.reason) == (profiles_pb2.RECEIPT_STATUS_REJECTED, "BLOCKED_IDENTIFIER")
    stored = await who.profiles.rows("SELECT rules FROM profiles.identity_rules WHERE tenant_id = $1", context.tenant())
    assert b"till" not in stored[0][0]


async def test_rules_of_another_process_count_within_seconds(who: Who) -> None:
    tenant = await who.profiles.parts.tenants.present()
    await who.profiles.rows(
        "INSERT INTO profiles.identity_rules (tenant_id, rules) VALUES ($1, $2)", tenant.tenant_id, b'{"joining":["phone"]}'
    )
    assert not tenant.rules.now.joining
    await who.rules.refresh()
    assert [each.label for each in tenant.rules.now.joining] == ["phone"]


async def test_what_needs_a_look_is_listed(who: Who) -> None:
    profiles = who.profiles
    await profiles.take(*(_call("page", f"{n}", n + 1, userId=f"u{n}", anonymousId="kiosk") for n in range(6)))
    found = await who.stub.ListIdentityIssues(pb.ListIdentityIssuesRequest())
    (issue,) = found.issues
    assert (issue.kind, issue.namespace) == ("shared", "anonymous_id")
    assert issue.profile_id == (await profiles.resolve("user_id:u0"))[0]
    assert issue.since.ToDatetime(UTC) == _day(6)
    graph = await who.graph("user_id:u0")
    assert {node.namespace for node in graph.nodes if node.shared} == {"anonymous_id"}
    assert sorted(link.refused for link in graph.links) == ["", *["user_id_limit"] * 4, "shared"][:1] + sorted(
        ["user_id_limit"] * 4 + ["shared"]
    )


async def test_groups_are_accounts_and_households_above_persons(who: Who) -> None:
    profiles = who.profiles
    await profiles.take(
        _call("group", "1", 1, userId="u1", groupId="acme", traits={"industry": "mugs", "email": "office@acme.example"}),
        _call("group", "2", 3, userId="u2", groupId="acme", traits={"industry": "cups"}),
        _call("group", "3", 2, userId="u1", anonymousId="a1", groupId="flat 4", traits={"kind": "household"}),
    )
    listed = (await who.stub.ListAccounts(pb.ListAccountsRequest())).accounts
    assert {(each.group_id, each.kind, each.member_count) for each in listed} == {
        ("acme", "account", 2),
        ("flat 4", "household", 1),
    }
    households = (await who.stub.ListAccounts(pb.ListAccountsRequest(kind="household"))).accounts
    assert [each.group_id for each in households] == ["flat 4"]
    acme = await who.stub.GetAccount(pb.GetAccountRequest(ref="group_id:acme"))
    assert json.loads(acme.traits) == {"industry": "cups"}, "what is personal is not among them"
    members = (await who.stub.ListAccountMembers(pb.ListAccountMembersRequest(ref=acme.account_id))).members
    assert {member.profile_id for member in members} == set(await profiles.resolve("user_id:u1", "user_id:u2"))
    mine = (await who.stub.ListProfileAccounts(pb.ListProfileAccountsRequest(ref="anonymous_id:a1"))).accounts
    assert [(each.group_id, each.since.ToDatetime(UTC)) for each in mine] == [("acme", _day(1)), ("flat 4", _day(2))]
    with pytest.raises(NotFound):
        await who.stub.GetAccount(pb.GetAccountRequest(ref="group_id:nobody"))
