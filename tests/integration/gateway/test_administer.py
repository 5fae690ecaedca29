"""Tenants and keys by command, and the demonstration's."""

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from services.gateway.administer import ensure_demo, office
from services.gateway.domain import Scope, key_id_of
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Backstage, Gateway


async def administer(settings: Settings, *arguments: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "RAPPORT_GATEWAY_DATABASE_URL": settings.database_url,
        "RAPPORT_GATEWAY_PROFILES_TARGET": settings.profiles_target,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.gateway.administer",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


async def test_a_tenant_and_its_keys_are_made_listed_and_revoked(
    settings: Settings, gateway: Gateway, backstage: Backstage, name: str
) -> None:
    assert await administer(settings, "create-tenant", name, "--clock", "events") == (0, f"tenant {name}: created\n")
    assert await administer(settings, "create-tenant", name, "--clock", "events") == (0, f"tenant {name}: was there already\n")
    assert backstage.profiles.tenants[name] == 2
    code, output = await administer(settings, "create-tenant", name, "--clock", "wall")
    assert code == 2, output
    assert "clock 'events'" in output
    code, output = await administer(settings, "create-key", name, "--kind", "private", "--scopes", "read", "personal")
    text = output.splitlines()[0]
    key_id = key_id_of(text)
    assert code == 0
    assert key_id
    code, output = await administer(settings, "list-keys", name)
    assert "personal,read  good" in output
    assert text not in output
    assert await administer(settings, "revoke-key", key_id) == (0, f"key {key_id}: revoked\n")
    assert await administer(settings, "revoke-key", key_id) == (0, f"key {key_id}: was revoked before\n")
    assert "revoked 2" in (await administer(settings, "list-keys", name))[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create-tenant", "Bad Name"), "a tenant's name is"),
        (("create-key", "nobody-knows-it", "--kind", "write"), "there is no tenant 'nobody-knows-it'"),
        (("create-key", "demo", "--kind", "write", "--scopes", "read"), "a write key may only ingest"),
        (("revoke-key", "sk_000000000000"), "there is no key"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence(
    settings: Settings, gateway: Gateway, arguments: tuple[str, ...], sentence: str
) -> None:
    code, output = await administer(settings, *arguments)
    assert code == 2
    assert sentence in output
    assert len(output.splitlines()) == 1


async def test_the_demonstrations_keys_are_made_once_and_kept_from_others(
    settings: Settings, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "demo.json"
    made = await ensure_demo(settings.database_url, settings.profiles_target, path, tenant=name)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"tenant": name, "writeKey": made.write_key, "privateKey": made.private_key}
    assert await ensure_demo(settings.database_url, settings.profiles_target, path, tenant=name) == made
    async with office(settings.database_url, settings.profiles_target) as (store, _):
        assert len(await store.of_tenant(name)) == 2
        key = await store.find(key_id_of(made.private_key) or "")
        assert key
        assert key.scopes == set(Scope) - {Scope.INGEST}
        await store.revoke(key.key_id)
    fresh = await ensure_demo(settings.database_url, settings.profiles_target, path, tenant=name)
    assert fresh.private_key != made.private_key


async def test_a_key_is_marked_as_used_by_who_has_it_and_not_by_who_knows_its_id(
    settings: Settings, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    made = await ensure_demo(settings.database_url, settings.profiles_target, tmp_path / "demo.json", tenant=name)
    forged = made.write_key[:-4] + ("0000" if made.write_key[-4:] != "0000" else "1111")
    async with office(settings.database_url, settings.profiles_target) as (store, _):
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
            assert (await client.get("/v1/profiles", auth=(forged, ""))).status_code == 401
            assert {key.last_used for key in await store.of_tenant(name)} == {None}
            assert (await client.get("/v1/profiles", auth=(made.private_key, ""))).status_code == 200
        async with asyncio.timeout(5):
            used = dict[str, object]()
            while not used.get("private"):
                used = {key.kind.value: key.last_used for key in await store.of_tenant(name)}
    assert used["write"] is None
