"""Who is what: the shipped segments with their sizes."""

from demo.journey.traveller import Traveller


async def segment(traveller: Traveller) -> None:
    """Brings all memberships up to the newest event."""
    async with traveller.phase("segment", "Segmenting") as advance:
        if advance is None:
            return
        await traveller.client.call("POST", "/v1/segments:recompute", {})
        segments = (await traveller.client.call("GET", "/v1/segments"))["data"]
        for each in segments:
            traveller.record.values[f"segments.{each['key']}"] = each["memberCount"]
        traveller.record.notes["families"] = {each["key"]: each["family"] for each in segments}
