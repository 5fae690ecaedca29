"""Who asks, and for whom: set once per call by the interceptors, read wherever it is needed."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from chassis.errors import InvalidArgument, Reason

TENANT_KEY = "rapport-tenant"
REQUEST_ID_KEY = "rapport-request-id"
ACTOR_KEY = "rapport-actor"


@dataclass(frozen=True, slots=True)
class Call:
    """What travels with a call as metadata."""

    tenant: str = ""
    request_id: str = ""
    # Key id of the caller, or the name of the service that acts by itself.
    actor: str = ""
    # On time.monotonic's clock; what is left of it is passed on.
    deadline: float | None = None
    # The present span, in W3C's words; empty where there are no traces.
    traceparent: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where there are no traces."""
        return self.traceparent[3:35]


_NOBODY = Call()
_call: ContextVar[Call] = ContextVar("call", default=_NOBODY)


def current() -> Call:
    """The present call."""
    return _call.get()


def tenant() -> str:
    """The tenant that the call is for. Raises InvalidArgument where there is none."""
    if not (name := _call.get().tenant):
        raise InvalidArgument("the call has no tenant", reason=Reason.MISSING_TENANT)
    return name


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
    call = replace(_call.get(), **{key: value for key, value in changes.items() if value is not None})
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)
