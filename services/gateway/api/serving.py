"""What endpoints are given."""

from typing import Annotated

from fastapi import Depends, Request

from services.gateway import clients
from services.gateway.api.admission import caller
from services.gateway.domain import Scope
from services.gateway.keyring import Caller


def _services(request: Request) -> clients.Services:
    return request.app.state.services


def _sees_personal(asking: Annotated[Caller, Depends(caller)]) -> bool:
    return Scope.PERSONAL in asking.scopes


Services = Annotated[clients.Services, Depends(_services)]
# Whether the key may see personal values.
SeesPersonal = Annotated[bool, Depends(_sees_personal)]
