"""Match runs and suggestions: who may be the same person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from chassis.db import Connection, Database
from services.profiles.domain.matching import Decided, Said, Suggested, Two, two_of

_RUN = """
tenant_id, run_id, state, accept_from, created_at, started_at, ended_at, people_count, suggested_count, accepted_count, message
"""
_ADD_RUN = f"""
INSERT INTO profiles.match_runs (tenant_id, run_id, state, accept_from) VALUES ($1, $2, 'queued', $3) RETURNING {_RUN}
"""
_WAITING = "SELECT count(*) FROM profiles.match_runs WHERE tenant_id = $1 AND state = 'queued'"
_FIND_RUN = f"SELECT {_RUN} FROM profiles.match_runs WHERE tenant_id = $1 AND run_id = $2"
_OPEN = """
SELECT EXISTS (SELECT FROM profiles.match_runs WHERE state = 'queued' OR state = 'running' AND lease_until < now())
"""
# A queued one of a tenant of whom none runs; or one whose process is gone.
_CLAIM = f"""
UPDATE profiles.match_runs SET
    state = 'running', owner = $1, lease_until = now() + $2 * interval '1 second', attempts = attempts + 1,
    started_at = coalesce(started_at, now())
WHERE (tenant_id, run_id) = (
    SELECT tenant_id, run_id FROM profiles.match_runs AS run
    WHERE attempts < $3 AND (state = 'running' AND lease_until < now()
        OR state = 'queued' AND NOT EXISTS (
            SELECT FROM profiles.match_runs AS other WHERE other.tenant_id = run.tenant_id AND other.state = 'running'
        ))
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING {_RUN}
"""
_GIVE_UP = """
UPDATE profiles.match_runs SET state = 'failed', ended_at = now(), message = 'the process of the run ended'
WHERE state = 'running' AND (owner = $1 OR lease_until < now() AND attempts >= $2)
"""
_FINISH = """
UPDATE profiles.match_runs SET
    state = $4, ended_at = now(), people_count = $5, suggested_count = $6, accepted_count = $7, message = $8
WHERE tenant_id = $1 AND run_id = $2 AND owner = $3 AND state = 'running'
"""
_PEOPLE = """
SELECT profile_id FROM profiles.profiles WHERE tenant_id = $1 AND identified AND profile_id > $2 ORDER BY profile_id LIMIT $3
"""
_SEALED = """
SELECT node.profile_id, trait.node_id, trait.event_id, trait.sealed
FROM profiles.nodes AS node JOIN profiles.personal_traits AS trait USING (tenant_id, node_id)
WHERE node.tenant_id = $1 AND node.profile_id = ANY($2::uuid[]) ORDER BY trait.ts, trait.event_id
"""
# By the names that their profiles have now.
_DECIDED = """
SELECT coalesce(a.profile_id, profile_a) AS a, coalesce(b.profile_id, profile_b) AS b,
    coalesce(decided_weight, weight) AS weight, state
FROM profiles.match_suggestions AS suggestion
LEFT JOIN profiles.nodes AS a ON a.tenant_id = suggestion.tenant_id AND a.node_id = profile_a
LEFT JOIN profiles.nodes AS b ON b.tenant_id = suggestion.tenant_id AND b.node_id = profile_b
WHERE suggestion.tenant_id = $1 AND state <> 'open'
"""
_PARTED = """
SELECT a.profile_id AS a, b.profile_id AS b FROM (
    SELECT DISTINCT ON (node_a, node_b) node_a, node_b, is_parted FROM profiles.identity_rulings
    WHERE tenant_id = $1 ORDER BY node_a, node_b, since DESC, event_id DESC
) AS ruling
JOIN profiles.nodes AS a ON a.tenant_id = $1 AND a.node_id = node_a
JOIN profiles.nodes AS b ON b.tenant_id = $1 AND b.node_id = node_b
WHERE is_parted AND a.profile_id <> b.profile_id
"""
_SUGGEST = """
INSERT INTO profiles.match_suggestions AS suggestion
    (tenant_id, suggestion_id, profile_a, profile_b, run_id, weight, probability, explanation, state)
SELECT $1, suggestion_id, a, b, $2, weight, probability, explanation::jsonb, 'open'
FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::float8[], $7::float8[], $8::text[])
    AS new (suggestion_id, a, b, weight, probability, explanation)
ON CONFLICT (tenant_id, profile_a, profile_b) DO UPDATE SET
    run_id = excluded.run_id, weight = excluded.weight, probability = excluded.probability,
    explanation = excluded.explanation, state = 'open', decided_at = NULL, decided_by = '', reason = ''
WHERE suggestion.state <> 'accepted'
"""
# What the newest run does not find any more is no suggestion.
_DROP_STALE = "DELETE FROM profiles.match_suggestions WHERE tenant_id = $1 AND state = 'open' AND run_id <> $2"
_SUGGESTION = """
suggestion_id, profile_a, profile_b, run_id, weight, probability, explanation::text AS explanation, state, created_at,
decided_at, decided_by, reason
"""
_FIND = f"SELECT {_SUGGESTION} FROM profiles.match_suggestions WHERE tenant_id = $1 AND suggestion_id = $2"
_PAGE = f"""
SELECT {_SUGGESTION} FROM profiles.match_suggestions
WHERE tenant_id = $1 AND state = $2 AND weight >= $3 AND (weight, suggestion_id) < ($4, $5)
ORDER BY weight DESC, suggestion_id DESC LIMIT $6
"""
_DECIDE = f"""
UPDATE profiles.match_suggestions SET
    state = $3, decided_at = now(), decided_by = $4, reason = $5, decided_weight = weight
