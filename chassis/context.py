"""Who asks, and for whom: set once per call by the interceptors, read wherever it is needed."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from chassis.errors import InvalidArgument, Reason

TENANT_KEY = "rapport-tenant"
REQUEST_ID_KEY = "rapport-request-id"
ACTOR_KEY = "rapport-actor"

# In place of a tenant's name: work of the process itself, for all of them.
EVERYONE: Final = "*"
NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class Call:
    """What travels with a call as metadata."""

    tenant: str = ""
    request_id: str = ""
    # Key id of the caller, or the name of the service that acts by itself.
    actor: str = ""
    # Of no call from outside: those begin with a Call of their own.
    for_everyone: bool = False
    # On time.monotonic's clock; what is left of it is passed on.
    deadline: float | None = None
    # The present span, in W3C's words; empty where there are no traces.
    traceparent: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where there are no traces."""
        return self.traceparent[3:35]


_call: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039  (frozen)


def current() -> Call:
    """The present call."""
    return _call.get()


def tenant() -> str:
    """The tenant that the call is for. Raises InvalidArgument where there is none."""
    name = _call.get().tenant
    if not name or name == EVERYONE:
        raise InvalidArgument("the call has no tenant", reason=Reason.MISSING_TENANT)
    return name


def seen() -> str:
    """Whose rows the database shows: the call's tenant's, EVERYONE's, or NOBODY's. A tenant that calls itself "*" sees none."""
    call = _call.get()
    if call.tenant:
        return call.tenant if call.tenant != EVERYONE else NOBODY
    return EVERYONE if call.for_everyone else NOBODY


def new_request_id() -> str:
    """A fresh request id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def enter(call: Call) -> None:
    """Makes `call` the present one for the rest of this task."""
    _call.set(call)


@contextmanager
def use(*, tenant: str | None = None, request_id: str | None = None, actor: str | None = None) -> Generator[Call]:
    """The present call with some parts changed, inside a `with`."""
    changes = {"tenant": tenant, "request_id": request_id, "actor": actor}
    with _present(replace(_call.get(), **{key: value for key, value in changes.items() if value is not None})) as call:
        yield call


@contextmanager
def everyone() -> Generator[Call]:
    """Work of the process itself, inside a `with`: the rows of all tenants. `use(tenant=...)` within it narrows it to one."""
    with _present(replace(_call.get(), tenant="", for_everyone=True)) as call:
        yield call


@contextmanager
def _present(call: Call) -> Generator[Call]:
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)
