"""What one would write first: a FastAPI route, a statement, a commit. `python -m tests.bench.plain_api <port> <database URL>`.

`/empty` is the limit: an application that reads the body and answers, under the same server.
"""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

SCHEMA = """
CREATE TABLE profiles.plain_events (
    message_id text PRIMARY KEY, user_id text NOT NULL, happened timestamptz NOT NULL, body jsonb NOT NULL
);
CREATE TABLE profiles.plain_profiles (user_id text PRIMARY KEY, body jsonb NOT NULL);
"""
ANSWER = json.dumps({"success": True}).encode()


class Event(BaseModel):
    """A track call."""

    messageId: str  # noqa: N815
    userId: str  # noqa: N815
    timestamp: datetime
    event: str
    properties: dict[str, Any]
    context: dict[str, Any] | None = None


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncGenerator[None]:
    """With a pool as large as ours."""
    async with asyncpg.create_pool(sys.argv[2], min_size=10, max_size=10, ssl=False) as pool:
        app.state.pool = pool
        yield


plain = FastAPI(lifespan=connected)


@plain.post("/v1/track")
async def track(event: Event) -> dict[str, bool]:
    """One row."""
    insert = "INSERT INTO profiles.plain_events VALUES ($1, $2, $3, $4)"
    await plain.state.pool.execute(insert, event.messageId, event.userId, event.timestamp, event.model_dump_json())
    return {"success": True}


@plain.get("/v1/profiles/{user_id}")
async def profile(user_id: str) -> dict[str, Any]:
    """One row, too."""
    found = await plain.state.pool.fetchval("SELECT body FROM profiles.plain_profiles WHERE user_id = $1", user_id)
    if found is None:
        raise HTTPException(404)
    return json.loads(found)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The plain routes, and the empty one before them."""
    if scope["type"] == "lifespan" or scope["path"] != "/empty":
        await plain(scope, receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
