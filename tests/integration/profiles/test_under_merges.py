"""People become one while they are read: an answer is of before or of after, never of nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import catalogue_pb2, consents_pb2, identities_pb2, privacy_pb2
from rapport.profiles.v1 import profiles_pb2 as pb

from chassis import context
from services.profiles import select
from services.profiles.domain.consent import Channel, Use
from services.profiles.main import consents, definitions, identities
from services.profiles.rpc.privacy import PrivacyRpc
from services.profiles.store.consents import ConsentStore
from tests.integration.profiles.conftest import RECEIVED, Profiles

PAIRS = 12
# Of the erasures: so many pairs at a time, and how long the projector may take at most.
TOGETHER, UNTIL_MERGED_S = 8, 0.08

# What a reader found of a person: empty where it found nobody.
Read = Callable[[str], Awaitable[Any]]


@pytest.fixture
def reads(profiles: Profiles, office: PrivacyRpc) -> dict[str, Read]:
    ledger = consents(profiles.database, profiles.parts)
    _, graphs = identities(profiles.database, profiles.parts)
    catalogue = definitions(profiles.database, profiles.parts)

    async def exported(ref: str) -> Any:
        page = await office.ExportProfile(privacy_pb2.ExportProfileRequest(ref=ref), None)
        return page.events and page.profile_ids

    async def history(ref: str) -> Any:
        return (await ledger.ListConsents(consents_pb2.ListConsentsRequest(ref=ref, page_size=10), None)).history

    async def standing(ref: str) -> Any:
        answer = await ledger.ListConsents(consents_pb2.ListConsentsRequest(ref=ref, page_size=10), None)
        return [each for each in answer.standings if each.HasField("record")]

    async def accounts(ref: str) -> Any:
        return (await graphs.ListProfileAccounts(identities_pb2.ListProfileAccountsRequest(ref=ref), None)).accounts

    async def graph(ref: str) -> Any:
        return (await graphs.GetIdentityGraph(identities_pb2.GetIdentityGraphRequest(ref=ref), None)).nodes

    async def features(ref: str) -> Any:
        answer = await profiles.stub.ComputeFeatures(pb.ComputeFeaturesRequest(refs=[ref], features=["orders_count"]))
        return answer.rows[0].values[0].number

    async def trait(ref: str) -> Any:
        answer = await catalogue.ComputeTraits(catalogue_pb2.ComputeTraitsRequest(ref=ref), None)
        return answer.values[0].value.number

    async def portrait(ref: str) -> Any:
        blocks = (await profiles.stub.GetPortrait(pb.GetPortraitRequest(ref=ref))).blocks
        return [each for block in blocks for each in block.entries if each.name == "orders_count" and each.value != "0"]

    return {
        "timeline": profiles.events, "export": exported, "consents": history, "standing": standing, "accounts": accounts,
        "graph": graph, "features": features, "trait": trait, "portrait": portrait,
    }  # fmt: skip


async def _count_orders(profiles: Profiles) -> None:
    count = features_pb2.Feature(
        aggregation=features_pb2.AGGREGATION_COUNT, events=features_pb2.EventFilter(type="track", names=["Order Completed"])
    )
    request = catalogue_pb2.CreateTraitRequest(key="orders", definition=count, owner="sales", purpose="service")
    await definitions(profiles.database, profiles.parts).CreateTrait(request, None)


def _said(who: dict[str, str], state: bool) -> dict[str, Any]:
    consent = {"consent": {"categoryPreferences": {"news": state}}}
    return {"type": "track", "event": "Segment Consent Preference Updated", "context": consent, **who}


async def _pairs(profiles: Profiles, count: int = PAIRS) -> None:
    for one in range(count):
        user, device = {"userId": f"u{one}"}, {"anonymousId": f"a{one}"}
        groups = [{"type": "group", "groupId": f"g{one}", **who} for who in (user, device)]
        orders = [
            {"type": "track", "event": "Order Completed", "properties": {"order_id": f"{who}"}, **who} for who in (user, device)
        ]
        before = (RECEIVED - timedelta(days=1)).isoformat()
        calls = [*groups, *orders, _said(user, True), _said(device, False)]
        await profiles.send(*({**call, "timestamp": before} for call in calls))
    await profiles.settled()


def _merge(one: int) -> dict[str, Any]:
    return {"type": "identify", "userId": f"u{one}", "anonymousId": f"a{one}"}


@pytest.mark.parametrize(
    "question", ["timeline", "export", "consents", "standing", "accounts", "graph", "features", "trait", "portrait"]
)
async def test_who_is_merged_meanwhile_is_found(profiles: Profiles, reads: dict[str, Read], question: str) -> None:
    await _pairs(profiles)
    await _count_orders(profiles)
    empty, count = list[str](), 0

    async def read(ref: str, over: asyncio.Event) -> None:
        nonlocal count
        while not over.is_set():
            count += 1
            if not await reads[question](ref):
                empty.append(ref)

    for one in range(PAIRS):
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for ref in (f"user_id:u{one}", f"anonymous_id:a{one}") * 2:
                group.create_task(read(ref, over))
            await asyncio.sleep(0.01)
            await profiles.send(_merge(one))
            await profiles.settled()
            over.set()
    assert count > 4 * PAIRS
    assert empty == []


async def test_who_is_merged_meanwhile_is_erased(profiles: Profiles, office: PrivacyRpc) -> None:
    await _pairs(profiles, PAIRS * TOGETHER)

    async def erase(ref: str) -> None:
        await office.EraseProfile(privacy_pb2.EraseProfileRequest(ref=ref, reason="asked for"), None)

    for number in range(PAIRS):
        ones = range(number * TOGETHER, (number + 1) * TOGETHER)
        async with asyncio.TaskGroup() as group:
            group.create_task(profiles.send(*map(_merge, ones)))
            # The first word on somebody counts, so it comes each time a little later: before, while and after they merge.
            await asyncio.sleep(UNTIL_MERGED_S * number / PAIRS)
            for one in ones:
                group.create_task(erase(f"user_id:u{one}"))
                group.create_task(erase(f"anonymous_id:a{one}"))
    query = "SELECT count(*), min(cardinality(node_ids)) FROM profiles.erasures WHERE tenant_id = $1"
    ((count, fewest),) = await profiles.rows(query, context.tenant())
    assert count >= PAIRS * TOGETHER
    assert fewest >= 1


async def test_an_export_for_a_purpose_holds_to_one_instant(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    await _pairs(profiles)
    monkeypatch.setattr(select, "_PAGE", 1)
    store, merged = ConsentStore(profiles.database), False
    everybody = store.everybody

    async def merging(*arguments: Any) -> Any:
        """All merge once the first page is read."""
        nonlocal merged
        async for known in everybody(*arguments):
            yield known
            if not merged:
                merged = True
                await profiles.take(*map(_merge, range(PAIRS)), received=RECEIVED)

    monkeypatch.setattr(store, "everybody", merging)
    count, nodes = await select.withheld(store, context.tenant(), Use("news", Channel.ANY))
    devices = await profiles.rows(
        "SELECT DISTINCT node_id FROM profiles.consents WHERE tenant_id = $1 AND state = 'denied'", context.tenant()
    )
    assert (merged, count) == (True, PAIRS)
    assert {row[0] for row in devices} <= nodes
