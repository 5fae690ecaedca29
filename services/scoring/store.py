"""The schema `scoring`: champions and the latest score of each profile."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from chassis.db import Connection, Database
from chassis.errors import NotFound
from chassis.log import Cursor, Position
from chassis.outbox import Outbox
from services.scoring.domain import Ages, Champion, Changes, Distribution, Score, final_profiles

_CHAMPIONS: Final = """
SELECT tenant_id, model, registered_name, version, digest, feature_digest, promoted_at, recorded_at FROM scoring.champions
"""

# Read in the log's order, so of promotions at the same instant the later one counts; a log that is read again from the
# start does not lead through all that were champions once.
_PROMOTE: Final = """
INSERT INTO scoring.champions AS known
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[])
ON CONFLICT (tenant_id, model) DO UPDATE SET
    registered_name = excluded.registered_name, version = excluded.version, digest = excluded.digest,
    feature_digest = excluded.feature_digest, promoted_at = excluded.promoted_at, recorded_at = excluded.recorded_at
WHERE (excluded.promoted_at, excluded.recorded_at) >= (known.promoted_at, known.recorded_at)
"""

_MERGE: Final = """
WITH moved AS (
    DELETE FROM scoring.scores USING unnest($2::uuid[], $3::uuid[]) AS said (gone, kept)
    WHERE tenant_id = $1 AND profile_id = said.gone RETURNING model, kept, version, probability, as_of, body, scored_at
)
INSERT INTO scoring.scores AS known
SELECT DISTINCT ON (model, kept) $1, * FROM moved ORDER BY model, kept, as_of DESC
ON CONFLICT (tenant_id, model, profile_id) DO UPDATE SET
    version = excluded.version, probability = excluded.probability, as_of = excluded.as_of, body = excluded.body,
    scored_at = excluded.scored_at
WHERE excluded.as_of > known.as_of
"""

# It was made of what two people did.
_PART: Final = "DELETE FROM scoring.scores WHERE tenant_id = $1 AND profile_id = ANY($2::uuid[])"

_RECORDED: Final = """
SELECT known.profile_id FROM scoring.scores AS known
JOIN unnest($3::uuid[], $4::text[], $5::float8[], $6::timestamptz[]) AS said (profile_id, version, probability, as_of)
    USING (profile_id, version, probability, as_of)
WHERE known.tenant_id = $1 AND known.model = $2
"""

_RECORD: Final = """
INSERT INTO scoring.scores AS known
SELECT $1, $2, *, now() FROM unnest($3::uuid[], $4::text[], $5::float8[], $6::timestamptz[], $7::bytea[])
ON CONFLICT (tenant_id, model, profile_id) DO UPDATE SET
    version = excluded.version, probability = excluded.probability, as_of = excluded.as_of, body = excluded.body,
    scored_at = excluded.scored_at
WHERE excluded.as_of >= known.as_of
"""

# A score that came out the same is as fresh as a new one. Once an hour is enough to know it by.
_TOUCH: Final = """
UPDATE scoring.scores SET scored_at = now()
WHERE tenant_id = $1 AND model = $2 AND profile_id = ANY($3::uuid[]) AND scored_at < now() - interval '1 hour'
"""

# Of a big table some pages do for a share: it is asked every minute.
_AGES: Final = """
SELECT count(*) FILTER (WHERE age < interval '1 day') AS day, count(*) FILTER (WHERE age < interval '2 days') AS two_days,
    count(*) FILTER (WHERE age < interval '7 days') AS week, count(*) AS total
