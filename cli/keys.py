"""`rapport tenants` and `rapport keys`, of the platform that runs on this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
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
from services.gateway.administer import describe, office, shown
from services.gateway.domain import Key, Kind, Pace, Scope
from services.gateway.store import KeyStore

if TYPE_CHECKING:
    from rapport.profiles.v1.profiles_pb2_grpc import ProfilesAsyncStub

Outcome = TypeVar("Outcome")

app = typer.Typer(add_completion=False)
tenants = typer.Typer(no_args_is_help=True, help="Make and list tenants.")
keys = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke keys.")
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
    requests_per_s: Annotated[float | None, typer.Option(help="Most requests a second.")] = None,
    events_per_s: Annotated[float | None, typer.Option(help="Most events a second.")] = None,
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Make a key. Its text is shown once."""

    async def make(store: KeyStore, _: object) -> tuple[Key, str]:
        return await usecases.create_key(store, tenant, kind, scope or (), Pace(requests_per_s, events_per_s))

    print("\n".join(shown(*_with_office(state, port, make))))


@keys.command("rotate")
def rotate_key(
    key_id: str,
    overlap_hours: Annotated[float, typer.Option(help="How long the old key stays good.")] = 24.0,
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Make a new key that may do what the old one may; the old one stays good for a while."""
    overlap = timedelta(hours=overlap_hours)
    key, text, until = _with_office(state, port, lambda store, _: usecases.rotate_key(store, key_id, overlap))
    print("\n".join([*shown(key, text), f"key {key_id}: good until {until:%Y-%m-%d %H:%M:%S}Z"]))


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
