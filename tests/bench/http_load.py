"""Keep-alive HTTP connections that ask again as soon as they are answered: `python -m tests.bench.http_load < plan.json`.

A process of its own, so that its processor time is not counted as anybody's. Prints one line of JSON.
"""

import asyncio
import json
import sys
import time
from typing import Any


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Sends one request and reads its answer; returns the status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = await reader.readexactly(length)
    status = int(head[9:12])
    if status != 200:
        print(body[:500].decode(errors="replace"), file=sys.stderr)
    return status


def written(plan: dict[str, Any]) -> list[bytes]:
    """Each of the plan's requests as it goes over the wire."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in plan["headers"].items())
    return [
        (f"POST {path} HTTP/1.1\r\nHost: {plan['host']}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}").encode()
        for path, body in plan["requests"]
    ]


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Asks for `seconds`, or until `most` were answered, over `connections` connections."""
    requests, seconds, taken, failed, sent = written(plan), [], 0, 0, 0
    most = plan.get("most") or 1 << 60
    end = time.perf_counter() + plan["seconds"]

    async def work() -> None:
        nonlocal taken, failed, sent
        reader, writer = await asyncio.open_connection(plan["host"], plan["port"])
        while sent < most and time.perf_counter() < end:
            request = requests[sent % len(requests)]
            sent += 1
            started = time.perf_counter()
            status = await ask(reader, writer, request)
            seconds.append(time.perf_counter() - started)
            taken += 1
            failed += status != 200
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(plan["connections"])))
    elapsed = time.perf_counter() - started
    ordered = sorted(seconds)
    return {
        "count": taken,
        "failed": failed,
        "elapsed_s": elapsed,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
