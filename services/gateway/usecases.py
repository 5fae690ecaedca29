"""Tenants and keys: made, listed, revoked. Triggered by the commands, and by the first start of a demonstration."""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rapport.profiles.v1 import profiles_pb2

from chassis import context
from services.gateway.domain import (
    ID_BYTES,
    SECRET_BYTES,
    Key,
    Kind,
    Pace,
    Scope,
    admits,
    check_overlap,
    check_tenant,
    digest_of,
    key_id_of,
    scopes_for,
    write_key_text,
)
from services.gateway.store import KeyStore

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

Clock = Literal["wall", "events"]
_CLOCKS = {"wall": profiles_pb2.CLOCK_KIND_WALL, "events": profiles_pb2.CLOCK_KIND_EVENTS}


@dataclass(frozen=True, slots=True)
class DemoKeys:
    """The texts of a demonstration's two keys."""

    write_key: str
    private_key: str


async def create_tenant(store: KeyStore, profiles: "ProfilesAsyncStub", tenant_id: str, clock: Clock) -> bool:
    """False: it was there already. Idempotent, so that a run that died between the two can be repeated."""
    check_tenant(tenant_id)
    created = await store.add_tenant(tenant_id, clock)
    with context.use(tenant=tenant_id, request_id=context.new_request_id(), actor="gateway.administer"):
        await profiles.CreateTenant(profiles_pb2.CreateTenantRequest(tenant_id=tenant_id, clock=_CLOCKS[clock]))
    return created


async def create_key(
    store: KeyStore, tenant_id: str, kind: Kind, scopes: Sequence[str] = (), pace: Pace | None = None
) -> tuple[Key, str]:
    """The key, and its text, which is kept nowhere else. Raises NotFound without such a tenant, InvalidArgument."""
    key, text = _new_key(tenant_id, kind, scopes_for(kind, scopes), pace or Pace())
    await store.add(key)
    return key, text


async def rotate_key(store: KeyStore, key_id: str, overlap: timedelta) -> tuple[Key, str, datetime]:
    """A new key that may do what the old one may, its text, and until when the old one is good.

    Raises NotFound where there is no good key with that id, InvalidArgument for an overlap that cannot be.
    """
    old = await store.get(key_id)
    key, text = _new_key(old.tenant_id, old.kind, old.scopes, old.pace)
    return key, text, await store.replace(key_id, key, until=key.created + check_overlap(overlap))


def _new_key(tenant_id: str, kind: Kind, scopes: frozenset[Scope], pace: Pace) -> tuple[Key, str]:
    text = write_key_text(kind, identity=secrets.token_bytes(ID_BYTES), secret=secrets.token_bytes(SECRET_BYTES))
    key = Key(
        key_id=key_id_of(text) or "",
        tenant_id=tenant_id,
        kind=kind,
        scopes=scopes,
        digest=digest_of(text),
        created=datetime.now(UTC),
        pace=pace,
    )
    return key, text


async def ensure_demo_keys(store: KeyStore, profiles: "ProfilesAsyncStub", path: Path, tenant_id: str) -> DemoKeys:
    """A tenant with the clock of its events, and its two keys in the file `path` (mode 0600): made once, recognised after.

    A key that is revoked, or that this database does not know, is replaced. The private key may do everything but ingest.
    """
    await create_tenant(store, profiles, tenant_id, "events")
    known = read_demo_keys(path)
    if known and await _is_good(store, known.write_key) and await _is_good(store, known.private_key):
        return known
    _, write_key = await create_key(store, tenant_id, Kind.WRITE)
    _, private_key = await create_key(store, tenant_id, Kind.PRIVATE, [scope for scope in Scope if scope is not Scope.INGEST])
    _write_private(path, {"tenant": tenant_id, "writeKey": write_key, "privateKey": private_key})
    return DemoKeys(write_key, private_key)


def read_demo_keys(path: Path) -> DemoKeys | None:
    """None where there is no such file."""
    try:
        content = json.loads(path.read_text())
        return DemoKeys(content["writeKey"], content["privateKey"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


async def _is_good(store: KeyStore, text: str) -> bool:
    key_id = key_id_of(text)
    return key_id is not None and admits(await store.find(key_id), text, at=datetime.now(UTC))


def _write_private(path: Path, content: dict[str, str]) -> None:
    """Whole or not at all, readable by its owner only."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
