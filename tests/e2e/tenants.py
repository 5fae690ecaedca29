"""Tenants beside the simulated shop's, made with the commands that an operator would use."""

import uuid
from dataclasses import dataclass

from tests.e2e.running import Running

SCOPES = ("read", "personal", "manage", "score", "answers", "models")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and a key of each kind; the private one may do everything."""

    name: str
    write_key: str
    private_key: str


def new_tenant(running: Running, *, clock: str = "wall") -> Tenant:
    """A fresh tenant."""
    name = f"t{uuid.uuid4().hex[:10]}"
    running.rapport("tenants", "create", name, "--clock", clock)
    return Tenant(name, new_key(running, name, kind="write"), new_key(running, name, *SCOPES))


def new_key(running: Running, tenant: str, *scopes: str, kind: str = "private") -> str:
    """The text of a fresh key."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    return running.rapport("keys", "create", tenant, "--kind", kind, *words).splitlines()[0]
