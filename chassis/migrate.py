"""Brings schemas up to date: `python -m chassis.migrate profiles segmentation ...`, as the tables' owner.

A service's migrations are in services/<service>/migrations, numbered, and are applied in one transaction a service. They leave
what the release before needs; `--contract` ends that, when it is gone and nobody goes back to it.
RAPPORT_MIGRATE_URL is the owner's database URL.
"""

import asyncio
import os
import sys
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chassis.row_security import protect

PATIENCE_S = 10.0
CONTRACT = "--contract"
SCHEMAS = {"profiles": ("log", "profiles")}
# 0.2.0 fills these by COPY, which is refused where rows have a policy. Where there are tenants it may be running, and
# comes back with a rollback.
LATER = ("log.events", "profiles.timeline")
_TABLE_OF_TENANTS = text("SELECT to_regclass('profiles.tenants')")
_TENANTS = text("SELECT EXISTS (SELECT FROM profiles.tenants)")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
SERVICES = ("profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation", "gateway")


def migrate(url: str, services: tuple[str, ...] = SERVICES, *, contract: bool = False) -> None:
    """Applies what is missing, service by service; profiles first, since it owns the log."""
    asyncio.run(_migrate(url.replace("postgresql://", "postgresql+asyncpg://", 1), services, contract=contract))


async def _migrate(url: str, services: tuple[str, ...], *, contract: bool) -> None:
    engine = create_async_engine(url)
    try:
        await _answered(engine)
        for service in services:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade, service)
        for service in services:
            async with engine.begin() as connection:
                await connection.execute(_LOCK, {"name": f"migrate {service}"})
                later = LATER if service == "profiles" and not contract and await _is_in_use(connection) else ()
                await connection.execute(text(protect(*SCHEMAS.get(service, (service,)), later=later)))
    finally:
        await engine.dispose()


async def _is_in_use(connection: AsyncConnection) -> bool:
    return bool(await connection.scalar(_TABLE_OF_TENANTS) and await connection.scalar(_TENANTS))


async def _answered(engine: AsyncEngine) -> None:
    """Waits for a database that is starting, and for a network that does not know this pod yet."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            async with engine.connect():
                return
        except OSError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.5)


def _upgrade(connection: Connection, service: str) -> None:
    # Two replicas of a migration job must not run at once.
    connection.execute(_LOCK, {"name": f"migrate {service}"})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(files(f"services.{service}") / "migrations"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: str, _: object) -> object:
        return script._upgrade_revs("head", revision)  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table="migrations", version_table_schema=service)
        environment.run_migrations()


def main() -> None:
    """Entry point: the services named on the command line, all where none is."""
    url = os.environ.get("RAPPORT_MIGRATE_URL")
    if not url:
        sys.exit(
            "RAPPORT_MIGRATE_URL is not set: it names the database as the tables' owner, postgresql://rapport_owner:...@host:port/rapport"
        )
    try:
        services = tuple(each for each in sys.argv[1:] if each != CONTRACT)
        migrate(url, services or SERVICES, contract=CONTRACT in sys.argv)
    except (OSError, DBAPIError) as error:
        said = str(getattr(error, "orig", None) or error).splitlines() or ["no answer"]
        where = f"{urlsplit(url).hostname}:{urlsplit(url).port or 5432}"
        sys.exit(f"The migration failed, and nothing of it stands. The database at {where} says: {said[0].split('>: ')[-1]}")


if __name__ == "__main__":
    main()
