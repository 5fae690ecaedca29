"""`rapport tenants` and `rapport keys`, of the platform that runs on this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from chassis.errors import Error
from infra.failure import Refusal
from infra.ports import HOST
from infra.roles import DATABASE, role_of
from infra.state import State
from infra.topology import Ports
from services.gateway import usecases
from services.gateway.administer import describe, office
from services.gateway.domain import Kind, Scope
from services.gateway.store import KeyStore

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

Outcome = TypeVar("Outcome")

app = typer.Typer(add_completion=False)
tenants = typer.Typer(no_args_is_help=True, help="Make and list tenants.")
keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys.")
app.add_typer(tenants, name="tenants")
app.add_typer(keys, name="keys")

StateOption = Annotated[Path, typer.Option(help="The platform's state folder.")]
PortOption = Annotated[int, typer.Option(help="The gateway's port.")]
_STATE = Path(".rapport")
_PORT = 8080


@tenants.command("create")
def create_tenant(
    name: str,
    clock: Annotated[str, typer.Option(help="wall, or events: the newest event's time, for replayed history.")] = "wall",
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Make a tenant."""
    if clock not in ("wall", "events"):
        raise Refusal(f"There is no clock {clock!r}: it is wall or events.")
    created = _with_office(state, port, lambda store, profiles: usecases.create_tenant(store, profiles, name, clock))
    print(f"tenant {name}: " + ("created" if created else "was there already"))


@tenants.command("list")
def list_tenants(state: StateOption = _STATE, port: PortOption = _PORT) -> None:
    """List the tenants."""
    for name, clock, created in _with_office(state, port, lambda store, _: store.tenants()):
        print(f"{name}  clock {clock}  since {created:%Y-%m-%d}")


@keys.command("create")
def create_key(
    tenant: str,
    kind: Annotated[Kind, typer.Option(help="A write key can only send events; a private key stays on a server.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Of a private key; once for each. All but personal if none.")
    ] = None,
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Make a key. Its text is shown once."""
    key, text = _with_office(state, port, lambda store, _: usecases.create_key(store, tenant, kind, scope or ()))
    print(text)
    print(f"(shown once; its id is {key.key_id}, its scopes are {', '.join(sorted(key.scopes))})")


@keys.command("list")
def list_keys(tenant: Annotated[str, typer.Argument()] = "", state: StateOption = _STATE, port: PortOption = _PORT) -> None:
    """List a tenant's keys, or all."""
    for key in _with_office(state, port, lambda store, _: store.of_tenant(tenant)):
        print(describe(key))


@keys.command("revoke")
def revoke_key(key_id: str, state: StateOption = _STATE, port: PortOption = _PORT) -> None:
    """Revoke a key by its id. It is refused within five seconds."""
    revoked = _with_office(state, port, lambda store, _: store.revoke(key_id))
    print(f"key {key_id}: " + ("revoked" if revoked else "was revoked before"))


def _with_office(state: Path, port: int, work: "Callable[[KeyStore, ProfilesAsyncStub], Awaitable[Outcome]]") -> Outcome:
    """Does the work on the running platform. Raises Refusal where there is none, or where it says no."""
    database_url, ports = _database_url(state, port), Ports(port)

    async def carry_out() -> Outcome:
        async with office(database_url, ports.target("profiles")) as (store, profiles):
            return await work(store, profiles)

    try:
        return asyncio.run(carry_out())
    except Error as error:
        raise Refusal(f"{error.message[:1].upper()}{error.message[1:]}.") from None


def _database_url(state: Path, port: int) -> str:
    role, folder = role_of("gateway"), State(state.expanduser().resolve())
    if not (folder.secrets / role).exists():
        raise Refusal(
            f"There is no platform's state in {folder.root}: start it with make run, or name its folder with --state."
        )
    return f"postgresql://{role}:{folder.secret(role)}@{HOST}:{Ports(port).postgres}/{DATABASE}"
