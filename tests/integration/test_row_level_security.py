"""Every table with a tenant is guarded in the database: a service's connection shows, takes and changes one tenant's rows."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import context
from chassis.log.postgres import READ
from chassis.migrate import LATER, migrate
from chassis.row_security import ADMITTED, POLICY
from infra.postgres import Temporary
from infra.roles import OWNER, SERVICES, RoleTooStrong, grant, role_of
from tests.integration.conftest import migrated

A, B = "tenant-a", "tenant-b"
ROLES = [role_of(service) for service in SERVICES]
# They run as the tables' owner. Whoever adds one says here how it keeps to one tenant.
DEFINERS = {
    "gateway.key_of": "answers for one key, whose it is",
    "gateway.session_of": "answers for one session, whose it is",
    "log.erase": "refuses another tenant",
    "log.forget": "refuses another tenant",
    "log.ensure_partitions": "touches no row",
    "log.drop_empty_partitions": "touches no row",
}
# Values that do for a column of that type; checks are taken away first.
VALUES = {
    "text": "gen_random_uuid()::text", "uuid": "gen_random_uuid()", "timestamptz": "now()",
    "bytea": "uuid_send(gen_random_uuid())", "jsonb": "'{}'", "bool": "true", "int2": "1", "int4": "1", "int8": "1",
    "float4": "1", "float8": "1", "numeric": "1", "xid8": "'1'", "date": "now()", "interval": "'1s'",
}  # fmt: skip

_TABLES = """
SELECT class.oid::regclass::text AS name, class.relispartition AS is_partition, relrowsecurity AS is_guarded,
    (SELECT array_agg(concat_ws(' ', polname, polcmd, polpermissive, polroles) || ' ' || pg_get_expr(polqual, polrelid))
     FROM pg_policy WHERE polrelid = class.oid) AS policies
FROM pg_class AS class JOIN pg_namespace AS schema ON schema.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^(pg_|information_schema)' AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'tenant_id' AND NOT attisdropped
) ORDER BY 1
"""
# Whoever reads a view or a materialized one sees what its owner may see, unless it says otherwise.
_VIEWS = """
SELECT DISTINCT view.oid::regclass::text FROM pg_class AS view
JOIN pg_rewrite ON ev_class = view.oid
JOIN pg_depend AS uses ON uses.classid = 'pg_rewrite'::regclass AND uses.objid = pg_rewrite.oid
JOIN pg_class AS used ON used.oid = uses.refobjid AND used.oid <> view.oid
JOIN pg_namespace AS schema ON schema.oid = view.relnamespace
WHERE view.relkind IN ('v', 'm') AND nspname !~ '^(pg_|information_schema)'
    AND NOT coalesce(view.reloptions @> '{security_invoker=true}', false)
    AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = used.oid AND attname = 'tenant_id')
"""
_COLUMNS = """
SELECT attname AS name, typname AS type, typelem <> 0 AND typlen = -1 AS is_array FROM pg_attribute
JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
    AND attnotnull AND NOT atthasdef