FROM (
    SELECT now() - scored_at AS age FROM scoring.scores TABLESAMPLE SYSTEM (
        (SELECT LEAST(100, 100 * 20000 / GREATEST(reltuples, 1)) FROM pg_class WHERE oid = 'scoring.scores'::regclass)
    )
) AS sampled
"""

_LATEST: Final = "SELECT body FROM scoring.scores WHERE tenant_id = $1 AND model = $2 AND profile_id = $3"

# 1.0 belongs to the last bin.
_DISTRIBUTION: Final = """
SELECT LEAST(width_bucket(probability, 0, 1, 10), 10) AS bin, count(*) AS count, sum(probability) AS total, max(as_of) AS newest
FROM scoring.scores WHERE tenant_id = $1 AND model = $2 GROUP BY 1
"""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Score).decode


@dataclass(frozen=True, slots=True)
class Recorded:
    """A score with the fact that tells the log of it."""

    profile_id: UUID
    score: Score
    fact: bytes


class ScoreStore:
    """One method, one transaction."""

    def __init__(self, database: Database, outbox: Outbox, cursor: Cursor) -> None:
        self._database = database
        self._outbox = outbox
        self._cursor = cursor

    async def record(self, tenant_id: str, model: str, rows: Sequence[Recorded]) -> int:
        """Makes them the latest scores of their profiles, which differ, and tells the log; returns how many were new.

        A score that is the latest already, at the same instant and from the same version, was told when it was written.
        """
        keys = _columns((each.profile_id, each.score.version, each.score.probability, each.score.as_of) for each in rows)
        async with self._database.connection() as connection:
            known = {row[0] for row in await connection.fetch(_RECORDED, tenant_id, model, *keys)}
            if known:
                await connection.execute(_TOUCH, tenant_id, model, sorted(known))
            # In one order everywhere: two batches with the same profiles wait for each other instead of dying of a deadlock.
            new = sorted((each for each in rows if each.profile_id not in known), key=lambda each: each.profile_id)
            if not new:
                return 0
            async with connection.transaction():
                await connection.execute(
                    _RECORD,
                    tenant_id,
                    model,
                    *_columns(
                        (each.profile_id, each.score.version, each.score.probability, each.score.as_of, _encode(each.score))
                        for each in new
                    ),
                )
                await self._outbox.add(connection, tenant_id, [each.fact for each in new])
        return len(new)

    async def tell(self, tenant_id: str, facts: Sequence[bytes]) -> None:
        """Tells the log of scores that are nobody's latest."""
        async with self._database.transaction() as connection:
            await self._outbox.add(connection, tenant_id, facts)

    async def latest(self, tenant_id: str, model: str, profile_id: UUID) -> Score:
        """Raises NotFound where the profile has none."""
        async with self._database.connection() as connection:
            body = await connection.fetchval(_LATEST, tenant_id, model, profile_id)
        if body is None:
            raise NotFound("this profile has no score", field="profile_id")
        return _decode(body)

    async def distribution(self, tenant_id: str, model: str) -> Distribution:
        """Of the latest scores of all profiles."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_DISTRIBUTION, tenant_id, model)
        counts = {row["bin"]: row["count"] for row in rows}
        profile_count = sum(counts.values())
        total = sum(row["total"] for row in rows)
        return Distribution(
            bin_counts=[counts.get(number, 0) for number in range(1, 11)],
            profile_count=profile_count,
            mean_probability=total / profile_count if profile_count else 0.0,
            newest=max((row["newest"] for row in rows), default=None),
        )

    async def ages(self) -> Ages:
        """How old the latest scores of all tenants are, by the wall's clock."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_AGES)
        day, two_days, week, total = row or (0, 0, 0, 0)
        return Ages(day, two_days - day, week - two_days, total - week)

    async def champions(self) -> dict[tuple[str, str], Champion]:
        """Of every tenant, by (tenant, model)."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_CHAMPIONS)
        return {(row["tenant_id"], row["model"]): Champion(*tuple(row)[2:]) for row in rows}

    async def apply(self, changes: Mapping[str, Changes], position: Position) -> None:
        """Writes what a batch of the log says, by tenant, and moves the cursor on."""
        async with self._database.transaction() as connection:
            for tenant_id, change in changes.items():
                await _apply(connection, tenant_id, change)
            await self._cursor.advance(connection, position)


async def _apply(connection: Connection, tenant_id: str, change: Changes) -> None:
    if change.champions:
        rows = [
            (model, each.registered_name, each.version, each.digest, each.feature_digest, each.promoted, each.recorded)
            for model, each in change.champions.items()
        ]
        await connection.execute(_PROMOTE, tenant_id, *_columns(rows))
    if into := final_profiles(change.merges):
        await connection.execute(_MERGE, tenant_id, list(into), list(into.values()))
    if change.parted:
        await connection.execute(_PART, tenant_id, list(change.parted))


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
