"""Tables of the schema `gateway`: tenants, keys, sessions, and answers under an Idempotency-Key."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis import context
from chassis.db import Connection, Database, affected
from chassis.errors import Conflict, NotFound
from services.gateway.domain import Attempt, Key, Kind, Pace, Person, Repeat, Scope, judge_repeat, roles_in

_KEY_COLUMNS = "key_id, tenant_id, kind, scopes, digest, created, revoked, last_used, requests_per_s, events_per_s, expires"
# A newer version may have written scopes that this one does not know.
_SCOPES = frozenset(Scope)


class KeyStore:
    """Tenants and their keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_tenant(self, tenant_id: str, clock: str) -> bool:
        """False: it was there already. Raises Conflict where it has the other clock."""
        insert = "INSERT INTO gateway.tenants (tenant_id, clock) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        async with self._database.transaction() as connection:
            if (await connection.execute(insert, tenant_id, clock)).endswith(" 1"):
                return True
            known = await connection.fetchval("SELECT clock FROM gateway.tenants WHERE tenant_id = $1", tenant_id)
        if known != clock:
            raise Conflict(f"the tenant {tenant_id!r} exists, with the clock {known!r}", field="clock")
        return False

    async def has_tenant(self, tenant_id: str) -> bool:
        """Whether it is there."""
        with context.use(tenant=tenant_id):  # who asks is known by nothing else yet
            async with self._database.connection() as connection:
                return await connection.fetchval("SELECT true FROM gateway.tenants WHERE tenant_id = $1", tenant_id) is not None

    async def tenants(self) -> Sequence[tuple[str, str, datetime]]:
        """(name, clock, created), by name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT tenant_id, clock, created FROM gateway.tenants ORDER BY tenant_id")
        return [(row["tenant_id"], row["clock"], row["created"]) for row in rows]

    async def add(self, key: Key) -> None:
        """Raises NotFound where there is no such tenant."""
        async with self._database.connection() as connection:
            await _add(connection, key)

    async def replace(self, key_id: str, key: Key, *, until: datetime) -> datetime:
        """Adds `key`; the old one is good until then, or until it expires anyway. Raises NotFound without a good old one."""
        update = """
            UPDATE gateway.keys SET expires = least(coalesce(expires, $2), $2)
            WHERE key_id = $1 AND revoked IS NULL AND (expires IS NULL OR expires > now()) RETURNING expires"""
        async with self._database.transaction() as connection:
            if (expires := await connection.fetchval(update, key_id, until)) is None:
                raise NotFound(f"there is no good key {key_id!r}", field="key_id")
            await _add(connection, key)
        return expires

    async def get(self, key_id: str) -> Key:
        """The key, revoked or not. Raises NotFound."""
        if (key := await self.find(key_id)) is None:
            raise NotFound(f"there is no key {key_id!r}", field="key_id")
        return key

    async def find(self, key_id: str) -> Key | None:
        """The key, revoked or not, whoever asks: whose it is, nobody knows before."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(f"SELECT {_KEY_COLUMNS} FROM gateway.key_of($1)", key_id)
        return _key(row) if row else None

    async def mark_used(self, key_id: str) -> None:
        """Somebody who has the key used it today."""
        update = (
            "UPDATE gateway.keys SET last_used = current_date WHERE key_id = $1 AND last_used IS DISTINCT FROM current_date"
        )
        async with self._database.connection() as connection:
            await connection.execute(update, key_id)

    async def revoke(self, key_id: str) -> bool:
        """False: it was revoked before. Raises NotFound."""
        update = "UPDATE gateway.keys SET revoked = now() WHERE key_id = $1 AND revoked IS NULL"
        async with self._database.transaction() as connection:
            if (await connection.execute(update, key_id)).endswith(" 1"):
                return True
            known = await connection.fetchval("SELECT true FROM gateway.keys WHERE key_id = $1", key_id)
        if not known:
            raise NotFound(f"there is no key {key_id!r}", field="key_id")
        return False

    async def of_tenant(self, tenant_id: str) -> Sequence[Key]:
        """All of a tenant's keys, oldest first; of every tenant where none is named."""
        select = f"""
            SELECT {_KEY_COLUMNS} FROM gateway.keys WHERE tenant_id = $1 OR $1 = ''
            ORDER BY tenant_id, created, key_id"""
        async with self._database.connection() as connection:
            return [_key(row) for row in await connection.fetch(select, tenant_id)]


async def _add(connection: Connection, key: Key) -> None:
    insert = f"""
        INSERT INTO gateway.keys ({_KEY_COLUMNS})
        SELECT $1, tenant_id, $3, $4, $5, $6, NULL, NULL, $7, $8, NULL FROM gateway.tenants WHERE tenant_id = $2"""
    about = (key.key_id, key.tenant_id, key.kind.value, sorted(key.scopes), key.digest, key.created)
    done = await connection.execute(insert, *about, key.pace.requests_per_s, key.pace.events_per_s)
    if done.endswith(" 0"):
        raise NotFound(f"there is no tenant {key.tenant_id!r}", field="tenant_id")