WHERE tenant_id = $1 AND suggestion_id = $2 AND state = 'open' RETURNING {_SUGGESTION}
"""
_decode = msgspec.json.Decoder(list[Said]).decode


@dataclass(frozen=True, slots=True)
class RunRow:
    """As it is stored."""

    tenant_id: str
    run_id: UUID
    state: str
    accept_from: float | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    people_count: int
    suggested_count: int
    accepted_count: int
    message: str


@dataclass(frozen=True, slots=True)
class SuggestionRow:
    """As it is stored."""

    suggestion_id: UUID
    profile_a: UUID
    profile_b: UUID
    run_id: UUID
    weight: float
    probability: float
    said: Sequence[Said]
    state: str
    created: datetime
    decided: datetime | None
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class SealedTraits:
    """The sealed part of an identify call, and whose it is now."""

    profile_id: UUID
    node_id: UUID
    event_id: bytes
    sealed: bytes


class MatchStore:
    """profiles.match_runs and profiles.match_suggestions, and what a run reads of profiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def waiting(self, tenant_id: str) -> int:
        """How many runs of a tenant are queued."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_WAITING, tenant_id) or 0

    async def add_run(self, tenant_id: str, accept_from: float | None) -> RunRow:
        """A queued run."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_ADD_RUN, tenant_id, uuid4(), accept_from)
        assert row is not None  # noqa: S101  # an insert returns its row
        return RunRow(*row)

    async def find_run(self, tenant_id: str, run_id: UUID) -> RunRow | None:
        """None where the tenant has none such."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND_RUN, tenant_id, run_id)
        return RunRow(*row) if row else None

    async def is_asked(self) -> bool:
        """Whether a run waits for a process."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_OPEN))

    async def claim(self, owner: str, lease_s: float, attempts: int) -> RunRow | None:
        """A run to work off, at most `attempts` times."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_CLAIM, owner, lease_s, attempts)
        return RunRow(*row) if row else None

    async def give_up(self, owner: str, attempts: int) -> None:
        """Fails what this owner left running, and what ran out of attempts."""
        async with self._database.connection() as connection:
            await connection.execute(_GIVE_UP, owner, attempts)

    async def finish(
        self, run: RunRow, owner: str, state: str, *, people: int = 0, suggested: int = 0, accepted: int = 0, message: str = ""
    ) -> None:
        """Ends a run, where it still is the owner's."""
        async with self._database.connection() as connection:
            await connection.execute(_FINISH, run.tenant_id, run.run_id, owner, state, people, suggested, accepted, message)

    async def people(self, tenant_id: str, after: UUID, limit: int) -> list[UUID]:
        """Identified profiles by their id."""
        async with self._database.connection() as connection:
            return [row[0] for row in await connection.fetch(_PEOPLE, tenant_id, after, limit)]

    async def sealed(self, tenant_id: str, profile_ids: Sequence[UUID]) -> list[SealedTraits]:
        """What is kept of their personal traits, oldest first."""
        async with self._database.connection() as connection:
            return [SealedTraits(*row) for row in await connection.fetch(_SEALED, tenant_id, profile_ids)]

    async def decided(self, tenant_id: str) -> tuple[list[Decided], set[Two]]:
        """(pairs that somebody decided on, pairs that somebody parted), by the names that profiles have now."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_DECIDED, tenant_id)
            parted = await connection.fetch(_PARTED, tenant_id)
        decisions = [Decided(two_of(row["a"], row["b"]), row["weight"], row["state"] == "rejected") for row in rows]
        return decisions, {two_of(row["a"], row["b"]) for row in parted}

    async def suggest(self, tenant_id: str, run_id: UUID, suggested: Sequence[Suggested]) -> None:
        """Puts a run's suggestions in the place of the open ones before it."""
        columns = (
            [uuid4() for _ in suggested],
            [each.two[0] for each in suggested],
            [each.two[1] for each in suggested],
            [each.weight for each in suggested],
            [each.probability for each in suggested],
            [msgspec.json.encode(each.said).decode() for each in suggested],
        )
        async with self._database.transaction() as connection:
            await connection.execute(_SUGGEST, tenant_id, run_id, *columns)
            await connection.execute(_DROP_STALE, tenant_id, run_id)

    async def find(self, tenant_id: str, suggestion_id: UUID) -> SuggestionRow | None:
        """None where the tenant has none such."""
        async with self._database.connection() as connection:
            return _suggestion(await connection.fetchrow(_FIND, tenant_id, suggestion_id))

    async def page(
        self, tenant_id: str, state: str, min_weight: float, before: tuple[float, UUID], limit: int
    ) -> list[SuggestionRow]:
        """The heaviest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, tenant_id, state, min_weight, *before, limit)
        return [found for row in rows if (found := _suggestion(row))]

    async def decide(self, tenant_id: str, suggestion_id: UUID, state: str, actor: str, reason: str) -> SuggestionRow | None:
        """None where it is not open any more."""
        async with self._database.connection() as connection:
            return await _decide(connection, tenant_id, suggestion_id, state, actor, reason)


async def _decide(
    connection: Connection, tenant_id: str, suggestion_id: UUID, state: str, actor: str, reason: str
) -> SuggestionRow | None:
    return _suggestion(await connection.fetchrow(_DECIDE, tenant_id, suggestion_id, state, actor, reason))


def _suggestion(row: Any) -> SuggestionRow | None:
    if row is None:
        return None
    values = dict(row)
    values["explanation"] = _decode(values["explanation"])
    return SuggestionRow(*values.values())
