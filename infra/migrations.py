"""Brings the schemas up to date at a start; skips that, which takes seconds, where the files are those of the last start."""

import asyncio
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg

from infra.children import last_line
from infra.failure import Refusal
from infra.processes import end, exited, spawn

TIMEOUT_S = 120


async def bring_up_to_date(admin_dsn: str, owner_dsn: str, *, log: Path, environment: Mapping[str, str]) -> None:
    """`admin_dsn` and `owner_dsn` are of the same database; its comment remembers what was applied. Raises Refusal."""
    wanted = f"migrated: {fingerprint()}"
    connection = await asyncpg.connect(admin_dsn, ssl=False)
    try:
        database = await connection.fetchval("SELECT current_database()")
        applied = await connection.fetchval(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", database
        )
        if applied == wanted:
            return
        await _migrate(owner_dsn, log, environment)
        await connection.execute(f"COMMENT ON DATABASE {database} IS '{wanted}'")
    finally:
        await connection.close()


async def _migrate(owner_dsn: str, log: Path, environment: Mapping[str, str]) -> None:
    """A process of its own: what it loads is gone when it ends."""
    with log.open("wb") as output:
        process = spawn(
            [sys.executable, "-m", "chassis.migrate"],
            output=output,
            environment={**environment, "RAPPORT_MIGRATE_URL": owner_dsn},
        )
    try:
        code = await asyncio.wait_for(exited(process), TIMEOUT_S)
    except TimeoutError:
        code = None
    finally:
        await end(process, grace_s=1)
    if code != 0:
        raise Refusal(f"The database can't be migrated: {last_line(log)} (see {log})")


def fingerprint() -> str:
    """Of all files that a migration runs."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.parent.parent.name}/{path.name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for package, pattern in (("chassis", "migrate.py"), ("chassis", "migrations/*.py"), ("services", "*/migrations/*.py")):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(folder).glob(pattern))
