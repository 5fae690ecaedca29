"""A caller's trace goes through the gateway: gathered or not, whoever the key's owner is."""

import httpx

from tests.integration.collector import Collector

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


async def test_an_event_is_one_trace_down_to_profiles(collector: Collector, writer: httpx.AsyncClient) -> None:
    answer = await writer.post("/v1/track", json={"userId": "ada", "event": "Order Completed"}, headers=HEADERS)
    assert answer.status_code == 200
    spans = await collector.by_name(TRACE)
    ingest = "rapport.profiles.v1.Profiles/Ingest"
    path = ["SERVER POST /v1/track", "INTERNAL gather", f"CLIENT {ingest}", f"SERVER {ingest}"]
    assert set(path) == set(spans)
    assert [spans[name].parent_id for name in path] == [CALLER, *(spans[name].span_id for name in path[:-1])]


async def test_a_read_is_one_trace_and_does_not_tell_of_whom(
    collector: Collector, http: httpx.AsyncClient, customer: str
) -> None:
    answer = await http.get(f"/v1/profiles/{customer}", headers=HEADERS)
    assert answer.status_code == 200
    spans = await collector.by_name(TRACE)
    assert {"SERVER GET /v1/profiles/{ref}", "SERVER rapport.profiles.v1.Profiles/GetProfile"} <= set(spans)
    assert not [span for span in spans.values() if "ada" in span.text]
