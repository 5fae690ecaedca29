"""What a process, or a job, says that cannot start: one line, no traceback."""

import json
import os
import subprocess
import sys

import pytest

from chassis.db import connect
from chassis.errors import Unavailable
from infra.ports import free_port


async def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable) as error:
        await connect(f"postgresql://role:secret@127.0.0.1:{free_port()}/rapport", patience_s=0.1)
    assert error.value.message.startswith("the database at 127.0.0.1:")
    assert "secret" not in error.value.message


def test_a_process_that_cannot_start_says_why_in_its_last_line() -> None:
    url = f"postgresql://role:secret@127.0.0.1:{free_port()}/rapport"
    code = (
        "import asyncio; from chassis import db, process; from chassis.settings import ServiceSettings\n"
        "async def work(): await db.connect(__import__('os').environ['URL'], patience_s=0.1)\n"
        "process.carry_out('weather', ServiceSettings(), work())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "URL": url})
    assert done.returncode == 2
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["reason"] == "DATABASE_UNAVAILABLE"


def test_migrations_without_their_database_say_so_in_one_line() -> None:
    url = f"postgresql://rapport_owner:secret@127.0.0.1:{free_port()}/rapport"
    environment = {**os.environ, "RAPPORT_MIGRATE_URL": url}
    done = subprocess.run([sys.executable, "-m", "chassis.migrate"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("The migration failed, and nothing of it stands. The database at 127.0.0.1:")
    assert "secret" not in line