"""
_DEFINERS = """
SELECT nspname || '.' || proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE prosecdef AND nspname !~ '^(pg_|information_schema)'
"""


@pytest_asyncio.fixture
async def admin(platform_database: Temporary) -> AsyncIterator[asyncpg.Connection]:
    """A superuser inside a transaction that comes to nothing."""
    connection = await asyncpg.connect(platform_database.admin_dsn.rsplit("/", 1)[0] + "/rapport", ssl=False)
    # Foreign keys and triggers are not what is tried here.
    await connection.execute("BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '20s'")
    yield connection
    await connection.close()


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """What happens inside did not happen."""
    await connection.execute("SAVEPOINT before")
    yield
    await connection.execute("ROLLBACK TO SAVEPOINT before; RELEASE SAVEPOINT before")


async def names_of(connection: asyncpg.Connection, *, partitions: bool = False) -> list[str]:
    return [row["name"] for row in await connection.fetch(_TABLES) if row["is_partition"] <= partitions]


async def unguarded(connection: asyncpg.Connection) -> list[str]:
    """What is wrong with which table or view, by the catalogue alone."""
    tables = await connection.fetch(_TABLES)
    await connection.execute("CREATE TEMPORARY TABLE model (tenant_id text) ON COMMIT DROP")
    await connection.execute(f"CREATE POLICY {POLICY} ON model USING ({ADMITTED})")
    (model,) = [
        row["policies"] for row in await connection.fetch(_TABLES.replace("'^(pg_|inf", "'^(inf")) if row["name"] == "model"
    ]
    await connection.execute("DROP TABLE model")
    found: list[str] = []
    for table in tables:
        wanted = None if table["is_partition"] else model
        if not table["is_guarded"]:
            found.append(f"{table['name']} has no row-level security")
        if table["policies"] != wanted:
            found.append(f"{table['name']} has the policies {table['policies']}")
    return found + [f"{row[0]} shows what its owner sees" for row in await connection.fetch(_VIEWS)]


async def row_of(connection: asyncpg.Connection, table: str) -> str:
    """A statement that adds a row of tenant $1, of any values."""
    names, values = ["tenant_id"], ["$1"]
    for column in await connection.fetch(_COLUMNS, table):
        if column["name"] != "tenant_id":
            names.append(column["name"])
            values.append("'{}'" if column["is_array"] else VALUES[column["type"]])
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})"


async def prepare(connection: asyncpg.Connection, table: str) -> None:
    """The table holds a row of A and one of B, and nothing else."""
    checks = "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'"
    for (check,) in await connection.fetch(checks, table):
        await connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{check}"')
    await connection.execute(f"DELETE FROM {table}")
    for tenant in (A, B):
        await connection.execute(await row_of(connection, table), tenant)


async def become(connection: asyncpg.Connection, role: str, tenant: str) -> None:
    await connection.execute(f"SET LOCAL ROLE {role}")
    await connection.execute("SELECT set_config('rapport.tenant', $1, true)", tenant)


async def outcome(connection: asyncpg.Connection, statement: str, *arguments: object) -> str:
    """What the statement answers, "refused" where a policy forbids it; afterwards nothing has changed."""
    said = ""
    async with undone(connection):
        try:
            said = await connection.execute(statement, *arguments)
        except asyncpg.PostgresError as error:
            said = "refused" if "row-level security" in str(error) else str(error)
    return said


async def breaches(connection: asyncpg.Connection, table: str, role: str) -> list[str]:
    """What the role, told to be there for A, can do to B's rows in a table that was prepared."""
    rights = {
        right: await connection.fetchval("SELECT has_table_privilege($1::name, $2::text::regclass, $3)", role, table, right)
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
    }
    if not rights["SELECT"]:
        return []
    found: list[str] = []
    async with undone(connection):
        await become(connection, role, A)
        tenants = [row[0] for row in await connection.fetch(f"SELECT tenant_id FROM {table}")]
        if tenants != [A]:
            found.append(f"{role} reads {tenants} in {table}")
        tries: list[tuple[str, str, Sequence[object], str]] = [
            ("UPDATE", f"UPDATE {table} SET tenant_id = tenant_id", (), "UPDATE 1"),
            ("UPDATE", f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = $1", (B,), "UPDATE 0"),
            ("UPDATE", f"UPDATE {table} SET tenant_id = $1", (B,), "refused"),
            ("DELETE", f"DELETE FROM {table}", (), "DELETE 1"),
            ("DELETE", f"DELETE FROM {table} WHERE tenant_id = $1", (B,), "DELETE 0"),
        ]
        for right, statement, arguments, expected in tries:
            if rights[right] and (said := await outcome(connection, statement, *arguments)) != expected:
                found.append(f"{role}: {statement} {arguments}: {said}")
        if rights["INSERT"] and (said := await outcome(connection, await row_of(connection, table), B)) != "refused":
            found.append(f"{role} adds rows of another tenant to {table}: {said}")
    return found + await _seen_by_nobody(connection, table, role)


async def _seen_by_nobody(connection: asyncpg.Connection, table: str, role: str) -> list[str]:
    async with undone(connection):
        await become(connection, role, context.NOBODY)
        count = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return [f"{role} reads {count} rows of {table} for nobody"] if count else []


async def test_every_table_with_a_tenant_has_the_policy(admin: asyncpg.Connection) -> None:
    tables = await names_of(admin, partitions=True)
    print(f"{len(tables)} tables with a tenant, partitions among them")
    assert {"log.events", "log.receipts_0", "profiles.timeline", "gateway.keys", "scoring.scores"} <= set(tables)
    assert await unguarded(admin) == []


async def test_a_table_that_was_forgotten_is_found(admin: asyncpg.Connection) -> None:
    async with undone(admin):
        await admin.execute(f"DROP POLICY {POLICY} ON feedback.surveys")
        assert await unguarded(admin) == ["feedback.surveys has the policies None"]
    async with undone(admin):
        await admin.execute("ALTER TABLE log.receipts_0 DISABLE ROW LEVEL SECURITY")
        assert await unguarded(admin) == ["log.receipts_0 has no row-level security"]
    async with undone(admin):
        await admin.execute("CREATE TABLE scoring.forgotten (tenant_id text)")
        assert len(await unguarded(admin)) == 2
    async with undone(admin):
        await admin.execute("CREATE POLICY more ON scoring.scores USING (true)")
        assert len(await unguarded(admin)) == 1
    async with undone(admin):
        await admin.execute("CREATE VIEW scoring.everybody AS SELECT * FROM scoring.scores")
        assert await unguarded(admin) == ["scoring.everybody shows what its owner sees"]
    assert await unguarded(admin) == []


async def test_no_role_of_a_service_can_pass_the_policies_by(admin: asyncpg.Connection) -> None:
    strong = """
        SELECT rolname FROM pg_roles WHERE rolname = ANY($1) AND (
            rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication
            OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
            OR EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)
        )"""
    assert await admin.fetch(strong, ROLES) == []
    assert await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)", ROLES) == len(SERVICES)
    found = await admin.fetchrow("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = $1", OWNER)
    assert tuple(found or ()) == (False, False)


