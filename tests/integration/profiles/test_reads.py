"""What is answered of profiles: pages, timelines, features, portraits, sealed texts; and never across tenants."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml.features import catalogue
from services.profiles.domain.identity import Namespace
from tests.integration.profiles.conftest import Profiles

START = datetime(2026, 1, 1, tzinfo=UTC)


def _call(type_: str, message_id: str, day: float = 0, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "messageId": message_id, "timestamp": (START + timedelta(days=day)).isoformat(), **fields}


def _order(message_id: str, day: float, revenue: float, order_id: str = "", **fields: Any) -> dict[str, Any]:
    products = [
        {"product_id": "p1", "name": "Mug", "category": "kitchen", "price": 2.5, "quantity": 2},
        {"product_id": "p2", "name": "Rug", "category": "living", "price": 2.5, "quantity": 1},
    ]
    properties = {"order_id": order_id or message_id, "revenue": revenue, "total": revenue, "products": products}
    return _call("track", message_id, day, event="Order Completed", properties=properties, **({"userId": "u"} | fields))


def _at(day: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(START + timedelta(days=day))
    return moment


async def _values(profiles: Profiles, ref: str = "user_id:u", at: float | None = None) -> dict[str, Any]:
    request = pb.ComputeFeaturesRequest(refs=[ref], at=None if at is None else _at(at))
    answer = await profiles.stub.ComputeFeatures(request)
    return {name: _value(value) for name, value in zip(answer.features, answer.rows[0].values, strict=True)}


def _value(value: features_pb2.FeatureValue) -> Any:
    arm = value.WhichOneof("value")
    return getattr(value, arm) if arm else None


async def test_features_are_computed_strictly_before_an_instant(profiles: Profiles) -> None:
    await profiles.take(
        _order("o1", 0, 10.10),
        _order("o2", 10, 0.2),
        _order("o2b", 10, 5, order_id="o2"),
        _order("o3", 30, 3),
        _call("track", "r1", 31, userId="u", event="Order Refunded", properties={"order_id": "o3", "total": 3.5}),
    )
    values = await _values(profiles)
    assert (values["orders_count"], values["revenue_total"], values["refunds_total"]) == (3, "18.30", "3.50")
    before = await _values(profiles, at=30)
    assert (before["orders_count"], before["revenue_total"], before["refunds_total"]) == (2, "15.30", "0.00")
    assert before["days_since_last_order"] == 20
    assert before["mean_order_interval_days"] == 10
    nothing = await _values(profiles, at=0)
    assert (nothing["orders_count"], nothing["days_since_last_order"]) == (0, None)


async def test_a_prediction_sees_only_the_links_that_were_known_by_then(profiles: Profiles) -> None:
    await profiles.take(
        _order("o1", 1, 5, userId=None, anonymousId="a"),
        _order("o2", 2, 7),
        _call("identify", "i", 10, userId="u", anonymousId="a"),
    )
    assert (await _values(profiles, at=9))["revenue_total"] == "7.00"
    assert (await _values(profiles, "anonymous_id:a", at=9))["revenue_total"] == "5.00"
    assert (await _values(profiles, at=11))["revenue_total"] == "12.00"
    assert (await _values(profiles, "anonymous_id:a", at=11))["revenue_total"] == "12.00"


async def test_features_of_many_come_in_order_and_the_unknown_are_said_to_be(profiles: Profiles) -> None:
    await profiles.take(_order("o1", 1, 5), _call("page", "p", 2, userId="v"))
    refs = ["user_id:v", "user_id:nobody", "user_id:u", str(uuid4()), "user_id:u"]
    answer = await profiles.stub.ComputeFeatures(
        pb.ComputeFeaturesRequest(refs=refs, features=["revenue_total", "orders_count"])
    )
    assert list(answer.features) == ["revenue_total", "orders_count"]
    assert [row.ref for row in answer.rows] == refs
    assert [[_value(value) for value in row.values] for row in answer.rows] == [
        ["0.00", 0], [None, None], ["5.00", 1], [None, None], ["5.00", 1]
    ]  # fmt: skip
    assert {value.status for value in answer.rows[1].values} == {features_pb2.FEATURE_STATUS_NOT_FOUND}
    assert answer.rows[1].profile_id == ""
    assert answer.rows[2].newest_event.ToDatetime(UTC) == START + timedelta(days=1)
    assert answer.at.ToDatetime(UTC) == START + timedelta(days=2, milliseconds=1)
    listed = await profiles.stub.ListFeatures(pb.ListFeaturesRequest())
    assert (list(listed.features), listed.digest) == (list(catalogue.EVERY), answer.digest)


async def test_features_are_asked_for_by_name_and_a_thousand_at_most(profiles: Profiles) -> None:
    with pytest.raises(InvalidArgument) as error:
        await profiles.stub.ComputeFeatures(
            pb.ComputeFeaturesRequest(refs=["user_id:u"], features=["orders_count", "shoe_size"])
        )
    assert (error.value.reason, error.value.field) == (Reason.UNKNOWN_FEATURE, "features[1]")
    with pytest.raises(InvalidArgument):
        await profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=["user_id:u"] * 1001))
    answer = await profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=["user_id:u"] * 1000))
    assert len(answer.rows) == 1000


async def test_a_timeline_is_read_in_pages_newest_first(profiles: Profiles) -> None:
    await profiles.take(
        *(_call("page", f"m{number}", number // 3, userId="u", anonymousId=f"a{number % 2}") for number in range(20))
    )
    seen, token = [], ""
    while True:
        page = await profiles.stub.ListEvents(pb.ListEventsRequest(ref="user_id:u", page_size=7, page_token=token))
        seen += [(event.timestamp.ToDatetime(), event.event_id) for event in page.events if event.source != "rapport.profiles"]
        if not (token := page.next_page_token):
            break
    assert len(seen) == len(set(seen)) == 20
    assert seen == sorted(seen, reverse=True)


async def test_an_event_shows_its_public_properties_as_they_were_sent(profiles: Profiles) -> None:
    properties = {"gift": True, "n": 12.5, "coupon": None, "tags": ["a"], "code": "x", "huge": 10**30, "email": "a@b.c"}
    await profiles.take(_call("track", "m", 1, userId="u", event="Signed Up", properties=properties))
    (event,) = await profiles.events("user_id:u")
    del properties["email"]
    assert json.loads(event.properties) == properties


async def test_profiles_are_listed_in_pages_without_gaps(profiles: Profiles) -> None:
    await profiles.take(*(_call("page", f"m{number}", 1, userId=f"u{number}") for number in range(7)))
    await profiles.take(*(_call("page", f"a{number}", 1, anonymousId=f"a{number}") for number in range(4)))
    for identified_only, count in ((False, 11), (True, 7)):
        found, token = [], ""
        while True:
            request = pb.ListProfilesRequest(page_size=3, page_token=token, identified_only=identified_only)
            page = await profiles.stub.ListProfiles(request)
            found += [profile.profile_id for profile in page.profiles]
            assert (page.total_count, page.identified_count) == (11, 7)
            if not (token := page.next_page_token):
                break
        assert len(found) == len(set(found)) == count


@pytest.mark.parametrize("token", ["x", "eyJ9", "WyJhIl0=", "WyIxIiwienoiXQ=="])
async def test_a_page_token_that_is_none_of_ours_is_refused(profiles: Profiles, token: str) -> None:
    await profiles.take(_call("page", "m", 1, userId="u"))
    for call, request in (
        (profiles.stub.ListProfiles, pb.ListProfilesRequest(page_token=token)),
        (profiles.stub.ListRejections, pb.ListRejectionsRequest(page_token=token)),
        (profiles.stub.ListEvents, pb.ListEventsRequest(ref="user_id:u", page_token=token)),
    ):
        with pytest.raises(InvalidArgument) as error:
            await call(request)
        assert error.value.reason is Reason.INVALID_CURSOR
    with pytest.raises(InvalidArgument):
        await profiles.stub.ListProfiles(pb.ListProfilesRequest(page_size=1001))


async def _portrait(profiles: Profiles, at: float | None = None) -> dict[str, dict[str, tuple[str, bool]]]:
    request = pb.GetPortraitRequest(ref="user_id:u", at=None if at is None else _at(at))
    answer = await profiles.stub.GetPortrait(request)
    assert [block.empty for block in answer.blocks] == [not block.entries for block in answer.blocks]
    return {block.name: {entry.name: (entry.value, entry.personal) for entry in block.entries} for block in answer.blocks}


async def test_a_portrait_has_five_blocks_and_shows_what_is_personal_as_such(profiles: Profiles) -> None:
    traits = {
        "firstName": "Ann",
        "plan": "pro",
        "interests": ["tea"],
        "preference": {"colour": "red"},
        "social": {"followers": 3},
    }
    await profiles.take(
        _call("identify", "i", 0, userId="u", traits=traits),
        _call("page", "p", 1, userId="u", context={"channel": "web"}),
        _order("o1", 2, 7.5),
        _order("o2", 4, 2.5),
    )
    profile_id = (await profiles.resolve("user_id:u"))[0]
    fact = pb.Fact(message_id="s", profile_id=profile_id, name="Survey Answered", source="rapport.feedback")
    fact.properties = b'{"surveyId":"s1","kind":"NPS","rating":9}'
    fact.timestamp.CopyFrom(_at(3))
    await profiles.record(fact)
    await profiles.settled()
    portrait = await _portrait(profiles)
    assert list(portrait) == ["basic", "consumption", "behaviour", "psychology", "social"]
    assert portrait["basic"] | {"first_seen": ("2026-01-01", False)} == portrait["basic"]
    assert portrait["basic"]["firstName"] == ("Ann", True)
    assert portrait["basic"]["plan"] == ("pro", False)
    consumption = {name: value for name, (value, _) in portrait["consumption"].items()}
    assert (consumption["orders_count"], consumption["revenue_total"], consumption["average_order_value"]) == (
        "2",
        "10.00",
        "5.00",
    )
    assert consumption["favourite_category"] == "living", "the last of the three"
    assert portrait["behaviour"]["channel"] == ("web", False)
    assert portrait["psychology"] == {
        "interests": ("tea", False), "preference.colour": ("red", False), "nps_rating": ("9", False)
    }  # fmt: skip
    assert portrait["social"] == {"social.followers": ("3", False)}


async def test_a_portrait_at_an_instant_knows_nothing_of_later(profiles: Profiles) -> None:
    await profiles.take(
        _call("identify", "1", 1, userId="u", traits={"plan": "free", "email": "old@b.c"}),
        _call("identify", "2", 5, userId="u", traits={"plan": "pro", "email": "new@b.c"}),
        _order("o1", 6, 7.5),
    )
    then, now = await _portrait(profiles, at=4), await _portrait(profiles)
    assert (then["basic"]["plan"][0], then["basic"]["email"][0]) == ("free", "old@b.c")
    assert (now["basic"]["plan"][0], now["basic"]["email"][0]) == ("pro", "new@b.c")
    assert then["consumption"] == {}


async def test_sealed_texts_are_opened_for_the_same_person_even_after_a_merge(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, anonymousId="a"), _call("page", "2", 1, userId="other"))
    visitor, other = await profiles.resolve("anonymous_id:a", "user_id:other")
    sealed = (await profiles.stub.Seal(pb.SealRequest(profile_id=visitor, plaintexts=[b"too slow", b""]))).sealed
    assert b"slow" not in sealed[0]
    await profiles.take(_call("identify", "3", 2, anonymousId="a", userId="u"))
    user = (await profiles.resolve("user_id:u"))[0]
    for profile_id in (visitor, user):
        opened = await profiles.stub.Unseal(pb.UnsealRequest(profile_id=profile_id, sealed=sealed))
        assert list(opened.plaintexts) == [b"too slow", b""]
    for profile_id, text in ((other, sealed[0]), (user, sealed[0][:-1] + b"?"), (user, b"junk")):
        with pytest.raises(InvalidArgument):
            await profiles.stub.Unseal(pb.UnsealRequest(profile_id=profile_id, sealed=[text]))
    with pytest.raises(NotFound):
        await profiles.stub.Seal(pb.SealRequest(profile_id=str(uuid4()), plaintexts=[b"x"]))


async def test_a_text_whose_key_is_gone_is_empty(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, userId="u"))
    user = (await profiles.resolve("user_id:u"))[0]
    sealed = (await profiles.stub.Seal(pb.SealRequest(profile_id=user, plaintexts=[b"x"]))).sealed
    await profiles.rows("DELETE FROM profiles.person_keys WHERE tenant_id = $1", context.tenant())
    tenant = await profiles.parts.tenants.present()
    tenant.keys.forget(tenant.keys.node_id(Namespace.USER_ID, "u"))
    assert list((await profiles.stub.Unseal(pb.UnsealRequest(profile_id=user, sealed=sealed))).plaintexts) == [b""]
    assert (await _portrait(profiles))["basic"].keys() == {"first_seen"}


async def test_freshness_counts_what_is_readable(profiles: Profiles) -> None:
    await profiles.take(_call("page", "1", 1, userId="u"), _call("page", "2", 1, anonymousId="a"))
    await profiles.send(_call("page", "1", 1, userId="u"), _call("page", "3", 1))
    fresh = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
    assert (fresh.event_count, fresh.profile_count, fresh.identified_count, fresh.lag_events) == (2, 2, 1, 0)
    assert (fresh.rejected_count, fresh.duplicate_count) == (1, 1)
    assert 0 < fresh.p50_s <= fresh.p99_s


async def test_a_tenant_is_made_once_and_keeps_its_clock(profiles: Profiles) -> None:
    name = f"n{uuid4().hex[:8]}"
    first = await profiles.stub.CreateTenant(pb.CreateTenantRequest(tenant_id=name, clock=pb.CLOCK_KIND_WALL))
    again = await profiles.stub.CreateTenant(pb.CreateTenantRequest(tenant_id=name))
    assert (first.created, again.created) == (True, False)
    with pytest.raises(Conflict):
        await profiles.stub.CreateTenant(pb.CreateTenantRequest(tenant_id=name, clock=pb.CLOCK_KIND_EVENTS))
    for bad in ("", "A", "a" * 41, "a_b", "a\n"):
        with pytest.raises(InvalidArgument):
            await profiles.stub.CreateTenant(pb.CreateTenantRequest(tenant_id=bad))


async def test_a_foreign_tenants_ids_lead_nowhere(profiles: Profiles) -> None:
    await profiles.take(_order("o1", 1, 5))
    mine = (await profiles.resolve("user_id:u"))[0]
    sealed = (await profiles.stub.Seal(pb.SealRequest(profile_id=mine, plaintexts=[b"x"]))).sealed
    with context.use(tenant=f"f{uuid4().hex[:10]}"):
        await profiles.create()
        for call, request in (
            (profiles.stub.GetProfile, pb.GetProfileRequest(ref=mine)),
            (profiles.stub.GetPortrait, pb.GetPortraitRequest(ref=mine)),
            (profiles.stub.ListEvents, pb.ListEventsRequest(ref=mine)),
            (profiles.stub.Seal, pb.SealRequest(profile_id=mine, plaintexts=[b"x"])),
            (profiles.stub.Unseal, pb.UnsealRequest(profile_id=mine, sealed=sealed)),
        ):
            with pytest.raises(NotFound) as error:
                await call(request)
            assert error.value.reason is Reason.UNKNOWN_PROFILE
        answer = await profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=[mine]))
        assert answer.rows[0].values[0].status == features_pb2.FEATURE_STATUS_NOT_FOUND
        assert not (await profiles.stub.ListProfiles(pb.ListProfilesRequest())).profiles
        fresh = await profiles.stub.GetFreshness(pb.GetFreshnessRequest())
        assert (fresh.event_count, fresh.lag_events, fresh.profile_count) == (0, 0, 0)


async def test_many_profiles_are_the_same_as_one_by_one(profiles: Profiles) -> None:
    await profiles.take(
        _call("identify", "i1", 1, userId="u", anonymousId="a", traits={"plan": "gold"}),
        _call("identify", "i2", 2, userId="v", traits={"plan": "silver"}),
        _order("o1", 3, 5, anonymousId="b"),
    )
    refs = ["user_id:v", "anonymous_id:a", "user_id:nobody", "user_id:u", "user_id:v", str(uuid4())]
    answer = await profiles.stub.BatchGetProfiles(pb.BatchGetProfilesRequest(refs=refs))
    known = [ref for ref, found in zip(refs, answer.profiles, strict=True) if found.profile_id]
    assert known == ["user_id:v", "anonymous_id:a", "user_id:u", "user_id:v"]
    assert [each for each in answer.profiles if each.profile_id] == [await profiles.profile(ref) for ref in known]
    with pytest.raises(InvalidArgument) as caught:
        await profiles.stub.BatchGetProfiles(pb.BatchGetProfilesRequest(refs=["user_id:u", "u"]))
    assert caught.value.field == "refs[1]"
