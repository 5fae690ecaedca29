"""Tenants and keys from the command line: `python -m services.gateway.administer create-key shop --kind private`.

Reads RAPPORT_GATEWAY_DATABASE_URL and RAPPORT_GATEWAY_PROFILES_TARGET. A key's text is printed once, when it is made.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapport.profiles.v1 import profiles_pb2, profiles_pb2_grpc

from chassis import db, rpc
from chassis.errors import Error
from chassis.settings import ServiceSettings, prefix_of, read
from services.gateway import usecases
from services.gateway.domain import Key, Kind, Pace, Scope, is_good
from services.gateway.store import KeyStore
from services.gateway.usecases import DemoKeys

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub


class Settings(ServiceSettings):
    """Two of the gateway's own; its module would bring the whole API."""

    model_config = prefix_of("gateway")

    profiles_target: str = "127.0.0.1:8081"


@asynccontextmanager
async def office(database_url: str, profiles_target: str = "") -> AsyncGenerator[tuple[KeyStore, "ProfilesAsyncStub"]]:
    """What tenants and keys are made with. Raises Unavailable where the database does not answer."""
    database = await db.connect(database_url, connections=1, service="gateway.administer", patience_s=2.0, everyone=True)
    channel = rpc.channel("profiles", profiles_target, profiles_pb2.DESCRIPTOR)
    profiles: Any = profiles_pb2_grpc.ProfilesStub(channel)
    try:
        yield KeyStore(database), profiles
    finally:
        await channel.close()
        await database.close()


async def ensure_demo(database_url: str, profiles_target: str, path: Path, *, tenant: str = "demo") -> DemoKeys:
    """The demonstration's tenant and its two keys, made at the first call and kept in `path`."""
    async with office(database_url, profiles_target) as (store, profiles):
        return await usecases.ensure_demo_keys(store, profiles, path, tenant)


def describe(key: Key) -> str:
    """A key in one line."""
    used = f"last used {key.last_used}" if key.last_used else "never used"
    paces = ((key.pace.requests_per_s, "requests/s"), (key.pace.events_per_s, "events/s"))
    limits = "".join(f"  {value:g} {unit}" for value, unit in paces if value)
    return f"{key.key_id}  {key.tenant_id}  {key.kind.value}  {','.join(sorted(key.scopes))}  {_state(key)}  {used}{limits}"


def _state(key: Key) -> str:
    if key.revoked:
        return f"revoked {key.revoked:%Y-%m-%d %H:%M}Z"
    if key.expires:
        return ("good until" if is_good(key, at=datetime.now(UTC)) else "expired") + f" {key.expires:%Y-%m-%d %H:%M}Z"
    return "good"


def shown(key: Key, text: str) -> Sequence[str]:
    """The lines about a key that was just made."""
    return [text, f"(shown once; its id is {key.key_id}, its scopes are {', '.join(sorted(key.scopes))})"]


async def carry_out(arguments: argparse.Namespace, database_url: str, profiles_target: str) -> Sequence[str]:
    """The lines to print."""
    async with office(database_url, profiles_target) as (store, profiles):
        match arguments.command:
            case "create-tenant":
                created = await usecases.create_tenant(store, profiles, arguments.tenant, arguments.clock)
                return [f"tenant {arguments.tenant}: " + ("created" if created else "was there already")]
            case "create-key":
                pace = Pace(arguments.requests_per_s, arguments.events_per_s)
                return shown(*await usecases.create_key(store, arguments.tenant, Kind(arguments.kind), arguments.scopes, pace))
            case "rotate-key":
                overlap = timedelta(hours=arguments.overlap_hours)
                key, text, until = await usecases.rotate_key(store, arguments.key_id, overlap)
                return [*shown(key, text), f"key {arguments.key_id}: good until {until:%Y-%m-%d %H:%M:%S}Z"]
            case "revoke-key":
                revoked = await store.revoke(arguments.key_id)
                return [f"key {arguments.key_id}: " + ("revoked" if revoked else "was revoked before")]
            case _:
                return [describe(key) for key in await store.of_tenant(arguments.tenant)]


def parser() -> argparse.ArgumentParser:
    """The commands."""
    whole = argparse.ArgumentParser(prog="administer", description="Tenants and keys.")
    commands = whole.add_subparsers(dest="command", required=True)
    tenant = commands.add_parser("create-tenant")
    tenant.add_argument("tenant")
    tenant.add_argument("--clock", choices=("wall", "events"), default="wall")
    key = commands.add_parser("create-key")
    key.add_argument("tenant")
    key.add_argument("--kind", choices=[kind.value for kind in Kind], required=True)
    key.add_argument("--scopes", nargs="+", default=[], metavar="SCOPE", help=", ".join(Scope))
    key.add_argument("--requests-per-s", type=float, help="most requests a second, of all replicas together")
    key.add_argument("--events-per-s", type=float, help="most events a second, of all replicas together")
    rotate = commands.add_parser("rotate-key", help="a new key for an old one, which stays good for a while")
    rotate.add_argument("key_id")
    rotate.add_argument("--overlap-hours", type=float, default=24.0)
    revoke = commands.add_parser("revoke-key")
    revoke.add_argument("key_id")
    keys = commands.add_parser("list-keys")
    keys.add_argument("tenant", nargs="?", default="")
    return whole


def main() -> None:
    """Entry point. What is refused is one sentence and exit code 2."""
    arguments = parser().parse_args()
    settings = read(Settings)
    try:
        lines = asyncio.run(carry_out(arguments, settings.database_url, settings.profiles_target))
    except Error as error:
        sys.stderr.write(f"administer: {error.message}\n")
        sys.exit(2)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
