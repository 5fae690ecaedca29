"""Where each page is."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from chassis.errors import NotFound, Reason
from services.gateway.console import customer, customers, overview
from services.gateway.console.assets import Assets
from services.gateway.console.door import Door, Endpoint
from services.gateway.console.pages import HEADERS, Pages, View, Visit
from services.gateway.console.sessions import Sessions
from services.gateway.domain import Scope

_READS: Final = ["GET"]
_ACTS: Final = ["POST"]


def router() -> APIRouter:
    """All pages, and what they are made of. Not part of the API's document: they are for people."""
    routes = APIRouter(prefix="/console", include_in_schema=False)
    assets = Assets()
    door = Door(Pages(assets), Sessions())

    def add(path: str, endpoint: Endpoint, methods: list[str]) -> None:
        routes.add_api_route(path, endpoint, methods=methods, response_model=None)

    async def static(request: Request) -> Response:
        return assets.answer(request) or Response(status_code=404, headers=dict(HEADERS))

    add("/static/{name:path}", static, _READS)
    add("/sign-in", door.open_to_all(door.show_sign_in), _READS)
    add("/sign-in", door.open_to_all(door.sign_in), _ACTS)
    add("/sign-in/provider", door.open_to_all(door.leave), _READS)
    add("/sign-in/callback", door.open_to_all(door.come_back), _READS)
    add("/sign-out", door.open_to_all(door.sign_out), _ACTS)
    add("", door.guarded(overview.show), _READS)
    add("/freshness", door.guarded(overview.show_freshness), _READS)
    add("/customers", door.guarded(customers.show), _READS)
    add("/customers/rows", door.guarded(customers.show_rows), _READS)
    add("/customers/find", door.guarded(customers.find), _ACTS)
    add("/customers/{ref}", door.guarded(customer.show), _READS)
    add("/customers/{ref}/events", door.guarded(customer.show_events), _READS)
    add("/customers/{ref}/segments/{key}", door.guarded(customer.explain), _READS)
    add("/customers/{ref}/reveal", door.guarded(customer.reveal, Scope.PERSONAL), _ACTS)
    add("/customers/{ref}/score", door.guarded(customer.score, Scope.SCORE), _ACTS)
    add("/{rest:path}", door.open_to_all(_nothing_here), _READS)
    return routes


async def _nothing_here(visit: Visit) -> View:
    raise NotFound(visit.words("trouble.no_page"), reason=Reason.ROUTE_NOT_FOUND)
