"""What a process, or a job, says that cannot start: one line, no traceback."""

import json
import os
import socket
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


CANNOT_CONNECT = """
async def work(): await db.connect(os.environ['URL'], patience_s=0.1)
process.carry_out('weather', ServiceSettings(), work())
"""
CANNOT_ANSWER = """
async def assemble(settings, host): pass
process.run('weather', ServiceSettings(listen=os.environ['URL']), assemble)
"""
CANNOT_BE_MEASURED = """
async def assemble(settings, host): pass
process.run('weather', ServiceSettings(metrics_listen=os.environ['URL']), assemble)
"""
CANNOT_SERVE = """
import asyncio
from services.gateway.main import Settings, serving
async def serve():
    host, port = os.environ['URL'].split(':')
    async with serving(None, Settings(host=host, port=port)): pass
process.carry_out('weather', ServiceSettings(), serve())
"""


HAS_A_WRONG_SETTING = """
class Settings(ServiceSettings):
    model_config = {"env_prefix": "RAPPORT_WEATHER_"}
os.environ['RAPPORT_WEATHER_GRACE_S'] = os.environ['URL']
read(Settings)
"""


def _said(code: str, url: str) -> dict[str, str]:
    """The only line of a process that cannot start; gRPC's core tells the cause of its own, beside the log."""
    code = f"import os\nfrom chassis import db, process\nfrom chassis.settings import ServiceSettings, read\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "URL": url})
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "add_port.cc" not in line] == []
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_process_without_its_database_says_so() -> None:
    said = _said(CANNOT_CONNECT, f"postgresql://role:secret@127.0.0.1:{free_port()}/rapport")
    assert said["reason"] == "DATABASE_UNAVAILABLE"


def test_a_setting_that_is_wrong_is_named_without_its_value() -> None:
    said = _said(HAS_A_WRONG_SETTING, "-7")
    assert said["setting"] == "RAPPORT_WEATHER_GRACE_S"
    assert said["detail"].endswith("greater than or equal to 0")
    assert "-7" not in json.dumps(said)


@pytest.mark.parametrize(
    ("code", "purpose"), [(CANNOT_ANSWER, "gRPC"), (CANNOT_BE_MEASURED, "metrics"), (CANNOT_SERVE, "HTTP")]
)
def test_a_process_whose_address_is_taken_says_which(code: str, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert _said(code, address)["detail"].startswith(f"{address} cannot be had for {purpose}: ")


def test_migrations_without_their_database_say_so_in_one_line() -> None:
    url = f"postgresql://rapport_owner:secret@127.0.0.1:{free_port()}/rapport"
    environment = {**os.environ, "RAPPORT_MIGRATE_URL": url}
    done = subprocess.run([sys.executable, "-m", "chassis.migrate"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("The migration failed, and nothing of it stands. The database at 127.0.0.1:")
    assert "secret" not in line
