"""Whether this process lives, whether it can do its part, and what it is."""

from typing import Literal

from fastapi import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from services.gateway.api.admission import needs, router
from services.gateway.wire import Answer

routes = router("Health")


class Health(Answer):
    """What health says."""

    status: Literal["ok", "stopping"]


@routes.get("/health/live")
@needs(None)
async def get_liveness() -> Health:
    """The process answers."""
    return Health(status="ok")


@routes.get("/health/ready", responses={503: {"model": Health}})
@needs(None)
async def get_readiness(request: Request) -> Response:
    """Ready: assembled, and not stopping. A lost dependency is answered with 503 by the calls that need it."""
    if request.app.state.ready:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "stopping"}, status_code=503)


@routes.get("/openapi.json", include_in_schema=False)
@needs(None)
async def get_document(request: Request) -> Response:
    """What this API is."""
    return Response(request.app.state.document, media_type="application/json")


@routes.get("/", include_in_schema=False)
@needs(None)
async def open_console() -> Response:
    """People are led to the console."""
    return RedirectResponse("/console")
