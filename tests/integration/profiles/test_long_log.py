"""What is asked every few seconds does not read a long log from its beginning."""

import re
from collections.abc import Iterator

import asyncpg
import pytest

from chassis import context
from chassis.log.postgres import LAG, READ
from chassis.migrate import migrate
from infra.postgres import Temporary, temporary
from ml.features.compile import SESSION
from services.profiles.store import events

STEPS = 100
_FILL = """
INSERT INTO log.events (tenant_id, key, received_at, payload)
SELECT 'long', NULL, now(), convert_to(repeat('x', 40), 'UTF8') FROM generate_series(1, 6000)
"""
_PLACE = """
INSERT INTO profiles.log_cursor (consumer, xid, seq) SELECT 'profiles', xid, seq - 10 FROM log.events ORDER BY seq DESC LIMIT 1;
ANALYZE log.events;
"""


@pytest.fixture(scope="module")
def long_log() -> Iterator[Temporary]:
    with temporary() as database:
        migrate(database.dsn("rapport_owner"), ("profiles",))
        yield database


@pytest.mark.parametrize(
    ("query", "types", "given"),
    [
        (READ, "text, bigint, bigint", "'{}', {}, 500"),
        (LAG, "text, bigint", "'{}', {}"),
        (events.LAG, "text", "'long'"),
    ],
    ids=["read", "lag", "a tenant's lag"],
)
async def test_a_long_log_is_read_from_where_a_reader_is(long_log: Temporary, query: str, types: str, given: str) -> None:
    owner = await asyncpg.connect(long_log.dsn("rapport_owner"), ssl=False)
    if not await owner.fetchval("SELECT count(*) FROM log.events"):
        for _ in range(STEPS):
            await owner.execute(_FILL)
        await owner.execute(_PLACE)
    place = await owner.fetchrow("SELECT xid::text AS xid, seq FROM profiles.log_cursor")
    await owner.close()
    assert place
    session = {**SESSION, "rapport.tenant": context.EVERYONE}
    connection = await asyncpg.connect(long_log.dsn("rapport_profiles"), ssl=False, server_settings=session)
    await connection.execute(f"PREPARE asked ({types}) AS {query}")
    plan = "\n".join(
        row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) EXECUTE asked ({given.format(*place)})")
    )
    await connection.close()
    removed = [int(count) for count in re.findall(r"Rows Removed by .*: (\d+)", plan)]
    assert not sum(removed), plan
    assert "rows=10.00 loops=1" in plan, plan
