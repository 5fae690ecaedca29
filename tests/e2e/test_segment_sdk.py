"""Segment's own Python SDK, unchanged: whatever it sends is found again."""

import time
import uuid

import pytest
from segment.analytics.client import Client


@pytest.fixture
def sdk(platform, tenant):
    """A client of Segment's SDK that is pointed at the gateway and otherwise as it comes."""
    failures: list[object] = []
    client = Client(tenant.write_key, host=platform.url, on_error=lambda error, _items: failures.append(error))
    yield client
    client.shutdown()
    assert failures == []


def test_events_of_segments_sdk_are_found_again(client, sdk) -> None:
    user, anonymous = f"sdk-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    sdk.track(anonymous_id=anonymous, event="Product Viewed", properties={"product_id": "P1", "price": 12.5})
    sdk.page(anonymous_id=anonymous, category="shop", name="Home")
    sdk.identify(user, {"plan": "gold", "email": "grace@example.com"}, anonymous_id=anonymous)
    sdk.screen(user, "app", "Basket")
    sdk.group(user, "company-1", {"industry": "shipping"})
    sdk.track(user, "Order Completed", {"order_id": f"o-{user}", "revenue": 19.99, "products": []})
    sdk.alias(user, f"{user}-new")
    sdk.flush()
    events = wait_for_events(client, f"user_id:{user}", 7)
    profile = client.get(f"/v1/profiles/user_id:{user}").json()
    assert profile["profileId"] == client.get(f"/v1/profiles/anonymous_id:{anonymous}").json()["profileId"]
    assert profile["profileId"] == client.get(f"/v1/profiles/user_id:{user}-new").json()["profileId"]
    assert {event["type"] for event in events} >= {"track", "page", "identify", "screen", "group", "alias"}
    assert profile["traits"]["plan"] == "gold"
    assert "grace@example.com" not in str(profile)


def test_a_thousand_events_of_segments_sdk_arrive_once_each(client, sdk) -> None:
    user = f"sdk-{uuid.uuid4().hex[:8]}"
    for number in range(1000):
        sdk.track(user, "Counted", {"number": number})
    sdk.flush()
    events = wait_for_events(client, f"user_id:{user}", 1000)
    assert sorted(int(event["properties"]["number"]) for event in events if event["name"] == "Counted") == list(range(1000))


def wait_for_events(client, ref: str, count: int) -> list[dict]:
    """The profile's timeline once it has `count` events of the SDK."""
    end = time.monotonic() + 30
    events: list[dict] = []
    while time.monotonic() < end:
        answer = client.get(f"/v1/profiles/{ref}/events", params={"limit": 1000})
        events = [event for event in answer.json().get("data", []) if not event["source"].startswith("rapport.")]
        if len(events) >= count:
            return events
        time.sleep(0.2)
    raise AssertionError(f"{len(events)} of {count} events arrived")
