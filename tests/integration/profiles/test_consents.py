"""The consent ledger: told by events and by facts, merged, parted, erased, rebuilt, and asked before traits are shown."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2, identities_pb2, plans_pb2, privacy_pb2
from rapport.profiles.v1 import consents_pb2 as pb
from rapport.profiles.v1 import profiles_pb2 as profiles_pb
from rapport.profiles.v1.consents_pb2_grpc import ConsentsStub, add_ConsentsServicer_to_server
from rapport.profiles.v1.identities_pb2_grpc import IdentitiesStub, add_IdentitiesServicer_to_server

from chassis import context
from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.main import consents, definitions, identities
from services.profiles.rpc.privacy import PrivacyRpc
from tests.integration.profiles.conftest import RECEIVED, Desk, Profiles, erased

ADA = "user_id:ada"
GRANTED, DENIED, UNKNOWN = pb.CONSENT_STATE_GRANTED, pb.CONSENT_STATE_DENIED, pb.CONSENT_STATE_UNKNOWN
CONSENT, INTEREST = pb.LEGAL_BASIS_CONSENT, pb.LEGAL_BASIS_LEGITIMATE_INTEREST
COUNT = features_pb2.Feature(
    aggregation=features_pb2.AGGREGATION_COUNT, events=features_pb2.EventFilter(type="track", names=["Cart Viewed"])
)


class Ledger:
    """The contract, in a test's words."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def say(
        self, ref: str, state: Any, purpose: str = "marketing", channel: str = "any", at: datetime | None = None, **more: str
    ) -> pb.ConsentStanding:
        origin: dict[str, Any] = {"source": "checkout", "proof_version": "v1"} | more
        request = pb.RecordConsentRequest(ref=ref, purpose=purpose, channel=channel, state=state, **origin)
        if at is not None:
            request.timestamp.FromDatetime(at)
        return (await self.stub.RecordConsent(request)).standing

    async def declare(self, key: str, basis: Any) -> pb.Purpose:
        return (await self.stub.PutPurpose(pb.PutPurposeRequest(key=key, description="d", legal_basis=basis))).purpose

    async def allowed(self, ref: str, *uses: tuple[str, str]) -> list[bool]:
        request = pb.CheckConsentsRequest(refs=[ref], uses=[pb.ConsentUse(purpose=a, channel=b) for a, b in uses])
        return list((await self.stub.CheckConsents(request)).checks[0].allowed)

    async def may(self, ref: str, purpose: str = "marketing", channel: str = "") -> bool:
        return (await self.allowed(ref, (purpose, channel)))[0]

    async def list(self, ref: str, size: int = 100, token: str = "") -> pb.ListConsentsResponse:
        return await self.stub.ListConsents(pb.ListConsentsRequest(ref=ref, page_size=size, page_token=token))


@pytest_asyncio.fixture
async def ledger(profiles: Profiles, serve: Callable[..., Awaitable[str]], stub: Callable[..., Any]) -> Ledger:
    servicer = consents(profiles.database, profiles.parts)
    address = await serve("profiles", add_ConsentsServicer_to_server, servicer, pb.DESCRIPTOR)
    return Ledger(stub(ConsentsStub, address, pb.DESCRIPTOR))


def preferences(
    user: str, number: int, minutes: int = 0, name: str = "Segment Consent Preference Updated", **said: bool
) -> Any:
    at = RECEIVED - timedelta(days=1) + timedelta(minutes=minutes)
    return {
        "type": "track",
        "event": name,
        "messageId": f"{user}-consent-{number}",
        "userId": user,
        "timestamp": at.isoformat(),
        "context": {"consent": {"categoryPreferences": said}, "ip": "8.8.8.8"},
        "properties": {"form": "banner"},
    }


def viewed(user: str, number: int = 1, **more: Any) -> Any:
    at = (RECEIVED - timedelta(days=2)).isoformat()
    call = {"type": "track", "event": "Cart Viewed", "messageId": f"{user}-{number}", "userId": user, "timestamp": at}
    return call | more


