"""Which of the numbered events that a test sent are in a profile's timeline."""

from collections import Counter
from typing import Any

import httpx


def numbers_in(client: httpx.Client, user: str, event: str) -> Counter[int]:
    """How often each number is there, as `properties.number` of events of that name."""
    numbers: Counter[int] = Counter()
    params: dict[str, Any] = {"limit": 1000}
    while True:
        page = client.get(f"/v1/profiles/user_id:{user}/events", params=params)
        page.raise_for_status()
        body = page.json()
        numbers.update(int(each["properties"]["number"]) for each in body["data"] if each["name"] == event)
        if not body["hasMore"]:
            return numbers
        params["next"] = body["next"]