async def test_a_role_that_could_is_refused_before_anything_is_migrated(platform_database: Temporary) -> None:
    owner = platform_database.dsn(OWNER)
    admin = await asyncpg.connect(platform_database.admin_dsn, ssl=False)
    try:
        await admin.execute("ALTER ROLE rapport_feedback BYPASSRLS")
        with pytest.raises(RoleTooStrong, match="rapport_feedback"):
            await grant(owner)
        await admin.execute("ALTER ROLE rapport_feedback NOBYPASSRLS")
        await grant(owner)
    finally:
        await admin.execute("ALTER ROLE rapport_feedback NOBYPASSRLS")
        await admin.close()


async def test_functions_of_the_owner_are_known_here(admin: asyncpg.Connection) -> None:
    assert {row[0] for row in await admin.fetch(_DEFINERS)} == set(DEFINERS)


async def test_a_service_reads_and_changes_the_rows_of_one_tenant_in_every_table(admin: asyncpg.Connection) -> None:
    tried, found = 0, list[str]()
    for table in await names_of(admin):
        async with undone(admin):
            await prepare(admin, table)
            for role in ROLES:
                found += await breaches(admin, table, role)
                tried += 1
    print(f"{tried} pairs of table and role")
    assert found == []


async def test_a_policy_that_lets_others_in_is_noticed(admin: asyncpg.Connection) -> None:
    await prepare(admin, "feedback.surveys")
    assert await breaches(admin, "feedback.surveys", "rapport_feedback") == []
    async with undone(admin):
        await admin.execute("CREATE POLICY more ON feedback.surveys USING (true)")
        assert len(await breaches(admin, "feedback.surveys", "rapport_feedback")) == 8
    async with undone(admin):
        await admin.execute("ALTER ROLE rapport_feedback BYPASSRLS")
        assert len(await breaches(admin, "feedback.surveys", "rapport_feedback")) == 8


