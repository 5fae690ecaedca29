"""Roles, database, schemas and grants. Everything is idempotent: it runs at every start.

`rapport_owner` owns the tables and migrates them; each service connects as `rapport_<service>`, which owns nothing.
`python -m infra.roles` gives the rights where others made roles and database: RAPPORT_MIGRATE_URL is the owner's database URL.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

import asyncpg

DATABASE = "rapport"
OWNER = "rapport_owner"
SERVICES = ("gateway", "profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")
PATIENCE_S = 20.0
# Or in the owner's place: any of them would pass the policies by.
_TOO_STRONG = """
SELECT rolname FROM pg_roles WHERE rolname = ANY($1) AND (rolsuper OR rolbypassrls OR pg_has_role(oid, $2::name, 'MEMBER'))
ORDER BY rolname
"""
ROLES = (OWNER, *(f"rapport_{service}" for service in SERVICES))


class RoleTooStrong(Exception):
    """A service's role sees more than its policies say; the text says which."""


def role_of(service: str) -> str:
    return f"rapport_{service}"


async def create_roles(admin_dsn: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """Roles and database. `admin_dsn` is a superuser's, of any database; `passwords` has one for each of ROLES."""
    connection = await asyncpg.connect(admin_dsn, ssl=False)
    try:
        await connection.execute(await _roles_script(connection, passwords))
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER}')
    finally:
        await connection.close()


async def grant(owner_dsn: str) -> None:
    """Schemas and rights, as `rapport_owner`, which must own the database.

    What it creates later is granted by default privileges, so a migration needs no grants of its own. Raises RoleTooStrong.
    """
    connection = await _connect(owner_dsn)
    try:
        async with connection.transaction():
            # Two at once would change the same rows of the catalogue, which PostgreSQL refuses.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('grant'))")
            await connection.execute(_grants_script(await connection.fetchval("SELECT current_database()")))
            await _refuse_strong(connection)
    finally:
        await connection.close()


async def _refuse_strong(connection: asyncpg.Connection) -> None:
    strong = await connection.fetch(_TOO_STRONG, [role_of(service) for service in SERVICES], OWNER)
    if strong:
        names = ", ".join(row["rolname"] for row in strong)
        raise RoleTooStrong(
            f"row-level security does not bind {names}: make them NOSUPERUSER and NOBYPASSRLS, and no members of {OWNER}"
        )


async def _roles_script(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> str:
    known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    lines: list[str] = []
    for role in ROLES:
        verb = "ALTER" if role in known else "CREATE"
        secret = await connection.fetchval("SELECT quote_literal($1::text)", passwords[role])
        lines.append(
            f"{verb} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {secret};"
        )
    return "\n".join(lines)


def _grants_script(database: str) -> str:
    roles = ", ".join(ROLES)
    lines = [
        f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC;',
        f'GRANT CONNECT ON DATABASE "{database}" TO {roles};',
        "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        f"CREATE SCHEMA IF NOT EXISTS log AUTHORIZATION {OWNER};",
        *_tables("log", readers=", ".join(role_of(service) for service in SERVICES), rights="SELECT"),
        *_tables("log", readers=role_of("profiles"), rights="SELECT, INSERT"),
    ]
    for service in SERVICES:
        lines.append(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {OWNER};")
        lines += _tables(service, readers=role_of(service), rights="SELECT, INSERT, UPDATE, DELETE")
    return "\n".join(lines)


async def _connect(dsn: str) -> asyncpg.Connection:
    """Waits for a database that is starting, and for a network that does not know this pod yet."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.CannotConnectNowError):
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.5)


def _tables(schema: str, *, readers: str, rights: str) -> list[str]:
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {schema}"
    lines = [f"GRANT USAGE ON SCHEMA {schema} TO {readers};", f"{later} GRANT {rights} ON TABLES TO {readers};"]
    if "INSERT" in rights:
        lines.append(f"{later} GRANT USAGE, SELECT ON SEQUENCES TO {readers};")
    return lines


def main() -> None:
    """Entry point of the job that comes before the migrations."""
    url = os.environ.get("RAPPORT_MIGRATE_URL")
    if not url:
        sys.exit("RAPPORT_MIGRATE_URL is not set: it is postgresql://rapport_owner:PASSWORD@HOST:PORT/rapport.")
    try:
        asyncio.run(grant(url))
    except (OSError, asyncpg.PostgresError, RoleTooStrong) as error:
        sys.exit(f"The rights can't be granted: {str(error) or 'no answer'}")


if __name__ == "__main__":
    main()
