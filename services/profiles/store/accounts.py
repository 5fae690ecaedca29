"""Accounts and households: what group calls name, above persons. The writes are part of the projector's transaction.

Tables are named without a schema, see projection.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from chassis.db import Connection, Database
from services.profiles.jsontext import dumps, loads
from services.profiles.store.moments import from_us

HOUSEHOLD: Final = "household"
ACCOUNT: Final = "account"

_SAVE: Final = f"""
INSERT INTO accounts AS account (tenant_id, account_id, first_seen)
SELECT $1, account_id, min({from_us("ts")}) FROM unnest($2::uuid[], $3::bigint[]) AS new (account_id, ts) GROUP BY account_id
ON CONFLICT (tenant_id, account_id) DO UPDATE SET first_seen = excluded.first_seen
WHERE excluded.first_seen < account.first_seen
"""
_SAVE_MEMBERS: Final = f"""
INSERT INTO account_members AS member (tenant_id, account_id, node_id, since)
SELECT $1, account_id, node_id, min({from_us("since")})
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS new (account_id, node_id, since) GROUP BY account_id, node_id
ON CONFLICT (tenant_id, account_id, node_id) DO UPDATE SET since = excluded.since WHERE excluded.since < member.since
"""
_SAVE_TRAITS: Final = f"""
INSERT INTO account_traits AS trait (tenant_id, account_id, key, value, ts, event_id)
SELECT $1, account_id, key, value::jsonb, {from_us("ts")}, event_id
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bytea[]) AS new (account_id, key, value, ts, event_id)
ON CONFLICT (tenant_id, account_id, key) DO UPDATE SET
    value = excluded.value, ts = excluded.ts, event_id = excluded.event_id
WHERE (excluded.ts, excluded.event_id) > (trait.ts, trait.event_id)
"""
# $2: the ids to look at.
_ROWS: Final = """
SELECT account.account_id, account.first_seen, traits.traits, members.member_count
FROM accounts AS account
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(key, value) FILTER (WHERE value <> 'null')::text AS traits FROM account_traits
    WHERE tenant_id = $1 AND account_id = account.account_id
) AS traits ON true
LEFT JOIN LATERAL (
    SELECT count(DISTINCT node.profile_id)::int AS member_count
    FROM account_members AS member JOIN nodes AS node USING (tenant_id, node_id)
    WHERE member.tenant_id = $1 AND member.account_id = account.account_id
) AS members ON true
WHERE account.tenant_id = $1 AND account.account_id = ANY($2::uuid[]) ORDER BY account.account_id
"""
_PAGE: Final = """
SELECT account.account_id FROM accounts AS account
LEFT JOIN account_traits AS trait ON trait.tenant_id = $1 AND trait.account_id = account.account_id AND trait.key = 'kind'
WHERE account.tenant_id = $1 AND account.account_id > $2
    AND ($3 = '' OR (trait.value IS NOT DISTINCT FROM '"household"'::jsonb) = ($3 = 'household'))
ORDER BY account.account_id LIMIT $4
"""
_MEMBERS: Final = """
SELECT node.profile_id, min(member.since) AS since
FROM account_members AS member JOIN nodes AS node USING (tenant_id, node_id)
WHERE member.tenant_id = $1 AND member.account_id = $2 AND node.profile_id > $3
GROUP BY node.profile_id ORDER BY node.profile_id LIMIT $4
"""
_OF_NODES: Final = """
SELECT account_id, min(since) AS since FROM account_members
WHERE tenant_id = $1 AND node_id = ANY($2::uuid[]) GROUP BY account_id ORDER BY since, account_id LIMIT $3
"""
MAX_ACCOUNTS: Final = 100


@dataclass(frozen=True, slots=True)
class Grouping:
    """What one group call says. `traits`: the public ones, JSON."""

    account_id: str
    node_id: str
    ts_us: int
    known_us: int
    event_id: bytes
    traits: bytes


@dataclass(frozen=True, slots=True)
class AccountRow:
    """`group_id` is empty where it is personal."""

    account_id: UUID
    first_seen: datetime
    kind: str
    group_id: str
    traits: bytes
    member_count: int


async def save_groups(connection: Connection, tenant_id: str, groups: Sequence[Grouping]) -> None:
    """Of each trait the newest value stands, of each member the earliest time, whatever the order."""
    accounts = [group.account_id for group in groups]
    await connection.execute(_SAVE, tenant_id, accounts, [group.ts_us for group in groups])
    members = [group.node_id for group in groups]
    await connection.execute(_SAVE_MEMBERS, tenant_id, accounts, members, [group.known_us for group in groups])
    newest: dict[tuple[str, str], tuple[int, bytes, str]] = {}
    for group in groups:
        for key, value in loads(group.traits).items() if group.traits else ():
            said = (group.ts_us, group.event_id, dumps(value).decode())
            newest[group.account_id, key] = max(said, newest.get((group.account_id, key), said))
    if newest:
        rows = [(*name, value, ts_us, event_id) for name, (ts_us, event_id, value) in newest.items()]
        await connection.execute(_SAVE_TRAITS, tenant_id, *map(list, zip(*rows, strict=True)))


class AccountStore:
    """Reads of accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant_id: str, account_id: UUID) -> AccountRow | None:
        """None where there is none."""
        return next(iter(await self.rows(tenant_id, [account_id])), None)

    async def rows(self, tenant_id: str, account_ids: Sequence[UUID]) -> list[AccountRow]:
        """Those that there are, by id."""
        async with self._database.connection() as connection:
            return [_account(row) for row in await connection.fetch(_ROWS, tenant_id, account_ids)]

    async def page(self, tenant_id: str, after: UUID | None, kind: str, limit: int) -> list[AccountRow]:
        """By id; `kind` empty: all."""
        async with self._database.connection() as connection:
            found = [row[0] for row in await connection.fetch(_PAGE, tenant_id, after or UUID(int=0), kind, limit)]
            return [_account(row) for row in await connection.fetch(_ROWS, tenant_id, found)] if found else []

    async def members(self, tenant_id: str, account_id: UUID, after: UUID | None, limit: int) -> list[tuple[UUID, datetime]]:
        """(profile, since when it is known to belong there), by profile."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_MEMBERS, tenant_id, account_id, after or UUID(int=0), limit)
        return [(row["profile_id"], row["since"]) for row in rows]

    async def of(self, tenant_id: str, node_ids: Sequence[UUID]) -> list[tuple[AccountRow, datetime]]:
        """The accounts that a person with these nodes belongs to, the oldest membership first."""
        async with self._database.connection() as connection:
            since = {row[0]: row[1] for row in await connection.fetch(_OF_NODES, tenant_id, node_ids, MAX_ACCOUNTS)}
            rows = await connection.fetch(_ROWS, tenant_id, list(since)) if since else []
        return sorted(((_account(row), since[row["account_id"]]) for row in rows), key=lambda each: each[1])


def _account(row: Any) -> AccountRow:
    traits = loads((row["traits"] or "{}").encode())
    group_id = traits.pop("groupId", "")
    kind = HOUSEHOLD if traits.get("kind") == HOUSEHOLD else ACCOUNT
    return AccountRow(row["account_id"], row["first_seen"], kind, str(group_id), dumps(traits), row["member_count"] or 0)