async def test_a_partition_shows_nothing_to_who_asks_it_directly(admin: asyncpg.Connection) -> None:
    await prepare(admin, "log.events")
    await prepare(admin, "log.receipts")
    partitions = set(await names_of(admin, partitions=True)) - set(await names_of(admin))
    assert len(partitions) > 8
    assert sum([await admin.fetchval(f"SELECT count(*) FROM {name}") for name in partitions]) == 4
    await become(admin, "rapport_profiles", context.EVERYONE)
    assert sum([await admin.fetchval(f"SELECT count(*) FROM {name}") for name in partitions]) == 0
    assert await admin.fetchval("SELECT count(*) FROM log.events") == 2


async def test_months_to_come_are_guarded_too(admin: asyncpg.Connection) -> None:
    await admin.execute(f"SET LOCAL ROLE {OWNER}")
    assert await admin.fetchval("SELECT log.ensure_partitions(0, 9)") > 0
    await admin.execute("RESET ROLE")
    assert await unguarded(admin) == []


async def test_the_owners_functions_refuse_another_tenant(admin: asyncpg.Connection) -> None:
    await prepare(admin, "log.events")
    erase = "SELECT log.erase($1, (SELECT array_agg(key) FROM log.events), now())"
    forget = "SELECT log.forget($1, '9', 9, 'file', '', 0)"
    await become(admin, "rapport_profiles", A)
    for statement in (erase, forget):
        async with undone(admin):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="not for the tenant"):
                await admin.fetchval(statement, B)
    async with undone(admin):
        await admin.fetchval(erase, A)
    async with undone(admin):
        with pytest.raises(asyncpg.RaiseError, match="not exported yet"):
            await admin.fetchval(forget, A)


@pytest.mark.parametrize("whose", [context.EVERYONE, A])
async def test_the_log_is_still_read_by_its_index(admin: asyncpg.Connection, whose: str) -> None:
    fill = "INSERT INTO log.events (tenant_id, received_at, payload) SELECT $1, now(), '' FROM generate_series(1, 20000)"
    await admin.execute(fill, A)
    await admin.execute("ANALYZE log.events")
    xid, seq = await admin.fetchrow("SELECT xid::text, max(seq) - 50 FROM log.events WHERE tenant_id = $1 GROUP BY 1", A) or (
        "",
        0,
    )
    await become(admin, "rapport_segmentation", whose)
    query = READ.replace("$1", f"'{xid}'").replace("$2", str(seq)).replace("$3", "500")
    plan = "\n".join(row[0] for row in await admin.fetch(f"EXPLAIN {query}"))
    # Of the months without a row it does not matter.
    assert "Index Cond: ((ROW(xid, seq) >" in plan, plan


async def test_the_release_before_never_heard_of_it_and_works(platform_database: Temporary, tenant: str) -> None:
    connection: Any = await asyncpg.connect(platform_database.dsn("rapport_feedback"), ssl=False)
    insert = "INSERT INTO feedback.surveys (tenant_id, survey_id, kind, question) VALUES ($1, $2, 'NPS', 'How?')"
    try:
        await connection.execute(insert, tenant, uuid.uuid4().hex)
        assert await connection.fetchval("SELECT count(*) FROM feedback.surveys WHERE tenant_id = $1", tenant) == 1
        await connection.execute("SET rapport.tenant = ''")
        assert await connection.fetchval("SELECT count(*) FROM feedback.surveys") == 0
        await connection.execute("RESET rapport.tenant")  # a setting that was there once is empty, and shows nothing
        assert await connection.fetchval("SELECT count(*) FROM feedback.surveys") == 0
    finally:
        await connection.close()


async def test_a_database_in_use_is_bound_where_the_release_before_could_not_live_with_it_only_when_asked() -> None:
    with migrated() as server:
        admin = await asyncpg.connect(server.admin_dsn.rsplit("/", 1)[0] + "/rapport", ssl=False)
        await admin.execute("INSERT INTO profiles.tenants VALUES ('in-use', 'wall', '')")
        for table in LATER:
            await admin.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; DROP POLICY {POLICY} ON {table}")
        for contract, left in ((False, [f"{table} has no row-level security" for table in LATER]), (True, [])):
            await asyncio.to_thread(migrate, server.dsn(OWNER), contract=contract)
            async with admin.transaction():
                assert await unguarded(admin) == left
        await admin.close()