async def test_an_event_of_segments_shape_is_heard(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(preferences("ada", 1, Advertising=True, Analytics=False))
    asked = (("Advertising", ""), ("Analytics", ""), ("Analytics", "email"), ("Advertising", "sms"))
    assert await ledger.allowed(ADA, *asked) == [True, False, False, False]
    await profiles.take(preferences("ada", 2, 5, name="Segment Consent Preference", Advertising=False, Analytics=True))
    assert await ledger.allowed(ADA, ("Advertising", ""), ("Analytics", "")) == [False, True]
    # An older word that comes late changes nothing.
    await profiles.take(preferences("ada", 3, -60, Advertising=True, Analytics=False))
    assert await ledger.allowed(ADA, ("Advertising", ""), ("Analytics", "")) == [False, True]
    assert json.loads((await profiles.events(ADA))[0].properties) == {"form": "banner"}


@pytest.mark.parametrize("consent", [None, {}, {"categoryPreferences": {"Advertising": "yes"}}])
async def test_a_preference_that_cannot_be_read_is_refused_and_not_lost(profiles: Profiles, consent: Any) -> None:
    call = preferences("ada", 1) | {"context": {"consent": consent} if consent is not None else {}}
    (receipt,) = await profiles.send(call)
    assert receipt.status == profiles_pb.RECEIPT_STATUS_REJECTED
    assert receipt.field == "context.consent.categoryPreferences"


@pytest.mark.parametrize("is_edited", [False, True])
async def test_a_preference_that_the_plan_holds_back_is_heard_when_it_is_let_go(
    profiles: Profiles, ledger: Ledger, desk: Desk, is_edited: bool
) -> None:
    await profiles.take(viewed("ada"))
    name, schema = (
        "Segment Consent Preference Updated",
        {"additionalProperties": False, "properties": {"form": {"type": "number"}}},
    )
    await desk.put(events={name: {"mode": "quarantine", "schema": schema}})
    (receipt,) = await profiles.send(preferences("ada", 1, Advertising=False))
    assert receipt.status == profiles_pb.RECEIPT_STATUS_QUARANTINED
    assert await ledger.may(ADA, "Advertising")
    (held,) = (await desk.plans.ListQuarantinedEvents(plans_pb2.ListQuarantinedEventsRequest())).events
    if is_edited:
        edit = plans_pb2.EditQuarantinedEventRequest(quarantine_id=held.quarantine_id, properties=b'{"form":1}')
        assert (await desk.plans.EditQuarantinedEvent(edit)).appended
    else:
        await desk.put(events={})
        replay = plans_pb2.ReplayQuarantinedEventRequest(quarantine_id=held.quarantine_id)
        assert (await desk.plans.ReplayQuarantinedEvent(replay)).appended
    await profiles.settled()
    assert not await ledger.may(ADA, "Advertising")


async def test_what_is_recorded_holds_when_it_is_answered(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(viewed("ada"))
    await ledger.declare("marketing", CONSENT)
    assert not await ledger.may(ADA)
    standing = await ledger.say(ADA, GRANTED)
    assert (standing.allowed, standing.state, standing.ground) == (True, GRANTED, pb.CONSENT_GROUND_ANY_CHANNEL)
    assert (standing.record.source, standing.record.proof_version, standing.legal_basis) == ("checkout", "v1", CONSENT)
    assert await ledger.may(ADA)
    assert not await ledger.may(ADA, channel="sms")
    assert (await ledger.say(ADA, GRANTED, channel="sms")).ground == pb.CONSENT_GROUND_CHANNEL
    assert await ledger.may(ADA, channel="sms")
    # The tenant's clock stands, and what is said after something else holds all the same.
    for state, expected in ((DENIED, False), (GRANTED, True), (UNKNOWN, False)):
        standing = await ledger.say(ADA, state)
        assert (standing.allowed, standing.state) == (expected, state)
        assert await ledger.may(ADA) == expected
    assert standing.ground == pb.CONSENT_GROUND_LEGAL_BASIS
    # SMS was granted before all was denied, and nobody granted it again.
    assert not await ledger.may(ADA, channel="sms")


async def test_a_consent_is_of_the_past_and_a_repeat_says_nothing_new(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(viewed("ada"))
    at = RECEIVED - timedelta(days=10)
    for _ in range(2):
        await ledger.say(ADA, DENIED, at=at)
    assert len((await ledger.list(ADA)).history) == 1
    with pytest.raises(InvalidArgument) as refusal:
        await ledger.say(ADA, GRANTED, at=datetime.now(tz=RECEIVED.tzinfo) + timedelta(hours=1))
    assert refusal.value.field == "timestamp"


async def test_standings_say_why_and_history_is_paged(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(viewed("ada"), preferences("ada", 1, Advertising=False, Analytics=True))
    await ledger.declare("marketing", CONSENT)
    await ledger.declare("service", pb.LEGAL_BASIS_CONTRACT)
    await ledger.say(ADA, DENIED, channel="email", source="app/settings", proof_version="")
    first = await ledger.list(ADA, size=2)
    found = {(each.purpose, each.channel): (each.allowed, each.ground, each.legal_basis) for each in first.standings}
    default, said = pb.CONSENT_GROUND_LEGAL_BASIS, pb.CONSENT_GROUND_ANY_CHANNEL
    assert found == {
        ("Advertising", "any"): (False, said, 0),
        ("Analytics", "any"): (True, said, 0),
        ("marketing", "any"): (False, default, CONSENT),
        ("marketing", "email"): (False, pb.CONSENT_GROUND_CHANNEL, CONSENT),
        ("service", "any"): (True, default, pb.LEGAL_BASIS_CONTRACT),
    }
    rest = await ledger.list(ADA, size=2, token=first.next_page_token)
    assert (list(rest.standings), rest.next_page_token) == ([], "")
    history = [(each.purpose, each.channel, each.state) for each in [*first.history, *rest.history]]
    assert sorted(history) == [("Advertising", "any", DENIED), ("Analytics", "any", GRANTED), ("marketing", "email", DENIED)]
    with pytest.raises(InvalidArgument) as refusal:
        await ledger.list(ADA, token="nonsense")
    assert refusal.value.reason is Reason.INVALID_CURSOR
    with pytest.raises(NotFound):
        await ledger.list("user_id:nobody")


async def test_who_merge_share_what_they_said_and_who_part_take_it_along(
    profiles: Profiles, ledger: Ledger, serve: Any, stub: Any
) -> None:
    _, who = identities(profiles.database, profiles.parts)
    address = await serve("profiles", add_IdentitiesServicer_to_server, who, identities_pb2.DESCRIPTOR)
    hand: Any = stub(IdentitiesStub, address, identities_pb2.DESCRIPTOR)
    await profiles.take(viewed("ada"), viewed("eve"))
    await ledger.say(ADA, GRANTED, at=RECEIVED - timedelta(days=5))
    await ledger.say("user_id:eve", DENIED, at=RECEIVED - timedelta(days=4))
    assert (await ledger.may(ADA), await ledger.may("user_id:eve")) == (True, False)
    await hand.LinkProfiles(identities_pb2.LinkProfilesRequest(ref=ADA, other_ref="user_id:eve", reason="the same"))
    assert (await ledger.may(ADA), await ledger.may("user_id:eve")) == (False, False)
    assert len((await ledger.list(ADA)).history) == 2
    request = identities_pb2.UnmergeProfileRequest(ref=ADA, part="user_id:eve", reason="not the same", **{"from": ADA})
    await hand.UnmergeProfile(request)
    assert (await ledger.may(ADA), await ledger.may("user_id:eve")) == (True, False)
    assert [each.state for each in (await ledger.list(ADA)).history] == [GRANTED]


async def test_a_trait_of_a_purpose_is_not_shown_without_it(profiles: Profiles, ledger: Ledger) -> None:
    catalogue = definitions(profiles.database, profiles.parts)
    await profiles.take(viewed("ada"), viewed("bob"))
    for purpose in ("marketing", "service"):
        request = catalogue_pb2.CreateTraitRequest(key=f"for_{purpose}", definition=COUNT, owner="me", purpose=purpose)
        await catalogue.CreateTrait(request, None)

    async def statuses(ref: str) -> dict[str, tuple[int, float]]:
        answer = await catalogue.ComputeTraits(catalogue_pb2.ComputeTraitsRequest(ref=ref), None)
        return {each.key: (each.value.status, each.value.number) for each in answer.values}

    present, denied = features_pb2.FEATURE_STATUS_PRESENT, features_pb2.FEATURE_STATUS_CONSENT_DENIED
    assert await statuses(ADA) == {"for_marketing": (present, 1), "for_service": (present, 1)}
    await ledger.say(ADA, DENIED)
    assert await statuses(ADA) == {"for_marketing": (denied, 0), "for_service": (present, 1)}
    assert (await statuses("user_id:bob"))["for_marketing"] == (present, 1)
    await ledger.declare("service", CONSENT)
    assert await statuses(ADA) == {"for_marketing": (denied, 0), "for_service": (denied, 0)}


async def test_many_are_checked_at_once_and_nobody_is_allowed_nothing(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(viewed("ada"), viewed("bob"))
    await ledger.say("user_id:bob", DENIED)
    uses = [pb.ConsentUse(purpose="marketing"), pb.ConsentUse(purpose="marketing", channel="sms"), pb.ConsentUse(purpose="x")]
    refs = [ADA, "user_id:nobody", "user_id:bob", ADA]
    checks = (await ledger.stub.CheckConsents(pb.CheckConsentsRequest(refs=refs, uses=uses))).checks
    ada, bob = await profiles.resolve(ADA, "user_id:bob")
    assert [(each.profile_id, list(each.allowed)) for each in checks] == [
        (ada, [True, False, True]),
        ("", [False, False, False]),
        (bob, [False, False, True]),
        (ada, [True, False, True]),
    ]
    for wrong, field in (
        (pb.ConsentUse(purpose=""), "uses[0].purpose"),
        (pb.ConsentUse(purpose="x", channel="fog"), "uses[0].channel"),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            await ledger.stub.CheckConsents(pb.CheckConsentsRequest(refs=[ADA], uses=[wrong]))
        assert refusal.value.field == field


async def test_another_tenant_says_and_hears_nothing(profiles: Profiles, ledger: Ledger) -> None:
    await profiles.take(viewed("ada"))
    await ledger.say(ADA, DENIED)
    await ledger.declare("marketing", CONSENT)
    (ada,) = await profiles.resolve(ADA)
    with context.use(tenant=f"{context.tenant()}x", request_id="r", actor="test"):
        await profiles.create()
        with pytest.raises(NotFound):
            await ledger.say(ada, GRANTED)
        with pytest.raises(NotFound):
            await ledger.list(ada)
        assert await ledger.may(ada) is False
        await profiles.take(viewed("ada"))
        assert await ledger.may(ADA) is True
        assert list((await ledger.stub.ListPurposes(pb.ListPurposesRequest())).purposes) == []
    assert [each.key for each in (await ledger.stub.ListPurposes(pb.ListPurposesRequest())).purposes] == ["marketing"]


def read(archive: Path) -> tuple[set[str], set[str]]:
    """(the nodes that its identities name, those that its events are of)."""
    identities = pq.ParquetFile(archive / "identities" / "identities.parquet").read().to_pylist()
    events = [row for file in archive.glob("events/*/*.parquet") for row in pq.ParquetFile(file).read().to_pylist()]
    return {row["node_id"] for row in identities}, {row["node_id"] for row in events}


def is_there(folder: str) -> bool:
    return Path(folder).exists()


async def test_an_export_for_a_purpose_leaves_out_who_does_not_allow_it(
    profiles: Profiles, ledger: Ledger, office: PrivacyRpc
) -> None:
    await profiles.take(viewed("ada", anonymousId="a1"), viewed("bob"), viewed("eve"))
    await ledger.say(ADA, DENIED)
    users = dict(zip("abe", await profiles.resolve(ADA, "user_id:bob", "user_id:eve"), strict=True))

    async def export(purpose: str, channel: str = "") -> tuple[profiles_pb.ExportLogResponse, set[str]]:
        done = await profiles.stub.ExportLog(profiles_pb.ExportLogRequest(purpose=purpose, channel=channel), timeout=60)
        people, nodes = read(Path(done.path))
        assert nodes <= people
        return done, people

    whole, everybody = await export("")
    assert (set(users.values()) <= everybody, whole.withheld_count) == (True, 0)
    part, some = await export("marketing")
    assert (part.withheld_count, users["a"] in some) == (1, False)
    assert {users["b"], users["e"]} <= some
    assert part.event_count < whole.event_count
    assert part.digest != whole.digest
    # SMS needs a grant, and nobody gave one: an archive without anybody.
    assert (await export("marketing", "sms"))[0].withheld_count == 3
    await ledger.say("user_id:bob", GRANTED, channel="sms")
    assert (await export("marketing", "sms"))[1] == {users["b"]}
    for wrong, field in ((("", "sms"), "purpose"), (("marketing", "fog"), "channel")):
        with pytest.raises(InvalidArgument) as refusal:
            await export(*wrong)
        assert refusal.value.field == field
    assert is_there(part.path)
    await erased(office, "user_id:eve")
    assert not is_there(part.path)


async def test_what_was_allowed_is_exported_and_erased_with_the_person(
    profiles: Profiles, ledger: Ledger, office: PrivacyRpc
) -> None:
    await profiles.take(viewed("ada"), viewed("bob"))
    for ref in (ADA, "user_id:bob"):
        await ledger.say(ref, DENIED)
    exported = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref=ADA), None)
    (table,) = [each for each in exported.tables if each.name == "profiles.consents"]
    assert [(row["purpose"], row["state"], row["source"]) for row in json.loads(table.rows)] == [
        ("marketing", "denied", "checkout")
    ]
    erasure = await erased(office, ADA)
    assert {each.name: each.row_count for each in erasure.stores}["profiles.consents"] == 1
    rows = await profiles.rows("SELECT node_id FROM profiles.consents WHERE tenant_id = $1", context.tenant())
    assert [str(row[0]) for row in rows] == await profiles.resolve("user_id:bob")