def _key(row: Any) -> Key:
    last_used: date | None = row["last_used"]
    return Key(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        kind=Kind(row["kind"]),
        scopes=frozenset(Scope(name) for name in row["scopes"] if name in _SCOPES),
        digest=row["digest"],
        created=row["created"],
        revoked=row["revoked"],
        last_used=last_used,
        expires=row["expires"],
        pace=Pace(row["requests_per_s"], row["events_per_s"]),
    )


class AnswerStore:
    """What was answered under an Idempotency-Key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, tenant_id: str, key: str, digest: bytes, *, at: datetime) -> bytes | None:
        """The earlier answer, or None where the request is to be done now. Raises Conflict (judge_repeat says when)."""
        insert = """
            INSERT INTO gateway.idempotency (tenant_id, key, digest, started) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING"""
        select = """
            SELECT digest, started, answer FROM gateway.idempotency WHERE tenant_id = $1 AND key = $2 FOR UPDATE"""
        update = "UPDATE gateway.idempotency SET started = $3 WHERE tenant_id = $1 AND key = $2"
        async with self._database.transaction() as connection:
            if (await connection.execute(insert, tenant_id, key, digest, at)).endswith(" 1"):
                return None
            row = await connection.fetchrow(select, tenant_id, key)
            earlier = Attempt(row["digest"], row["started"], row["answer"]) if row else None
            if judge_repeat(earlier, digest, at=at) is Repeat.ANSWERED and earlier:
                return earlier.answer
            await connection.execute(update, tenant_id, key, at)
        return None

    async def finish(self, tenant_id: str, key: str, answer: bytes) -> None:
        """Keeps the answer."""
        update = "UPDATE gateway.idempotency SET answer = $3 WHERE tenant_id = $1 AND key = $2"
        async with self._database.connection() as connection:
            await connection.execute(update, tenant_id, key, answer)

    async def forget(self, tenant_id: str, key: str) -> None:
        """After a failure: nothing was made, so the key may be used again."""
        delete = "DELETE FROM gateway.idempotency WHERE tenant_id = $1 AND key = $2 AND answer IS NULL"
        async with self._database.connection() as connection:
            await connection.execute(delete, tenant_id, key)

    async def sweep(self, *, at: datetime, keep: timedelta) -> int:
        """Removes what is older than `keep`; returns how many."""
        async with self._database.connection() as connection:
            done = await connection.execute("DELETE FROM gateway.idempotency WHERE started < $1", at - keep)
        return affected(done)


class ReplicaStore:
    """The gateway's processes, as they told of themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, replica_id: UUID, *, gone_after: timedelta) -> int:
        """This one is alive; how many are. Forgets those that said nothing for `gone_after`."""
        upsert = """
            INSERT INTO gateway.replicas (replica_id, seen) VALUES ($1, now())
            ON CONFLICT (replica_id) DO UPDATE SET seen = now()"""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM gateway.replicas WHERE seen < now() - $1::interval", gone_after)
            await connection.execute(upsert, replica_id)
            return await connection.fetchval("SELECT count(*) FROM gateway.replicas")

    async def leave(self, replica_id: UUID) -> None:
        """This one ends."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM gateway.replicas WHERE replica_id = $1", replica_id)


class SessionStore:
    """Who is signed in at the console. A session comes alone, and says whose it is; only its token's digest is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, digest: bytes, person: Person, *, started: datetime, expires: datetime) -> None:
        """A session of somebody who was just let in."""
        insert = """
            INSERT INTO gateway.sessions (digest, tenant_id, subject, roles, started, expires)
            VALUES ($1, $2, $3, $4, $5, $6)"""
        with context.use(tenant=person.tenant_id):
            async with self._database.connection() as connection:
                roles = sorted(person.roles)
                await connection.execute(insert, digest, person.tenant_id, person.subject, roles, started, expires)

    async def find(self, digest: bytes, *, at: datetime) -> Person | None:
        """None: unknown, ended, or over."""
        select = "SELECT tenant_id, subject, roles FROM gateway.session_of($1) WHERE expires > $2"
        async with self._database.connection() as connection:
            row = await connection.fetchrow(select, digest, at)
        # A newer version may have written roles that this one does not know.
        return Person(row["tenant_id"], row["subject"], roles_in(list(row["roles"]))) if row else None

    async def remove(self, digest: bytes) -> None:
        """Ends it, for every process."""
        async with self._database.connection() as connection:
            tenant_id = await connection.fetchval("SELECT tenant_id FROM gateway.session_of($1)", digest)
        if tenant_id is not None:
            with context.use(tenant=tenant_id):
                async with self._database.connection() as connection:
                    await connection.execute("DELETE FROM gateway.sessions WHERE digest = $1", digest)

    async def sweep(self, *, at: datetime) -> int:
        """Removes those that are over; returns how many."""
        async with self._database.connection() as connection:
            return affected(await connection.execute("DELETE FROM gateway.sessions WHERE expires <= $1", at))
