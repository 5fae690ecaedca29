"""Roles, database, schemas and grants. Everything is idempotent: it runs at every start.

`rapport_owner` owns the tables and migrates them; each service connects as `rapport_<service>`, which owns nothing.
"""

from collections.abc import Mapping

import asyncpg

DATABASE = "rapport"
OWNER = "rapport_owner"
SERVICES = ("gateway", "profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")
ROLES = (OWNER, *(f"rapport_{service}" for service in SERVICES))


def role_of(service: str) -> str:
    return f"rapport_{service}"


async def create_roles(admin_dsn: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """`admin_dsn` is a superuser's, of any database; `passwords` has one for each of ROLES.

    What `rapport_owner` creates later is granted by default privileges, so a migration needs no grants of its own.
    """
    connection = await asyncpg.connect(admin_dsn, ssl=False)
    try:
        await connection.execute(await _roles_script(connection, passwords))
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER}')
    finally:
        await connection.close()
    connection = await asyncpg.connect(admin_dsn, database=database, ssl=False)
    try:
        await connection.execute(_grants_script(database))
    finally:
        await connection.close()


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


def _tables(schema: str, *, readers: str, rights: str) -> list[str]:
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {schema}"
    lines = [f"GRANT USAGE ON SCHEMA {schema} TO {readers};", f"{later} GRANT {rights} ON TABLES TO {readers};"]
    if "INSERT" in rights:
        lines.append(f"{later} GRANT USAGE, SELECT ON SEQUENCES TO {readers};")
    return lines
