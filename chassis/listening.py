"""Addresses to listen on."""

from collections.abc import Generator
from contextlib import contextmanager

from chassis.errors import CannotStart


@contextmanager
def listening(address: str, purpose: str) -> Generator[None]:
    """Around what binds `address` (host:port). Raises CannotStart, which names it, where it cannot be had."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
    except RuntimeError:  # gRPC keeps the cause for itself
        why = "another process holds it, or it is none of this machine's"
    else:
        return
    raise CannotStart(f"{address} cannot be had for {purpose}: {why}")
