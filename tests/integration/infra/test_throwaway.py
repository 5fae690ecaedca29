"""PostgreSQL for tests: durable, granted, gone afterwards; as root, as another user, in a closed folder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from infra.accounts import Account, database_account
from infra.postgres import Temporary, temporary

PROJECT = Path(__file__).resolve().parents[3]


async def answer(dsn: str, *statements: str) -> object:
    """The last statement's value."""
    connection = await asyncpg.connect(dsn, ssl=False)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
async def test_what_is_committed_is_on_disk(platform_database: Temporary, setting: str) -> None:
    assert await answer(platform_database.dsn("rapport_profiles"), f"SHOW {setting}") == "on"


async def test_no_statement_reaches_the_log(platform_database: Temporary) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await answer(platform_database.admin_dsn, "SELECT 'alice@example.com' FROM")
    # This error's own text has the value.
    with pytest.raises(asyncpg.InvalidTextRepresentationError, match="example"):
        await answer(platform_database.admin_dsn, "SELECT 'bob@example.com'::text::int")
    log = (platform_database.cluster.home / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "example.com" not in log


async def test_text_sorts_by_code_point_and_is_utf_8(platform_database: Temporary) -> None:
    dsn = platform_database.dsn("rapport_owner")
    assert await answer(dsn, "SHOW server_encoding") == "UTF8"
    assert await answer(dsn, "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['b', 'a', 'B', 'é']) x") == "Babé"


@pytest.fixture
async def two_tables(platform_database: Temporary) -> str:
    """Made by the owner after the grants: what a migration does."""
    name = f"made_{time.monotonic_ns()}"
    make = f"CREATE TABLE {{}}.{name} (id bigint GENERATED ALWAYS AS IDENTITY, a int)"
    await answer(platform_database.dsn("rapport_owner"), make.format("log"), make.format("scoring"), "SELECT 1")
    return name


async def test_a_service_reads_and_writes_its_own_tables(platform_database: Temporary, two_tables: str) -> None:
    dsn = platform_database.dsn("rapport_scoring")
    write = f"INSERT INTO scoring.{two_tables} (a) VALUES (1)"
    assert await answer(dsn, write, f"UPDATE scoring.{two_tables} SET a = 2", f"SELECT a FROM scoring.{two_tables}") == 2


async def test_profiles_alone_appends_to_the_log_and_all_read_it(platform_database: Temporary, two_tables: str) -> None:
    write, read = f"INSERT INTO log.{two_tables} (a) VALUES (1)", f"SELECT count(*) FROM log.{two_tables}"
    assert await answer(platform_database.dsn("rapport_profiles"), write, read) == 1
    assert await answer(platform_database.dsn("rapport_scoring"), read) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await answer(platform_database.dsn("rapport_scoring"), write)


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT * FROM scoring.{}",
        "DELETE FROM log.{}",
        "TRUNCATE log.{}",
        "CREATE TABLE profiles.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "SET ROLE rapport_owner",
    ],
)
async def test_profiles_may_not(platform_database: Temporary, two_tables: str, forbidden: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await answer(platform_database.dsn("rapport_profiles"), forbidden.format(two_tables), "SELECT 1")


async def test_nobody_comes_in_without_the_password(platform_database: Temporary) -> None:
    dsn = platform_database.cluster.dsn("rapport_scoring", "guessed", database="rapport")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await answer(dsn, "SELECT 1")


def test_nothing_is_left_afterwards() -> None:
    with temporary() as database:
        home = database.cluster.home
        assert home.exists()
    assert not home.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]


SCRIPT = """
import asyncio, os, asyncpg, sys
from infra.postgres import temporary

async def main(dsn):
    connection = await asyncpg.connect(dsn, ssl=False)
    print(os.geteuid(), await connection.fetchval("SELECT current_user"))
    await connection.close()

with temporary() as database:
    asyncio.run(main(database.dsn("rapport_profiles")))
"""


def _answers(python: str, environment: dict[str, str], account: Account | None = None) -> str:
    user = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    done = subprocess.run(
        [python, "-c", SCRIPT], env={**os.environ, **environment}, cwd="/", capture_output=True, text=True, timeout=120, **user
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_works_where_the_temporary_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    told = _answers(sys.executable, {"TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)})
    assert told == f"{os.geteuid()} rapport_profiles"


def test_it_works_as_a_user_who_is_not_root(open_folder: Path) -> None:
    account = database_account()
    path = os.pathsep.join([str(PROJECT), str(Path(asyncpg.__file__).parents[1])])
    told = _answers(_python_for(account), {"PYTHONPATH": path, "HOME": str(open_folder)}, None if account.is_ours else account)
    assert told == f"{account.uid} rapport_profiles"


def _python_for(account: Account) -> str:
    """One of our version that the account may run: a virtual environment of root's may hang on root's own Python."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if Path(python).exists() and account.can_run(Path(python)) and account.can_enter(PROJECT):
            return python
    pytest.skip("neither this Python nor the project can be reached by another user")
