"""An event keeps the span of the call that wrote it, and what the projector writes keeps the projector's."""

from typing import Any

from rapport.profiles.v1.event_pb2 import Event
from rapport.profiles.v1.profiles_pb2 import Fact

from chassis import tracing
from tests.integration.collector import Collector
from tests.integration.profiles.conftest import Profiles

_PAYLOADS = "SELECT payload FROM log.events WHERE tenant_id = $1 ORDER BY xid, seq"


def _page(message_id: str, **ids: str) -> dict[str, Any]:
    return {"type": "page", "name": "Home", "messageId": message_id, "timestamp": "2026-05-01T12:00:00Z", **ids}


async def _written(profiles: Profiles, tenant: str) -> list[Event]:
    return [Event.FromString(row["payload"]) for row in await profiles.rows(_PAYLOADS, tenant)]


async def test_an_event_leads_from_the_call_that_wrote_it_to_what_followed(
    collector: Collector, profiles: Profiles, tenant: str
) -> None:
    await profiles.take(_page("1", anonymousId="phone"), _page("2", userId="ada"))
    await profiles.take(_page("3", anonymousId="phone", userId="ada"))
    events = await _written(profiles, tenant)
    assert [event.name for event in events] == ["Home", "Home", "Home", "Profile Merged"]
    spans = {span.span_id: span for span in await collector.all()}
    writers = [spans[event.traceparent.split("-")[2]] for event in events]
    ingest = "rapport.profiles.v1.Profiles/Ingest"
    assert [span.name for span in writers] == [ingest, ingest, ingest, "process log"]
    assert writers[0] == writers[1] != writers[2]
    projected = writers[3]
    assert (projected.parent_id, projected.trace_id) == (writers[2].span_id, writers[2].trace_id)
    assert projected.attributes["messaging.consumer.group.name"] == "profiles"


async def test_without_traces_an_event_is_as_long_as_before(profiles: Profiles, tenant: str) -> None:
    assert not tracing.on()
    await profiles.take(_page("1", userId="ada"))
    [event] = await _written(profiles, tenant)
    assert "traceparent" not in {field.name for field, _ in event.ListFields()}


async def test_a_fact_that_waited_leads_to_the_call_that_it_comes_of(
    collector: Collector, profiles: Profiles, tenant: str
) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for number, traceparent in enumerate((given, "")):
        fact = Fact(message_id=f"promote:{number}", name="Model Promoted", source="rapport.evaluation", traceparent=traceparent)
        await profiles.record(fact)
    waited, direct = await _written(profiles, tenant)
    assert waited.traceparent == given
    assert direct.traceparent not in ("", given)
