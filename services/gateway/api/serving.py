"""What endpoints are given."""

import re
from typing import Annotated, Final

from fastapi import Depends, Request

from chassis.errors import InvalidArgument
from services.gateway import clients
from services.gateway.api.admission import caller
from services.gateway.domain import Scope
from services.gateway.gathering import Reads
from services.gateway.wire import REF, SLASH

_ref_pattern: Final = re.compile(REF)


# Coroutines, though none waits: for what is none, FastAPI asks another thread, which costs more than the call to a service.
async def _services(request: Request) -> clients.Services:
    return request.app.state.services


async def _reads(request: Request) -> Reads:
    return request.app.state.reads


async def _sees_personal(request: Request) -> bool:
    return Scope.PERSONAL in caller(request).scopes


Services = Annotated[clients.Services, Depends(_services)]
ReadsOf = Annotated[Reads, Depends(_reads)]
# Whether the key may see personal values.
SeesPersonal = Annotated[bool, Depends(_sees_personal)]


def ref_of(request: Request) -> str:
    """`{ref}` of a hot route's path. Raises InvalidArgument."""
    ref: str = request.path_params["ref"].replace(SLASH, "/")
    if len(ref) > 300 or not _ref_pattern.fullmatch(ref):
        raise InvalidArgument("a ref is a profile id, user_id:<id> or anonymous_id:<id>", field="ref")
    return ref
